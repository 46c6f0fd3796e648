"""The Generation tab as a visitor meets it, by mouse, keyboard and finger, alone and not."""

import time
from dataclasses import replace

import pytest
from own_loop import running
from tiny_models import TINY, TinyRegistry, tiny_model
from watched import QUEUES, TWO_FRAMES, expect, settle, under_way, watched_page

import app
from gpt.serving.scheduler import scheduler_for
from gpt.ui.generation import tab

pytestmark = pytest.mark.browser

STEP_SECONDS = 0.25


def slow_model():
    """A model that needs two minutes for 500 tokens: a run that is stopped had not ended."""
    model = tiny_model(replace(TINY, vocab_size=50257, context_length=600, emb_dim=6))
    forward = model.forward

    def slow(*args, **kwargs):
        time.sleep(STEP_SECONDS)
        return forward(*args, **kwargs)

    model.forward = slow
    return model


@pytest.fixture(scope="module")
def registry():
    return TinyRegistry({"storyteller": slow_model(), "book-124M": slow_model()})


@pytest.fixture(scope="module")
def slow_url(registry):
    """The address of the real app over models that are slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Registry", lambda **_: registry)
        patch.setattr(tab, "OPENING", None)  # a slow one
        demo = app.build_demo()
    _, url, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    QUEUES.append(demo._queue)
    yield url
    demo.close()


@pytest.fixture(scope="module")
def shared_page(browser, slow_url):
    with watched_page(browser, slow_url, viewport={"width": 1280, "height": 800}) as tab:
        yield tab


@pytest.fixture
def slow_page(shared_page):
    """The shared page as a visitor finds it, but for what the test before wrote."""
    if shared_page.locator("#gen-stop").is_visible():
        shared_page.click("#gen-stop")
    settle(shared_page)
    shared_page.click("#gen-reset")
    settle(shared_page)
    area(shared_page, "gen-prompt").fill("Hello")
    expect(shared_page.locator("#gen-run")).to_be_visible()
    return shared_page


def area(page, name):
    return page.locator(f"#{name} textarea")


def chips(page):
    return page.locator("#gen-chips .chip")


def generate(page, tokens, seed=7):
    page.fill("#gen-max-new-tokens input[type=number]", str(tokens))
    if not page.locator("#gen-seed").is_visible():
        page.click("#gen-more > button")
    page.fill("#gen-seed input", str(seed))
    page.click("#gen-run")


def run_ended(page, tokens):
    expect(page.locator("#gen-stats")).to_contain_text(f"{tokens} of {tokens} tokens")
    expect(page.locator("#gen-run")).to_be_visible()
    expect(page.locator("#gen-stop")).to_be_hidden()
    settle(page)


def start_a_long_run(page):
    generate(page, 500)
    expect(page.locator("#gen-stop")).to_be_visible()
    expect(chips(page).first).to_be_visible()


def stop(page):
    page.click("#gen-stop")
    expect(page.locator("#gen-run")).to_be_visible()
    expect(page.locator("#gen-stop")).to_be_hidden()
    expect(page.locator("#gen-stats")).to_contain_text("stopped by you after")
    settle(page)


def until(met, seconds=120):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stop_and_a_mistake_leave_the_chips_on_the_first_screen_and_generate(slow_page):
    """The text began at y = 775 of 800, the chips at 1,065: most saw nothing happen. After
    Generate, Stop, top-k -5, Generate, the button Stop stayed, with nothing running.
    """
    start_a_long_run(slow_page)
    said = slow_page.locator("#page-said")  # what a screen reader announces: nothing told the end
    expect(said).not_to_contain_text("of 500 tokens")
    stop(slow_page)
    expect(said).to_contain_text("stopped by you after")
    told = int(slow_page.locator("#gen-stats").inner_text().split(" of ")[0])
    expect(chips(slow_page)).to_have_count(told)
    text = area(slow_page, "gen-output").input_value()
    shown = "".join(chips(slow_page).all_inner_texts())
    assert text.strip()[:3] in shown.replace("·", " ")
    slow_page.evaluate("scrollTo(0, 0)")
    assert slow_page.locator("#gen-tokens").bounding_box()["y"] < 670
    assert slow_page.locator("#gen-panel").bounding_box()["y"] < 760
    slow_page.fill("#gen-top-k input", "-5")
    slow_page.click("#gen-run")
    expect(slow_page.get_by_text("Top-k is -5: use a whole number")).to_be_visible()
    expect(slow_page.locator("#gen-run")).to_be_visible()
    expect(slow_page.locator("#gen-stop")).to_be_hidden()
    expect(chips(slow_page)).to_have_count(told)  # a mistake cleared the text
    slow_page.fill("#gen-top-k input", "0")
    slow_page.fill("#gen-max-new-tokens input[type=number]", "5")
    slow_page.click("#gen-run")
    run_ended(slow_page, 5)
    expect(chips(slow_page)).to_have_count(5)


def test_the_keyboard_alone_runs_stops_and_reads_the_chips_while_they_stream(slow_page):
    """Generate hid with the focus on it, and each chip was a Tab stop without its details."""
    slow_page.locator("#gen-model input").focus()
    expect(slow_page.get_by_role("listbox")).to_be_visible()
    slow_page.keyboard.press("Tab")
    expect(slow_page.get_by_role("listbox")).to_have_count(0)  # it stayed, over the prompt's label
    slow_page.fill("#gen-max-new-tokens input[type=number]", "500")
    slow_page.locator("#gen-run").focus()
    slow_page.keyboard.press("Enter")
    expect(slow_page.locator("#gen-stop")).to_be_focused()
    expect(chips(slow_page).nth(2)).to_be_visible()
    chips(slow_page).first.focus()
    slow_page.keyboard.press("ArrowRight")
    before = chips(slow_page).count()
    until(lambda: chips(slow_page).count() > before + 2)
    expect(chips(slow_page).nth(1)).to_be_focused()
    panel = slow_page.locator("#gen-panel")
    expect(panel).to_contain_text("New token 1")
    slow_page.locator("#gen-stop").focus()
    slow_page.keyboard.press("Enter")
    expect(slow_page.locator("#gen-run")).to_be_focused()
    expect(slow_page.locator("#gen-chips .chip[tabindex='0']")).to_have_count(1)
    chips(slow_page).first.focus()
    expect(panel).to_contain_text("New token 0")
    slow_page.keyboard.press("ArrowRight")
    slow_page.keyboard.press("ArrowRight")
    expect(chips(slow_page).nth(2)).to_be_focused()
    expect(panel).to_contain_text("New token 2")
    expect(panel.locator("#gen-use [data-token]").first).to_be_visible()
    slow_page.keyboard.press("Tab")
    expect(slow_page.locator("#gen-chips .chip:focus")).to_have_count(0)


def test_a_key_held_down_starts_one_run(slow_page, registry):
    """Four seconds of Shift + Enter queued fifteen runs, for everybody."""
    before = registry.borrowed
    slow_page.fill("#gen-max-new-tokens input[type=number]", "500")
    area(slow_page, "gen-prompt").focus()
    for _ in range(20):
        slow_page.keyboard.press("Shift+Enter")
    # On a slow machine a press was answered after Stop, and began a run of its own.
    until(lambda: slow_page.evaluate(TWO_FRAMES) or len(under_way(slow_page)) == 1)
    expect(chips(slow_page).first).to_be_visible()
    stop(slow_page)
    slow_page.fill("#gen-max-new-tokens input[type=number]", "3")
    slow_page.click("#gen-run")
    run_ended(slow_page, 3)
    assert registry.borrowed == before + 2


def test_two_visitors_write_at_once_and_who_stops_or_leaves_ends_only_the_own_run(
    slow_page, browser, slow_url, registry
):
    start_a_long_run(slow_page)
    with watched_page(browser, slow_url) as other:
        generate(other, 4)
        run_ended(other, 4)
        expect(slow_page.locator("#gen-stop")).to_be_visible()
        other.click("#gen-run")
        stop(slow_page)
        run_ended(other, 4)
        start_a_long_run(other)
        scheduler = scheduler_for(registry.models["storyteller"])
        assert running(scheduler) == 1
        other.close()
        until(lambda: running(scheduler) == 0)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_word_is_clicked_another_used_undone_stepped_and_asked_why(page, width):
    """The story that the first screen promises, by mouse and by keyboard."""
    page.set_viewport_size({"width": width, "height": 800})
    expect(chips(page)).to_have_count(120)  # the page opens with a finished run
    text, panel = area(page, "gen-output"), page.locator("#gen-panel")
    before = text.input_value()
    chips(page).nth(6).click()
    expect(panel).to_contain_text("New token 6")
    page.locator("#gen-use [data-token]").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#gen-stats")).to_contain_text("Steered: you chose 1 token")
    expect(page.locator("#gen-run")).to_be_visible()
    expect(text).not_to_have_value(before)
    after = text.input_value()
    assert after.split(" ")[:6] == before.split(" ")[:6]
    expect(chips(page).nth(6)).to_be_focused()  # the row that had the focus went with the press
    page.locator("#gen-use [data-token]").first.hover()  # its ring went to another row at a click
    expect(page.locator("#gen-use [data-token]").first).to_have_css("outline-style", "none")
    page.click("#gen-undo")
    expect(text).to_have_value(before)
    page.click("#gen-redo")
    expect(text).to_have_value(after)
    page.click("#gen-next")
    expect(chips(page)).to_have_count(121)
    expect(page.locator("#gen-run")).to_be_visible()
    chips(page).last.focus()
    settle(page)  # the focus chooses it: an answer that comes after the key's would show it again
    page.keyboard.press(" ")
    expect(chips(page)).to_have_count(122)
    expect(panel).to_contain_text("New token 121")
    expect(page.locator("#gen-chips .selected")).to_have_attribute("data-position", "121")
    page.click("#gen-back")
    expect(chips(page)).to_have_count(121)
    chips(page).nth(4).click()
    expect(panel).to_contain_text("New token 4")
    page.click("#gen-why")
    expect(page.locator("#int-chips .chip")).to_have_count(9 + 4 + 1)
    here = page.locator("#int-chips [aria-pressed=true]")
    expect(here).to_have_attribute("data-position", "12")
    expect(page.locator("#int-section-choice")).to_be_in_viewport()
    # Asked once more, it stayed where one had looked meanwhile.
    page.locator('#int-chips [data-position="2"]').click()
    expect(here).to_have_attribute("data-position", "2")
    page.get_by_role("tab", name="Generation").click()
    page.click("#gen-why")
    expect(here).to_have_attribute("data-position", "12")


def test_on_a_phone_a_finger_reads_chips_guesses_first_and_compares_versions(browser, slow_url):
    """On a phone there was no way to what else could have come: tooltips need a mouse."""
    phone = {"width": 390, "height": 844}
    with watched_page(browser, slow_url, viewport=phone, has_touch=True) as page:
        page.check("#gen-guess input")
        page.tap("#gen-next")
        page.fill("#gen-guess-form input", "dragon")
        page.keyboard.press("Enter")
        expect(page.locator("#gen-panel")).to_contain_text("Your guess “·dragon”")
        expect(chips(page)).to_have_count(1)
        settle(page)
        page.fill("#gen-max-new-tokens input[type=number]", "4")
        page.tap("#gen-versions")
        columns, legend = page.locator("#gen-columns section"), page.locator("#gen-columns + *")
        expect(columns).to_have_count(3)
        expect(columns.last).to_contain_text("4 tokens")
        settle(page)
        page.evaluate("gptPage.presenter()")
        expect(legend).to_be_visible()  # a projector showed colours without their meaning
        page.evaluate("gptPage.presenter()")
        expect(page.locator("#gen-count")).to_be_visible()
        page.locator("#gen-by input").tap()
        page.get_by_role("option", name="Training").tap()
        expect(page.locator("#gen-count")).to_be_hidden()  # they are two
        settle(page)
        page.locator("#gen-columns [data-column='1'] h3 button").tap()
        expect(chips(page)).to_have_count(4)
        settle(page)
        page.tap("#gen-run")
        run_ended(page, 4)
        page.evaluate("scrollTo(0, 0)")
        assert page.locator("#gen-tokens").bounding_box()["y"] < 670
        assert page.locator("#gen-panel").bounding_box()["y"] < 844
        chips(page).nth(3).tap()
        expect(page.locator("#gen-panel")).to_contain_text("New token 3")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.tap("#gen-why")
        expect(page.locator("#int-choice .bars").first).to_be_in_viewport()  # not its controls
