"""A teacher's 45 minutes, from a guess to a link, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page
from watched import WIDE, expect, settle, visit, watched_page

pytestmark = pytest.mark.browser
PROMPT = "The queen & her\n“fox”"
PHONE = {"width": 390, "height": 844}


def says(page: Page, place: str, text: str) -> None:
    expect(page.locator(place)).to_contain_text(re.compile(text))


def section(page: Page, key: str) -> None:
    """Opens a section of Internals by keyboard."""
    bar = page.locator(f"#int-section-{key} > button")
    if "open" not in (bar.get_attribute("class") or "").split():
        bar.press("Enter")
        settle(page)  # a radio that is pressed while it is drawn goes back to its first choice


def fits_a_phone(page: Page) -> None:
    wide = page.viewport_size
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size(wide)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desk", "phone"])
def test_a_lesson_from_the_first_guess_to_a_link_for_the_class(
    browser, browser_tab, app_url, size
) -> None:
    with visit(browser_tab, app_url, size) as page:
        page.locator("#gen-chips .chip").first.wait_for()
        page.locator("#gen-prompt textarea").fill(PROMPT)
        page.check("#gen-guess input")  # guess
        page.locator("#gen-next").click()
        page.fill("#gen-guess-form input", "dragon")
        page.keyboard.press("Enter")
        says(page, "#gen-panel", "Your guess “·dragon”")
        page.uncheck("#gen-guess input")
        for count in (2, 3):  # token and loop
            page.locator("#gen-next").press("Enter")
            expect(page.locator("#gen-chips .chip")).to_have_count(count)
            expect(page.locator("#gen-run")).to_be_visible()
        page.locator("#gen-chips .chip").nth(1).click()  # odds and draw
        says(page, "#gen-panel", "New token 1")
        expect(page.locator("#gen-panel .cumulative i")).to_have_count(1)
        text = page.locator("#gen-output textarea").input_value()
        fits_a_phone(page)
        u = float(re.search(r"u = (0\.\d{4})", page.inner_text("#gen-panel"))[1])
        page.click("#gen-why")
        # It was drawn anew, with another seed and temperature: no number was the panel's.
        says(page, "#int-choice", r"Draw 1 of seed .* that token is drawn")
        drawn = re.search(r"is u = (0\.\d{6})", page.inner_text("#int-choice"))[1]
        assert float(drawn) == pytest.approx(u, abs=6e-5)  # of four digits
        section(page, "ablation")  # what if
        says(page, "#int-abl", "with and without head 0 of layer 0")
        section(page, "lens")
        says(page, "#int-lens", "the model's own output")
        head = page.locator('#int-att-grid [data-at="1.2"]')  # attention
        head.press("Enter")
        says(page, "#int-att-words", "In layer 1, head 2,")
        section(page, "compare")  # untrained
        page.locator("#int-cmp-way").get_by_text("untrained").click()
        page.locator("#int-cmp-run").press("Enter")
        says(page, "#int-cmp", r"KL\(trained ‖ untrained\)")
        fits_a_phone(page)
        page.locator("#copy-link").click()  # link
        copied = page.locator("#page-note textarea")
        expect(copied).to_have_value(re.compile("^" + re.escape(app_url)))
        link = copied.input_value()
        expect(page).to_have_url(link)
        page.locator("#copy-python").click()
        expect(copied.first).to_have_value(re.compile("^import gpt"))
        page.locator("#presenter").click()
        expect(page.locator("#presenter")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".hint").first).to_be_hidden()
        look = "getComputedStyle(document.querySelector('.gradio-container'))"
        zoom = "1.35" if size == WIDE else "1"  # gradio had confined the rule to the inside
        assert page.evaluate(f"{look}.zoom") == zoom
        page.emulate_media(media="print")
        assert page.evaluate(f"{look}.getPropertyValue('--body-text-color')") == "#000000"
        page.emulate_media(media="screen")
        dark = "document.body.classList.contains('dark')"
        page.evaluate("document.body.classList.add('dark')")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert not page.evaluate(dark)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(dark)
    with watched_page(browser, f"{link}&seeds=x&precision=int2", size) as page:
        says(page, "#page-note", "precision: 'int2' is none of")
        says(page, "#int-att-words", "In layer 1, head 2,")
        says(page, "#int-lens", "the model's own output")
        expect(page.locator("#gen-output textarea")).to_have_value(text)
        expect(page.locator("#int-section-ablation > button")).to_have_class(re.compile("open"))


def test_after_a_link_whose_run_fails_the_next_text_leads_nowhere(browser_tab, app_url) -> None:
    """Its first token was clicked, and the link's tab was opened."""
    link = "?model=storyteller&prompt=A+fox&seed=1&tokens=3&position=2&steer=0:60000&tab=internals"
    with visit(browser_tab, app_url + link) as page:
        says(page, ".toast-body", "token id 60,000 is outside the vocabulary")
        page.locator("#gen-run").click()
        expect(page.locator("#gen-chips .chip")).to_have_count(3)
        expect(page.locator("#gen-run")).to_be_visible()
        page.wait_for_timeout(500)
        settle(page)
        expect(page.locator("#gen-run")).to_be_visible()
        expect(page.locator("#gen-panel [data-at]")).to_have_count(0)
