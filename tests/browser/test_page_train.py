"""The Train tab as a visitor uses it, with a model and a run that take a second."""

from __future__ import annotations

import zipfile

import pytest
from playwright.sync_api import expect
from watched import visit

pytestmark = pytest.mark.browser
TINY = {"layers": 1, "width": 16, "heads": 2, "context": 16, "batch": 2, "steps": 100_000}
PROGRESS = "document.querySelector('#train-progress').textContent"


def opened(tab, **numbers):
    """The tab with a tiny model chosen."""
    if tab.get_by_role("tab", name="Train").is_visible():
        tab.get_by_role("tab", name="Train").click()
    else:  # on a phone it is in the menu
        tab.get_by_label("More tabs").click()
        tab.locator(".overflow-dropdown button", has_text="Train").click()
    tab.get_by_text("The model and its training, in numbers").click()
    for name, value in {**TINY, **numbers}.items():
        tab.fill(f"#train-{name} input", str(value))
        tab.press(f"#train-{name} input", "Tab")
    tab.wait_for_selector("#train-size input[value=yours]:checked")
    tab.get_by_label("Countries and capitals").check()


def until(tab, text):
    tab.wait_for_function(f"/{text}/.test({PROGRESS})")


def test_a_model_is_trained_step_by_step_then_writes_is_looked_into_and_taken_along(page, tmp_path):
    opened(page)
    page.click("#train-step")
    until(page, "Paused.* step 1 of 100,000")
    page.get_by_text("What happens in one step").click()
    page.wait_for_function("document.querySelectorAll('#train-peek tbody tr').length === 16")
    page.click("#train-pause")  # goes on
    until(page, r"Training.* step \d\d")
    page.wait_for_selector("#train-loss svg[aria-label^='Held-out loss']")
    assert page.locator("#train-sample .train-text").inner_text().startswith("The capital of")
    page.click("#train-stop")
    until(page, "Stopped; the model is kept")
    chip = page.locator("#train-line .chip").nth(1)
    chip.click()  # its numbers stayed away: the chips' script had lost the panel's name
    expect(page.locator("#train-line-panel p")).to_have_text(chip.get_attribute("title"))
    page.wait_for_selector("#train-write:not([disabled])")
    with page.expect_download() as download:
        page.click("#train-download")
    download.value.save_as(tmp_path / "model.zip")
    names = zipfile.ZipFile(tmp_path / "model.zip").namelist()
    assert "trained-gpt/model/model.safetensors" in names
    page.click("#train-write")
    page.wait_for_selector("#gen-run:visible")
    assert page.input_value("#gen-model input").startswith("Yours, trained on capitals")
    assert page.input_value("#gen-prompt textarea") == "The capital of"
    page.click("#gen-run")
    page.wait_for_selector("#gen-stats >> text=tokens")
    page.get_by_role("tab", name="Train").click()
    page.click("#train-inside")
    page.wait_for_selector("#int-chips .chip")
    assert page.input_value("#int-model input").startswith("Yours, trained on capitals")


def test_on_a_phone_a_text_that_is_too_short_is_a_line_and_the_next_run_goes_through(
    browser_tab, app_url
):
    with visit(browser_tab, app_url, viewport={"width": 390, "height": 800}) as phone:
        opened(phone, steps=30)
        phone.get_by_label("My own text").check()
        phone.fill("#train-pasted textarea", "too short")
        phone.click("#train-run")
        toast = phone.locator(".toast-body")
        toast.wait_for()
        assert "a context of 16 needs 33: use more text" in toast.inner_text()
        phone.wait_for_selector("#train-run:not([disabled])")
        phone.get_by_label("Additions of two numbers").check()
        phone.click("#train-run")
        until(phone, "Finished.* step 30 of 30")
        assert "of 102 sums that it has never read" in phone.inner_text("#train-sample")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
