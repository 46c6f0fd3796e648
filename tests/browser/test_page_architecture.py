"""The Architecture tab in a real browser: mouse, keyboard, bad sizes, every section.

What a section says for other configurations is in tests/test_architecture*.py, without a browser.
"""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page
from watched import expect, settle, visit

from gpt.ui.architecture import measured
from gpt.ui.architecture.controls import SLIDERS

pytestmark = pytest.mark.browser
TOTAL, BLOCK = 163_009_536, 7_085_568
CLOSE = """() => document.querySelectorAll('[id^=arch-] > button.open').forEach((button) =>
  'arch-more arch-numbers arch-workload'.includes(button.parentElement.id) || button.click())"""
BOTTOM = "(here) => here.getBoundingClientRect().bottom + scrollY"


@pytest.fixture(scope="module")
def opened(browser_tab, app_url):
    """One page for this file."""
    with visit(browser_tab, app_url) as page:
        page.get_by_role("tab", name="Architecture").click()
        expect(page.locator("#arch-check")).to_contain_text("equal ✓")
        expect(page.locator("[id^=arch-] > button.open")).to_have_count(0)
        yield page


@pytest.fixture
def tab(opened: Page) -> Page:
    """The page with the book's configuration and workload."""
    opened.set_viewport_size({"width": 1280, "height": 1000})
    opened.get_by_role("tab", name="Architecture").click()
    opened.evaluate(CLOSE)
    for section in ("more", "numbers", "workload"):
        open_section(opened, f"arch-{section}")
    settle(opened)
    for field, value in (("batch", 1), ("tokens", 1024)):
        if number(opened, field).input_value() != str(value):
            fill(opened, field, value)
    if f"{TOTAL:,}" not in opened.locator("#arch-total").inner_text():
        reset(opened)
    return opened


def reset(tab: Page) -> None:
    settle(tab)
    tab.locator("#arch-reset").click()
    expect(tab.locator("#arch-preset input")).to_have_value(re.compile("the book's 124M"))
    expect(tab.locator("#arch-total")).to_contain_text(f"{TOTAL:,}")
    settle(tab)


def number(tab: Page, field: str):
    return tab.locator(f"#arch-{field} input[type=number]")


def fill(tab: Page, field: str, value: int) -> None:
    settle(tab)
    number(tab, field).fill(str(value))
    number(tab, field).press("Tab")
    expect(number(tab, field)).to_have_value(str(value))


def choose(tab: Page, element: str, text: str) -> None:
    tab.locator(f"#{element} input").click()
    tab.get_by_role("option", name=text).first.click()


def open_section(tab: Page, element: str) -> None:
    button = tab.locator(f"#{element} > button")
    if "open" not in (button.get_attribute("class") or "").split():
        button.click()


def dismiss_toast(tab: Page, text: str) -> None:
    toast = tab.locator(".toast-body")
    expect(toast).to_contain_text(text)
    toast.locator("button").click()
    expect(toast).to_have_count(0)


