"""The tour from its start to its end, by keyboard, on a desk and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from gpt.ui.tour import CARDS

pytestmark = pytest.mark.browser


def test_the_tour_shows_ten_places_asks_three_questions_and_is_left(page) -> None:
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.locator("#tour-start").press("Enter")
        for card in CARDS:
            expect(page.locator(".tour-card:visible h2")).to_contain_text(card.title)
            expect(page.locator(".tour-card:visible h2")).to_be_focused()
            expect(page.locator(".tour-here")).to_be_in_viewport()
            if card.sets:
                (selector, value), *_ = card.sets.items()
                expect(page.locator(selector)).to_have_value(str(value))
            page.locator("#tour-next").press("Enter")
        last = page.locator(".tour-card:visible")
        last.locator("input").first.fill("8")
        last.get_by_role("button", name="Check").press("Enter")
        expect(last.locator(".said")).to_contain_text("Right: 8.")
        page.keyboard.press("Escape")
        expect(page.locator(".tour-card:visible")).to_have_count(0)
        expect(page.locator("#tour-start")).to_be_focused()
