"""The first screen while it is drawn, and the tour, by keyboard, on a phone and on a desk."""

from __future__ import annotations

import pytest
from watched import MOVED, TWO_FRAMES, expect, visit

from gpt.ui.tour import CARDS

pytestmark = pytest.mark.browser

CUT = """(here) => {
  const {left, right, top} = here.getBoundingClientRect(), line = getComputedStyle(here);
  const around = parseFloat(line.outlineOffset) + parseFloat(line.outlineWidth) - 1;
  const cuts = [];
  for (let at = here.parentElement; at !== document.body; at = at.parentElement) {
    const box = at.getBoundingClientRect(), {overflowX, overflowY} = getComputedStyle(at);
    const beside = left - around < box.left || right + around > box.right;
    const above = overflowY === 'hidden' && top - around < box.top;
    if (above || (beside && overflowX !== 'visible')) cuts.push(at.className);
  }
  return cuts;
}"""


@pytest.fixture(scope="module")
def page(browser_tab, app_url):  # type: ignore[no-untyped-def]
    with visit(browser_tab, app_url, {"width": 390, "height": 844}) as opened:
        yield opened


def test_hardly_anything_moves_while_the_page_is_drawn(page) -> None:
    """Rows of buttons come late: the tabs moved down by 141 px on a phone, a shift of 0.68."""
    expect(page.locator("#gen-chips .chip").first).to_be_visible()
    page.evaluate(TWO_FRAMES)
    assert page.evaluate(MOVED) < 0.1


def test_the_tour_shows_ten_places_asks_three_questions_and_is_left(page) -> None:
    for width, press in ((390, lambda place: place.press("Enter")), (1280, lambda p: p.click())):
        page.set_viewport_size({"width": width, "height": 844})
        heat = page.locator("#gen-temperature input[type=number]")
        heat.fill("0.9")
        press(page.locator("#tour-start"))
        for card in CARDS:
            expect(page.locator(".tour-card:visible h2")).to_contain_text(card["title"])
            expect(page.locator(".tour-card:visible h2")).to_be_focused()
            expect(page.locator(".tour-here")).to_be_in_viewport()
            assert page.locator(".tour-here").evaluate(CUT) == []  # nothing was to be seen of three
            if "sets" in card:
                (selector, value), *_ = card["sets"].items()
                expect(page.locator(selector)).to_have_value(str(value))
            press(page.locator("#tour-next"))
        last = page.locator(".tour-card:visible")
        last.locator("input").first.fill("8")
        press(last.get_by_role("button", name="Check"))
        expect(last.locator(".said")).to_contain_text("Right: 8.")
        page.keyboard.press("Escape")
        expect(page.locator(".tour-card:visible")).to_have_count(0)
        expect(page.locator("#tour-start")).to_be_focused()
        expect(heat).to_have_value("0.9")  # it stayed at the tour's
    press(page.locator("#tour-start"))
    press(page.locator("#tour-next"))
    press(page.get_by_role("button", name="Leave"))
    expect(page.locator(".tour-card:visible")).to_have_count(0)
    expect(heat).to_have_value("0.9")
