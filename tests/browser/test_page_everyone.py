"""Every tab for everyone: axe-core finds nothing, by mouse, by finger and by screen reader."""

from __future__ import annotations

from contextlib import suppress

import pytest
from playwright.sync_api import Page, TimeoutError, expect
from watched import TWO_FRAMES, WIDE, settle, visit

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.browser
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Hundreds of alike, and pictures with a name. Taken out: axe reads what it is told to leave out.
THIN = """() => document.querySelectorAll(
  'tr:not([class]):nth-child(n+8), .chips > :nth-child(n+16), .main-svg > *'
).forEach((each) => each.remove())"""
# The tab's panel gets a name for axe, which reads hidden panels too if it has to read the page.
SHOWN = """() => {
  for (const panel of document.querySelectorAll('[role=tabpanel]'))
    panel.id = panel.checkVisibility() ? 'shown' : '';
}"""
OPEN = """() => {
  const closed = [...document.querySelectorAll('.label-wrap:not(.open)')];
  const seen = closed.filter((button) => button.checkVisibility());
  seen.forEach((button) => button.click());
  return seen.length;
}"""
# An input within a label is as large as the label; text links are as high as their line.
SMALL = """() => [...document.querySelectorAll('button, input, select, textarea, a.csv')]
  .filter((each) => each.checkVisibility() && !each.closest('[aria-hidden=true]'))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([_, {width, height}]) => width > 2 && height > 2 && Math.min(width, height) < 23.5)
  .map(([each]) => each.outerHTML.slice(0, 120))"""
UNTOLD = """() => [
  ...[...document.querySelectorAll('.label-wrap')].filter((button) =>
    button.getAttribute('aria-expanded') !== String(button.classList.contains('open')) ||
    button.previousElementSibling?.getAttribute('role') !== 'heading'),
  ...document.querySelectorAll('.js-plotly-plot:not([role=img][aria-label])'),
].map((each) => each.outerHTML.slice(0, 120))"""


def axe_faults(page: Page, rules: list[str], within: str | None = None) -> list[str]:
    options = {"resultTypes": ["violations"], "runOnly": rules}
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in axe.Axe().run(page, within, options).response["violations"]
        for node in rule["nodes"]
    ]


def test_no_tab_shuts_anybody_out(browser_tab, app_url: str) -> None:
    """34 to 108 contrast faults a tab, no heading below the first, plots without a name."""
    browser_tab.emulate_media(reduced_motion="reduce")
    with visit(browser_tab, f"{app_url}?__theme=light") as page:
        page.add_style_tag(content="* { transition: none !important; }")  # no colour between two
        page.locator("#gen-max-new-tokens input[type=number]").fill("8")
        page.locator("#gen-run").click()
        page.wait_for_selector("#gen-stop:visible")
        page.wait_for_selector("#gen-run:visible")
        settle(page)
        found = {"the page": axe_faults(page, RULES)}
        for tab in page.get_by_role("tab").all():
            tab.click()
            settle(page)
            while page.evaluate(OPEN):
                settle(page)
            with suppress(TimeoutError):  # page.js names things a moment later
                page.wait_for_function(f"() => ({UNTOLD})().length == 0", timeout=10_000)
            name = tab.inner_text()
            found[name] = page.evaluate(SMALL) + page.evaluate(UNTOLD)
            page.evaluate(THIN)
            page.evaluate(SHOWN)
            found[name] += axe_faults(page, RULES, "#shown")
            page.evaluate("document.body.classList.add('dark')")
            found[f"{name}, dark"] = axe_faults(page, ["color-contrast"], "#shown")
            page.evaluate("document.body.classList.remove('dark')")
        assert "\n".join(f"{state}: {line}" for state in found for line in found[state]) == ""
    browser_tab.emulate_media(reduced_motion="no-preference")


@pytest.mark.parametrize("viewport", [WIDE, {"width": 390, "height": 844}])
def test_hardly_anything_moves_while_the_page_is_drawn(browser, app_url, viewport) -> None:
    """Rows of buttons come late: the tabs moved down by 141 px on a phone, a shift of 0.68."""
    context = browser.new_context(viewport=viewport)
    page = context.new_page()
    page.add_init_script("""window.moved = 0;
      new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
        if (!entry.hadRecentInput) window.moved += entry.value;
      })).observe({type: 'layout-shift', buffered: true});""")
    page.goto(app_url)
    expect(page.locator("#gen-chips .chip").first).to_be_visible()
    page.evaluate(TWO_FRAMES)
    assert page.evaluate("window.moved") < 0.1
    context.close()
