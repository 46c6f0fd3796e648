"""A link and a program copied from the page: another visitor gets the same text."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from watched import watched_page

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1)]
expect.set_options(timeout=20_000)


def test_a_copied_link_writes_the_same_text_for_another_visitor(browser, app_url: str) -> None:
    with watched_page(browser, app_url) as page:
        page.locator("#gen-max-new-tokens input[type=number]").fill("7")
        page.locator("#gen-prompt textarea").fill("The queen & her\n“fox”")
        page.locator("#gen-run").click()
        expect(page.locator("#gen-stats")).to_contain_text("7 of 7 tokens")
        expect(page.locator("#gen-run")).to_be_visible()
        text = page.locator("#gen-output textarea").input_value()
        page.locator("#copy-link").click()
        copied = page.locator("#page-note textarea")
        expect(copied).to_have_value(re.compile("^" + re.escape(app_url)))
        link = copied.input_value()
        expect(page).to_have_url(link)
        page.locator("#copy-python").click()
        expect(copied.first).to_have_value(re.compile("^import gpt"))
        page.locator("#presenter").click()
        expect(page.locator("#presenter")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".hint").first).to_be_hidden()
    with watched_page(browser, f"{link}&tab=internals&head=x") as page:
        expect(page.locator("#page-note")).to_contain_text("head: 'x' is no whole number")
        expect(page.locator("#int-prompt textarea")).to_have_value(
            f"The queen & her\n“fox”{text}", timeout=60_000
        )
        expect(page.locator("#gen-output textarea")).to_have_value(text)
