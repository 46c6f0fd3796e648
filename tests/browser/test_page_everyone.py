"""Every tab for everyone; Internals, whose sections take longest to open, in its own file."""

from __future__ import annotations

import re

import pytest
from shut_out import faults_around_the_tabs, faults_of_the_tab, unreached
from watched import MOVED, TWO_FRAMES, WIDE, settle, visit

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}


def test_no_tab_shuts_anybody_out(browser_tab, app_url: str) -> None:
    """34 to 108 contrast faults a tab, no heading below the first, plots without a name."""
    with visit(browser_tab, f"{app_url}?__theme=light") as page:
        page.wait_for_selector("#gen-chips .chip")
        page.evaluate(TWO_FRAMES)
        assert page.evaluate(MOVED) < 0.1
        page.locator("#gen-max-new-tokens input[type=number]").fill("8")
        page.locator("#gen-run").click()
        page.wait_for_selector("#gen-stop:visible")
        page.wait_for_selector("#gen-run:visible")
        page.locator("#gen-chips .chip").first.click()
        page.wait_for_selector("#gen-use [data-token]")
        page.locator("#gen-versions").press("Enter")
        page.wait_for_selector("#gen-columns h3 button")
        page.wait_for_selector("#gen-run:visible")
        settle(page)
        found = faults_around_the_tabs(page)
        for name in ("Generation", "Architecture", "Train"):
            page.get_by_role("tab", name=name).click()
            settle(page)
            sheets = re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))
            assert 1 <= len(sheets) <= 2, name  # printed as it opens
            page.set_viewport_size(PHONE)
            found += [f"{name} at 390 px: {line}" for line in unreached(page)]
            page.set_viewport_size(WIDE)
            found += [f"{name}: {line}" for line in faults_of_the_tab(page)]
        assert "\n".join(found) == ""
