"""The Train tab as a visitor uses it, on a screen and on a phone: stories in characters."""

import math
import os
import re
import zipfile

import pytest
from watched import expect, settle, visit

from gpt.ui.parts.numbers import significant

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 800}
SMALLER = "?tab=train&train-width=64&train-context=32"
MINE = re.compile("^Yours, trained on stories")
BELOW = "below the guess by frequency alone ("
SECONDS = int(os.environ.get("TRAIN_SECONDS", "0"))  # at least; 20 take the others' cores too long


def opened(tab):
    """The Train tab."""
    if tab.get_by_role("tab", name="Train").is_visible():
        tab.get_by_role("tab", name="Train").click()
    else:  # on a phone it is in the menu
        tab.get_by_label("More tabs").click()
        tab.locator(".overflow-dropdown button", has_text="Train").click()


def until(tab, pattern):
    """Waits for the line of progress, which is returned, to match."""
    said = "document.querySelector('#train-progress').textContent"
    tab.wait_for_function(f"/{pattern}/.test({said})")
    return tab.inner_text("#train-progress")


def train_below_the_baseline(tab):
    expect(tab.locator("#train-loss")).to_contain_text(BELOW)
    passed = "parseFloat(document.querySelector('#train-progress').textContent.split(' · ')[1])"
    tab.wait_for_function(f"{passed} >= {SECONDS}")


def pause_go_on_and_stop(tab):
    tab.click("#train-pause")
    paused = until(tab, "Paused").split(" · ")[0]
    tab.click("#train-pause")
    assert until(tab, "Training").split(" · ")[0] != paused
    tab.click("#train-stop")
    until(tab, "Stopped; the model is kept")


def take_along(tab, folder):
    """Downloads the zip, whose model transformers reads."""
    with tab.expect_download() as download:
        tab.click("#train-download")
    download.value.save_as(folder / "model.zip")
    zipfile.ZipFile(folder / "model.zip").extractall(folder)
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel.from_pretrained(folder / "trained-gpt/huggingface")
    assert model.config.n_ctx == 32


def write_with_it(tab):
    tab.click("#train-write")
    expect(tab.locator("#gen-model input")).to_have_value(MINE)
    expect(tab.locator("#gen-stats")).to_contain_text("your trained model")


def look_inside(tab):
    tab.click("#train-inside")
    expect(tab.locator("#int-model input")).to_have_value(MINE)
    expect(tab.locator("#int-chips .chip").first).to_be_visible()


def test_a_model_is_trained_paused_stopped_taken_along_writes_and_is_looked_into(
    browser_tab, app_url, tmp_path
):
    with visit(browser_tab, app_url + SMALLER) as page:
        expect(page.locator("#train-loss")).to_contain_text("floor of this text")
        page.click("#train-step")
        steps = re.search(r"step 1 of ([\d,]+)", until(page, "Paused.* step 1 of"))[1]
        # The estimate still told the steps of a guess, ten times as many.
        counted = f"are about {significant(int(steps.replace(',', '')), 2)} steps"
        expect(page.locator("#train-estimate")).to_contain_text(counted)
        expect(page.locator("#train-peek tbody tr")).to_have_count(16)
        page.click("#train-pause")  # goes on
        # One could be pressed while a run went on, and nothing happened.
        expect(page.get_by_role("button", name="The same seed twice")).to_be_disabled()
        # A text that cannot be trained is told; the run goes on with the text that it has.
        page.get_by_label("My own text").check()
        page.fill("#train-pasted textarea", "too short")
        page.locator("#train-pasted textarea").blur()
        expect(page.locator("#train-text-problem")).to_contain_text("a context of")
        expect(page.locator("#train-estimate")).to_be_hidden()  # said it once more, above a gap
        fold = page.locator("#train-estimate ~ .gr-accordion > button")
        fold.click()  # what is wrong may be one of these numbers, far below the text's box
        expect(page.locator("#train-estimate")).to_contain_text("a context of")
        expect(page.locator("#train-estimate")).to_be_visible()
        fold.click()
        train_below_the_baseline(page)
        pause_go_on_and_stop(page)
        assert page.inner_text("#train-sample .train-text").startswith("Once upon a time")
        expect(page.get_by_role("button", name="The same seed twice")).to_be_enabled()
        page.get_by_label("Stories from a small grammar").check()
        chip = page.locator("#train-line .chip").nth(1)
        chip.click()  # its numbers stayed away: the chips' script had lost the panel's name
        expect(page.locator("#train-line-panel p")).to_have_text(chip.get_attribute("title"))

        page.click("#train-step")  # a teacher lost the trained model by it
        expect(page.locator("#train-peek")).to_contain_text("press it once more to begin")
        take_along(page, tmp_path)
        write_with_it(page)
        opened(page)
        look_inside(page)
        opened(page)
        page.click("#train-early")
        expect(page.get_by_label("this prompt, the model early in its training")).to_be_checked()
        expect(page.locator("#int-cmp")).to_contain_text("KL(at the end ‖ at step ")