def test_the_picture_is_on_the_first_screen_and_explains_itself_by_mouse_keys_and_finger(
    tab: Page,
) -> None:
    expect(tab.locator("#arch-table tr.total")).to_contain_text("163,009,536")
    expect(tab.locator("#arch-plot rect")).to_have_count(6)
    expect(tab.locator("#arch-check")).to_contain_text("163,009,536 parameters — equal ✓")
    expect(tab.locator("#arch-map .area")).to_have_count(12)
    assert tab.locator("#arch-map").bounding_box()["height"] <= 560
    for slider in SLIDERS:  # they were below the chosen part's explanation
        assert tab.locator(f"#arch-{slider}").evaluate(BOTTOM) <= 800
    part = tab.locator("#arch-part")
    tab.locator('#arch-map [data-part="out_head"]').click()
    expect(part).to_contain_text("50,257 × 768 = 38,597,376 parameters")
    expect(part).to_contain_text("self.out_head(final_norm)")
    tab.locator('#arch-map [data-part="norm2"]').press("Enter")
    expect(part).to_contain_text("12 × (2 × 768) = 18,432 parameters")
    fill(tab, "n_layers", 7)
    expect(part).to_contain_text("7 × (2 × 768) = 10,752 parameters")
    tab.set_viewport_size({"width": 390, "height": 844})
    number(tab, "n_layers").scroll_into_view_if_needed()
    expect(tab.locator("#arch-total")).to_be_in_viewport()  # it was a thousand pixels above
    tab.locator('#arch-map [data-part="ff.layers.0"]').click()
    expect(part).to_contain_text("widens each position")
    strip = tab.locator("#arch-tensor")
    expect(strip).to_contain_text("No text was read yet")
    part.get_by_role("button", name="Show in Internals").click()
    expect(tab.locator("#int-chips .chip")).not_to_have_count(0)
    # Nothing led back. Of several parts of a section it is the chosen one, else the first.
    for section, key in (("vectors", "ff.layers.0"), ("attention", "att.W_query")):
        tab.get_by_role("tab", name="Internals").click()
        back = tab.locator(f"#int-section-{section} [data-drawn]")
        expect(back).to_be_visible()
        back.press("Enter")
        expect(tab.locator(f'#arch-map [data-part="{key}"]')).to_be_focused()
        expect(tab.locator(f'#arch-map [data-part="{key}"]')).to_be_in_viewport()
    expect(part).to_contain_text("W_query")
    expect(strip).to_contain_text("block 0): ")
    tab.locator('#arch-map [data-part="final_norm"]').click()
    expect(strip).to_contain_text("storyteller, position 8")
    expect(strip.locator("img")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_sliders_move_by_mouse_and_by_keys_in_steps_that_are_possible(tab: Page) -> None:
    slider = tab.locator("#arch-n_layers input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 12 / 128, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=8)
    tab.mouse.up()
    expect(tab.locator("#arch-total")).not_to_contain_text("163,009,536")
    layers = int(number(tab, "n_layers").input_value())
    assert 50 < layers < 80
    total = f"{TOTAL + (layers - 12) * BLOCK:,}"
    expect(tab.locator("#arch-total")).to_contain_text(total)
    expect(tab.locator("#arch-table tr.total")).to_contain_text(total)
    expect(tab.locator("#arch-check")).to_contain_text(f"{total} parameters — equal ✓")
    reset(tab)
    fill(tab, "n_heads", 16)
    slider = tab.locator("#arch-emb_dim input[type=range]")
    expect(slider).to_have_attribute("step", "16")
    slider.focus()
    slider.press("ArrowRight")
    expect(number(tab, "emb_dim")).to_have_value("784")
    expect(tab.locator("#arch-table tr.total")).to_contain_text("168,211,904")
    expect(tab.locator("#arch-problem .arch-problem")).to_have_count(0)


def test_checkboxes_and_presets_set_every_control_up_to_a_trillion(tab: Page) -> None:
    """The note on 124M stayed under a GPT-3. What is too large is computed, and not built."""
    expect(tab.locator("#arch-tied")).to_contain_text("which OpenAI rounds to 124M")
    tab.locator("#arch-qkv_bias input").check()
    tab.locator("#arch-tie_weights input").check()
    expect(tab.locator("#arch-total")).to_contain_text("124,439,808")
    expect(tab.locator("#arch-preset input")).to_have_value(re.compile("gpt2-small, released"))
    choose(tab, "arch-preset", "gpt2-xl: no biases")
    expect(tab.locator("#arch-total")).to_contain_text("1,637,792,000")
    expect(tab.locator("#arch-total")).to_contain_text("6.101 GiB")
    expect(tab.locator("#arch-tied")).not_to_contain_text("124M")
    for field, value in (("emb_dim", 1600), ("n_heads", 25), ("n_layers", 48)):
        expect(number(tab, field)).to_have_value(str(value))
    choose(tab, "arch-preset", "A trillion parameters")
    expect(tab.locator("#arch-total")).to_contain_text("1.01 trillion")
    open_section(tab, "arch-measured-section")
    tab.locator("#arch-measure").click()
    expect(tab.locator("#arch-measured")).to_contain_text("are allowed here: make it smaller")
    expect(tab.locator("#arch-measure")).to_be_visible()
    expect(tab.locator("#arch-cancel")).to_be_hidden()
    open_section(tab, "arch-work")
    tab.locator("#arch-use").click()
    dismiss_toast(tab, "make it smaller to use it")


def test_an_impossible_size_is_one_line_with_the_nearest_values_as_buttons(tab: Page) -> None:
    """0 layers became 1 without a word; an emptied or too large field was an internal error; and
    of -3 the line said "n_layers is 0", since the page had clipped it.
    """
    problem = tab.locator("#arch-problem .arch-problem")
    fill(tab, "n_layers", 0)
    expect(problem).to_contain_text("n_layers is 0: use a whole number")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    fill(tab, "n_layers", -3)
    expect(problem).to_contain_text("n_layers is -3: use a whole number")
    fill(tab, "n_layers", 99999)
    expect(tab.locator("#arch-total")).to_contain_text(f"{TOTAL + 99987 * BLOCK:,}")
    expect(problem).to_have_count(0)
    number(tab, "n_layers").fill("")
    number(tab, "n_layers").press("Tab")
    expect(problem).to_contain_text("n_layers is empty: use a whole number")
    expect(tab.locator(".toast-body")).to_have_count(0)
    reset(tab)
    fill(tab, "emb_dim", 770)
    expect(problem).to_contain_text("emb_dim 770 is not divisible by 12 heads: use 768 or 780.")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    buttons = tab.locator("#arch-suggestions button")
    expect(buttons).to_have_text(["emb_dim = 768", "emb_dim = 780", "n_heads = 11", "n_heads = 14"])
    buttons.nth(3).click()
    expect(number(tab, "n_heads")).to_have_value("14")
    expect(problem).to_have_count(0)
    expect(tab.locator("#arch-total")).not_to_contain_text("163,009,536")


def test_a_measurement_can_be_cancelled_and_the_next_one_equals_what_was_computed(
    tab: Page,
) -> None:
    for field, value in (("n_layers", 1), ("n_heads", 3), ("emb_dim", 24), ("vocab_size", 97)):
        fill(tab, field, value)
    expect(tab.locator("#arch-check")).to_contain_text("equal ✓")
    open_section(tab, "arch-measured-section")
    with measured._one_at_a_time:  # as while another visitor measures
        tab.locator("#arch-measure").click()
        expect(tab.locator("#arch-measured progress")).to_be_visible()
        tab.locator("#arch-cancel").click()
        expect(tab.locator("#arch-measured")).to_contain_text("Cancelled; nothing was kept.")
        expect(tab.locator("#arch-measure")).to_be_visible()
    tab.locator("#arch-measure").click()
    shown = tab.locator("#arch-measured")
    expect(shown).to_contain_text("1 layer of width 24")
    for row in ("parameters", "bytes of the parameters", "KV cache", "operations, prompt"):
        expect(shown.locator("tr", has_text=row).first).to_contain_text("equal ✓")
    expect(tab.locator("#arch-measure")).to_be_visible()


def test_sections_follow_workload_and_settings_also_those_opened_later(tab: Page) -> None:
    tab.locator("#arch-numbers > button").click()  # closes it
    expect(tab.locator("#arch-table")).to_be_hidden()
    for section in ("memory-section", "operations-section", "compare-section"):
        open_section(tab, f"arch-{section}")
    memory, compare = tab.locator("#arch-memory"), tab.locator("#arch-compare")
    expect(memory).to_contain_text("2 × 12 × 1 × 1,024 × 768 × 4")
    expect(tab.locator("#arch-operations")).to_contain_text("291.6 GFLOP")
    expect(tab.locator("#arch-times")).to_contain_text("bandwidth")
    tab.locator("#arch-pin").click()
    expect(compare).to_contain_text("The settings are the same.")
    fill(tab, "n_layers", 7)
    expect(compare).to_contain_text("1 of 8 settings differ.")
    expect(compare.locator("tr.differs").first).to_contain_text("n_layers")
    fill(tab, "batch", 4)
    expect(memory).to_contain_text("2 × 7 × 4 × 1,024 × 768 × 4")
    fill(tab, "tokens", 2000)
    expect(memory).to_contain_text("2,000 tokens exceed the context of 1,024")
    tab.locator("#arch-numbers > button").click()
    expect(tab.locator("#arch-table tr.total")).to_contain_text(f"{TOTAL - 5 * BLOCK:,}")
    open_section(tab, "arch-code")
    expect(tab.locator("#arch-code .makes", has_text="x = block(")).to_contain_text(
        f"{7 * BLOCK:,}"
    )
    tab.set_viewport_size({"width": 390, "height": 800})
    expect(compare.locator("table")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_exercises_answer_themselves(tab: Page) -> None:
    fill(tab, "n_layers", 3)
    open_section(tab, "arch-exercises")
    tab.locator("#arch-exercise-4-1").click()
    expect(tab.locator("#arch-answer")).to_contain_text("2.00 times the parameters of attention")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    tab.locator("#arch-exercise-4-2-xl").click()
    expect(tab.locator("#arch-answer tr.marked")).to_contain_text("1,637,792,000")
    expect(tab.locator("#arch-total")).to_contain_text("1,637,792,000")
    tab.set_viewport_size({"width": 390, "height": 844})
    count = tab.locator("#arch-answer tr.marked td").nth(1)
    expect(count).to_have_text("1,637,792,000")
    box = count.bounding_box()  # the answer was beyond the edge of a phone
    assert box["x"] + box["width"] <= 390


def test_a_configuration_is_exported_imported_and_used_by_this_visitor(tab: Page) -> None:
    open_section(tab, "arch-work")
    export = tab.locator("#arch-export")
    expect(export).to_contain_text('"emb_dim": 768')
    tab.locator("#arch-format").get_by_label("Python").check()
    expect(export).to_contain_text("from gpt import GPTConfig, GPTModel")
    foreign = {"model_type": "gpt2", "n_embd": 1024, "n_head": 16, "n_layer": 24}
    tab.locator("#arch-import textarea").fill(json.dumps(foreign))
    tab.locator("#arch-read").click()
    expect(tab.locator("#arch-imported")).to_contain_text("Hugging Face")
    expect(tab.locator("#arch-total")).to_contain_text("354,823,168")
    tab.locator("#arch-import textarea").fill("{")
    tab.locator("#arch-read").click()
    expect(tab.locator("#arch-imported")).to_contain_text("line 1 is not valid JSON")
    expect(tab.locator("#arch-imported")).not_to_contain_text("Read ")  # of the text before
    with tab.expect_file_chooser() as chooser:
        tab.locator("#arch-upload").click()
    file = {"name": "c.json", "mimeType": "application/json", "buffer": b'{"n_layers": 2}'}
    chooser.value.set_files([file])
    expect(number(tab, "n_layers")).to_have_value("2")
    tab.locator("#arch-use").click()
    expect(tab.locator("#gen-model input")).to_have_value(re.compile("Yours, untrained"))
    # The text of another model stood there until somebody pressed Generate.
    expect(tab.locator("#gen-stats")).to_contain_text("by an untrained model")
