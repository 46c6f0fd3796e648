"""The Generation tab as a visitor meets it."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def area(page, name):
    return page.locator(f"#{name} textarea")


def choose_model(page, label):
    page.click("#gen-model input")
    page.get_by_role("option", name=label).first.click()


def start_a_long_run(page):
    """Of a model that needs seconds for it: the bundled one's would be over before a click."""
    choose_model(page, re.compile("book's 124M"))
    page.fill("#gen-max-new-tokens input[type=number]", "500")
    page.click("#gen-run")
    expect(page.locator("#gen-stats")).to_contain_text("of 500 tokens", timeout=120_000)


def test_the_books_example_writes_the_books_nonsense(page):
    page.get_by_role("button", name="The book's untrained model").click()
    expect(area(page, "gen-output")).to_have_value(
        " Featureiman Byeswickattribute argue", timeout=120_000
    )
    expect(page.locator("#gen-stats")).to_contain_text("6 of 6 tokens")
    expect(page.locator("#gen-model-note")).to_contain_text("These weights are random")
    expect(page.locator("#gen-tokens .chip")).to_have_count(6)
    expect(page.locator("#gen-run")).to_be_visible()


def test_the_same_seed_writes_the_same_text_again(page):
    page.fill("#gen-seed input", "5")
    page.fill("#gen-max-new-tokens input[type=number]", "12")
    texts = []
    for _ in range(2):
        page.click("#gen-run")
        expect(page.locator("#gen-stats")).to_contain_text("12 of 12 tokens", timeout=120_000)
        expect(page.locator("#gen-run")).to_be_visible()
        texts.append(area(page, "gen-output").input_value())
    assert texts[0] == texts[1] != ""


def test_stop_ends_the_run_and_the_next_is_clean(page):
    start_a_long_run(page)
    page.click("#gen-stop")
    expect(page.locator("#gen-run")).to_be_visible()
    expect(page.locator("#gen-stop")).to_be_hidden()
    stopped = area(page, "gen-output").input_value()
    assert stopped
    expect(page.locator("#gen-tokens .chip").first).to_be_visible()
    told = page.locator("#gen-stats").inner_text().split(" of ")[0]
    expect(page.locator("#gen-tokens .chip")).to_have_count(int(told))
    page.get_by_role("button", name="The book's untrained model").click()
    expect(area(page, "gen-output")).to_have_value(
        " Featureiman Byeswickattribute argue", timeout=120_000
    )


def test_stop_never_covers_what_was_written_with_error(page):
    """When the cancel's answer came before the run's end, the page took that end for an error."""

    def answer_first(route):
        route.fulfill(json={"success": True})
        page.request.post(route.request.url, data=route.request.post_data_json)

    page.route("**/cancel", answer_first)
    for _ in range(3):
        start_a_long_run(page)
        page.click("#gen-stop")
        expect(page.get_by_text("Stopped: what was written stays.")).to_be_visible()
        page.wait_for_timeout(500)
        assert "Error" not in page.locator("#gen-stats").inner_text()
        assert page.locator("#gen-output .error").count() == 0


def test_a_run_started_right_after_stop_can_be_stopped_too(page):
    """The late end of the stopped run took the next run's Stop button away."""
    start_a_long_run(page)
    page.click("#gen-stop")
    page.click("#gen-run")
    page.wait_for_timeout(1000)
    expect(page.locator("#gen-stop")).to_be_visible()
    page.click("#gen-stop")
    expect(page.get_by_text("Stopped: what was written stays.")).to_be_visible()
    page.wait_for_timeout(1000)
    stopped = area(page, "gen-output").input_value()
    page.wait_for_timeout(1000)
    assert area(page, "gen-output").input_value() == stopped


def test_a_mistake_after_a_stopped_run_gives_the_button_back(page):
    start_a_long_run(page)
    page.click("#gen-stop")
    area(page, "gen-prompt").fill("")
    page.click("#gen-run")
    expect(page.get_by_text("The prompt is empty: write at least one character.")).to_be_visible()
    expect(page.locator("#gen-run")).to_be_visible()
    expect(page.locator("#gen-stop")).to_be_hidden()


def test_stop_does_not_start_the_untrained_twin(page):
    page.check("#gen-untrained input")
    start_a_long_run(page)
    page.click("#gen-stop")
    expect(page.locator("#gen-run")).to_be_visible()
    page.wait_for_timeout(1500)
    assert area(page, "gen-untrained-output").input_value() == ""


def test_stop_in_the_queue_starts_no_untrained_twin(page, browser, app_url):
    """A run stopped before its turn had left no trace, and its end counted as a success."""
    other = browser.new_page()
    other.goto(app_url)
    start_a_long_run(other)
    page.check("#gen-untrained input")
    page.click("#gen-run")
    page.wait_for_timeout(500)  # until it is in the queue
    page.click("#gen-stop")
    expect(page.locator("#gen-run")).to_be_visible()
    other.click("#gen-stop")
    page.wait_for_timeout(2500)
    assert area(page, "gen-untrained-output").input_value() == ""
    assert area(page, "gen-output").input_value() == ""
    other.close()


def test_stop_ends_nobody_elses_run(page, browser, app_url):
    other = browser.new_page()
    other.goto(app_url)
    choose_model(page, re.compile("book's 124M"))
    for tab, tokens in ((page, "500"), (other, "20")):
        tab.fill("#gen-max-new-tokens input[type=number]", tokens)
        tab.fill("#gen-seed input", "1")
        tab.click("#gen-run")
        expect(tab.locator("#gen-stop")).to_be_visible()
    expect(page.locator("#gen-stats")).to_contain_text("of 500 tokens", timeout=120_000)
    page.click("#gen-stop")
    expect(other.locator("#gen-stats")).to_contain_text("of 20 tokens", timeout=120_000)
    expect(other.locator("#gen-run")).to_be_visible(timeout=120_000)
    other.close()


def test_an_empty_prompt_is_one_clear_line(page):
    area(page, "gen-prompt").fill("")
    page.click("#gen-run")
    expect(page.get_by_text("The prompt is empty: write at least one character.")).to_be_visible()
    expect(page.locator("#gen-run")).to_be_visible()


def test_markup_and_other_scripts_show_as_text(page):
    area(page, "gen-prompt").fill("<img src=x onerror=alert(1)> 🙂 \u202eשלום")
    page.fill("#gen-max-new-tokens input[type=number]", "3")
    page.click("#gen-run")
    expect(page.locator("#gen-stats")).to_contain_text("of 3 tokens", timeout=120_000)
    assert page.locator("#gen-tokens img").count() == 0


def test_the_untrained_twin_writes_beside_the_model(page):
    page.check("#gen-untrained input")
    page.fill("#gen-max-new-tokens input[type=number]", "5")
    page.click("#gen-run")
    expect(area(page, "gen-untrained-output")).not_to_have_value("", timeout=120_000)
    expect(page.locator("#gen-run")).to_be_visible(timeout=120_000)


def test_a_phone_scrolls_only_downwards(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#gen-run")).to_be_in_viewport()