def test_on_a_phone_what_cannot_be_trained_is_a_line_and_the_rest_is_as_on_a_screen(
    browser_tab, app_url, tmp_path, monkeypatch
):
    """What was good before a run diverged is kept. Whether a rate of 10 does so is the processor's
    rounding: on one with AVX-512 it stays finite.
    """
    with visit(browser_tab, app_url + SMALLER + "&train-steps=9000", PHONE) as phone:
        phone.get_by_label("My own text").check()
        said = phone.locator(".toast-body")
        for text, line in (
            ("", "your text is empty: paste some text"),
            ("too short", "tokens to learn from and a context of"),
        ):
            phone.fill("#train-pasted textarea", text)
            phone.click("#train-run")
            expect(said.last).to_contain_text(line)
            expect(phone.locator("#train-run")).to_be_enabled()
            # It still said "Reading the text …".
            expect(phone.locator("#train-progress")).to_contain_text("Press Train")
        bad = {"name": "mine.txt", "mimeType": "text/plain", "buffer": b"caf\xe9 " * 99}
        phone.locator("#train-file input[type=file]").set_input_files(bad)
        expect(phone.locator("#train-estimate")).to_contain_text("mine.txt is no UTF-8 text")
        below = phone.locator("#train-file + #train-text-problem")  # it stood two screens down
        expect(below).to_contain_text("mine.txt is no UTF-8 text")
        phone.click("#train-run")
        expect(said.last).to_contain_text("save it as UTF-8")
        settle(phone)  # a press beside one that has not ended is none

        # It compared with the floor of the stories.
        expect(phone.locator("#train-loss .train-curve")).to_have_count(0)

        phone.get_by_label("Stories from a small grammar").check()
        settle(phone)  # what is typed beside an event may be overwritten
        phone.get_by_text("The model and its training, in numbers").click()
        expect(phone.locator("#train-steps input")).to_have_value("9000")
        expect(phone.locator("#train-estimate")).to_contain_text("times through the text")
        settle(phone)
        phone.click("#train-run")
        train_below_the_baseline(phone)
        pause_go_on_and_stop(phone)
        assert phone.inner_text("#train-sample .train-text").startswith("Once upon a time")
        assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        phone.click("#train-share")
        expect(phone.locator("#page-note .note")).to_be_in_viewport()  # it is far above
        link = phone.locator("#page-note textarea")
        expect(link).to_have_value(re.compile("tab=train&.*train-steps=9000"))
        take_along(phone, tmp_path)
        write_with_it(phone)
        opened(phone)
        look_inside(phone)

        opened(phone)
        phone.fill("#train-width input", "128")
        settle(phone)
        phone.fill("#train-rate input", "10")
        settle(phone)
        monkeypatch.setattr("gpt.training.trainer.learning_rate", lambda *_: math.inf)
        phone.click("#train-run")
        ended = until(phone, "not finite")
        assert re.search(r"it stopped, and the weights of step \d+ are kept. Use a lower", ended)
        expect(phone.locator("#train-write")).to_be_enabled()
