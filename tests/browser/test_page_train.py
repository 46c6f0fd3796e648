"""The Train tab as a visitor uses it, with what it offers at first: stories, the small model."""

from __future__ import annotations

import re
import zipfile

import pytest
from playwright.sync_api import expect
from watched import visit

pytestmark = pytest.mark.browser
MINE = re.compile("^Yours, trained on stories")
BELOW = "below the guess by frequency alone"


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
    tab.wait_for_function(f"/{pattern}/.test({said})", timeout=120_000)
    return tab.inner_text("#train-progress")


def test_a_model_is_trained_writes_is_looked_into_compared_shared_and_taken_along(page, tmp_path):
    opened(page)
    expect(page.locator("#train-loss")).to_contain_text("floor of this text")
    page.click("#train-step")
    until(page, "Paused.* step 1 of")
    page.get_by_text("What happens in one step").click()
    expect(page.locator("#train-peek tbody tr")).to_have_count(16)
    page.click("#train-pause")  # goes on
    expect(page.locator("#train-loss")).to_contain_text(BELOW + " (", timeout=120_000)
    page.click("#train-pause")
    paused = until(page, "Paused").split(" · ")[0]
    page.click("#train-pause")
    assert until(page, "Training").split(" · ")[0] != paused
    page.click("#train-stop")
    until(page, "Stopped; the model is kept")
    assert page.inner_text("#train-sample .train-text").startswith("Once upon a time")
    chip = page.locator("#train-line .chip").nth(1)
    chip.click()  # its numbers stayed away: the chips' script had lost the panel's name
    expect(page.locator("#train-line-panel p")).to_have_text(chip.get_attribute("title"))
    expect(page.locator("#train-write")).to_be_enabled()

    with page.expect_download() as download:
        page.click("#train-download")
    download.value.save_as(tmp_path / "model.zip")
    zipfile.ZipFile(tmp_path / "model.zip").extractall(tmp_path)
    page.click("#train-write")
    expect(page.locator("#gen-model input")).to_have_value(MINE)
    page.click("#gen-run")
    expect(page.locator("#gen-stats")).to_contain_text("tokens")

    opened(page)
    page.click("#train-early")
    expect(page.locator("#int-model input")).to_have_value(MINE)
    expect(page.get_by_label("this prompt, the model early in its training")).to_be_checked()
    expect(page.locator("#int-chips .chip").first).to_be_visible()
    page.click("#int-cmp-run")
    expect(page.locator("#int-cmp")).to_contain_text("KL(at the end ‖ early)")

    opened(page)
    page.click("#train-share")
    link = page.locator("#page-note textarea")
    expect(link).to_have_value(re.compile("tab=train&train-steps="))
    steps = link.input_value().split("train-steps=")[1]
    with visit(page, link.input_value()) as other:
        other.get_by_text("The model and its training, in numbers").click()
        expect(other.locator("#train-steps input")).to_have_value(steps)
        expect(other.locator("#train-estimate")).to_contain_text("times through the text")

    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "trained-gpt/huggingface")
    assert model.config.n_ctx == 64


def test_on_a_phone_a_text_that_is_too_short_is_a_line_and_the_next_run_learns(
    browser_tab, app_url
):
    with visit(browser_tab, app_url, viewport={"width": 390, "height": 800}) as phone:
        opened(phone)
        phone.get_by_label("My own text").check()
        phone.fill("#train-pasted textarea", "too short")
        phone.click("#train-run")
        toast = phone.locator(".toast-body")
        expect(toast).to_contain_text("a context of 64 needs 129: use more text")
        expect(phone.locator("#train-run")).to_be_enabled()
        phone.get_by_label("Stories from a small grammar").check()
        phone.click("#train-run")
        expect(phone.locator("#train-loss")).to_contain_text(BELOW + " (", timeout=120_000)
        phone.click("#train-stop")
        until(phone, "Stopped; the model is kept")
        expect(phone.locator("#train-write")).to_be_enabled()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
