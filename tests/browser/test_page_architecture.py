"""The Architecture tab in a real browser: mouse, keyboard, bad sizes, every section."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=2)]
expect.set_options(timeout=15_000)  # two cores, shared with the server under test
TOTAL, BLOCK = 163_009_536, 7_085_568


@pytest.fixture(scope="module")
def visit(browser, app_url):
    """One page for this file; at its end it had no console error and met no other host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    ours = (app_url, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(ours) else problems.append(r.url))
    page.goto(app_url)
    page.get_by_role("tab", name="Architecture").click()
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def tab(visit: Page) -> Page:
    """The page with the book's configuration and workload."""
    visit.set_viewport_size({"width": 1280, "height": 1000})
    visit.get_by_role("tab", name="Architecture").click()
    open_section(visit, "arch-more")
    fill(visit, "batch", 1)
    fill(visit, "tokens", 1024)
    visit.locator("#arch-reset").click()
    expect(visit.locator("#arch-preset input")).to_have_value(re.compile("the book's 124M"))
    expect(visit.locator("#arch-total")).to_contain_text(f"{TOTAL:,}")
    return visit


def number(tab: Page, field: str):
    return tab.locator(f"#arch-{field} input[type=number]")


def fill(tab: Page, field: str, value: int) -> None:
    number(tab, field).fill(str(value))
    number(tab, field).press("Tab")
    expect(number(tab, field)).to_have_value(str(value))


def make_small(tab: Page) -> None:
    for field, value in (("n_layers", 1), ("n_heads", 3), ("emb_dim", 24), ("vocab_size", 97)):
        fill(tab, field, value)
    expect(tab.locator("#arch-check")).to_contain_text("equal ✓")


def choose(tab: Page, element: str, text: str) -> None:
    tab.locator(f"#{element} input").click()
    tab.get_by_role("option", name=text).first.click()


def open_section(tab: Page, element: str) -> None:
    button = tab.locator(f"#{element} > button")
    if "open" not in (button.get_attribute("class") or "").split():
        button.click()


def test_the_first_screen_has_total_table_bar_drawing_and_a_passed_check(tab: Page) -> None:
    expect(tab.locator("#arch-table tr.total")).to_contain_text("163,009,536")
    expect(tab.locator("#arch-plot rect")).to_have_count(6)
    expect(tab.locator("#arch-check")).to_contain_text("163,009,536 parameters — equal ✓")
    expect(tab.locator("#arch-map .area")).to_have_count(12)
    assert tab.locator("#arch-map").bounding_box()["height"] <= 560


def test_a_slider_dragged_by_mouse_moves_total_table_and_check(tab: Page) -> None:
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


def test_arrow_keys_on_the_width_step_by_the_heads_so_that_every_step_is_possible(
    tab: Page,
) -> None:
    fill(tab, "n_heads", 16)
    slider = tab.locator("#arch-emb_dim input[type=range]")
    expect(slider).to_have_attribute("step", "16")
    slider.focus()
    slider.press("ArrowRight")
    expect(number(tab, "emb_dim")).to_have_value("784")
    expect(tab.locator("#arch-table tr.total")).to_contain_text("168,211,904")
    expect(tab.locator("#arch-problem .arch-problem")).to_have_count(0)


def test_checkboxes_give_openai_s_124_million(tab: Page) -> None:
    tab.locator("#arch-qkv_bias input").check()
    tab.locator("#arch-tie_weights input").check()
    expect(tab.locator("#arch-total")).to_contain_text("124,439,808")
    expect(tab.locator("#arch-preset input")).to_have_value(re.compile("gpt2-small, released"))


def test_a_preset_sets_every_control_and_its_notes_go_with_it(tab: Page) -> None:
    """The note on 124M stayed under a GPT-3."""
    expect(tab.locator("#arch-tied")).to_contain_text("which OpenAI rounds to 124M")
    choose(tab, "arch-preset", "gpt2-xl: no biases")
    expect(tab.locator("#arch-total")).to_contain_text("1,637,792,000")
    expect(tab.locator("#arch-total")).to_contain_text("6.101 GiB")
    expect(tab.locator("#arch-tied")).not_to_contain_text("124M")
    for field, value in (("emb_dim", 1600), ("n_heads", 25), ("n_layers", 48)):
        expect(number(tab, field)).to_have_value(str(value))


def test_a_pair_that_does_not_divide_offers_the_nearest_values_as_buttons(tab: Page) -> None:
    fill(tab, "emb_dim", 770)
    problem = tab.locator("#arch-problem .arch-problem")
    expect(problem).to_contain_text("emb_dim 770 is not divisible by 12 heads: use 768 or 780.")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    buttons = tab.locator("#arch-suggestions button")
    expect(buttons).to_have_text(["emb_dim = 768", "emb_dim = 780", "n_heads = 11", "n_heads = 14"])
    buttons.nth(3).click()
    expect(number(tab, "n_heads")).to_have_value("14")
    expect(problem).to_have_count(0)
    expect(tab.locator("#arch-total")).not_to_contain_text("163,009,536")


@pytest.mark.parametrize("field", ["n_layers", "vocab_size", "batch"])
def test_zero_is_refused_in_one_line_and_not_taken_for_one(tab: Page, field: str) -> None:
    """0 layers became 1 without a word."""
    fill(tab, field, 0)
    problem = tab.locator("#arch-problem .arch-problem")
    expect(problem).to_contain_text(f"{field} is 0: use a whole number")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    fill(tab, field, 2)
    expect(problem).to_have_count(0)


def test_numbers_typed_beyond_a_slider_are_clipped_without_an_error(tab: Page) -> None:
    """An emptied or too large field was an internal error before any handler could answer."""
    number(tab, "n_layers").fill("99999")
    expect(tab.locator("#arch-total")).to_contain_text(f"{TOTAL + 116 * BLOCK:,}")
    number(tab, "n_layers").fill("")
    number(tab, "n_layers").press("Tab")
    expect(tab.locator("#arch-problem")).to_contain_text("n_layers is 0: use a whole number")
    expect(tab.locator(".toast-body")).to_have_count(0)


def test_a_trillion_parameters_compute_at_once_and_are_refused_to_be_built(tab: Page) -> None:
    choose(tab, "arch-preset", "A trillion parameters")
    expect(tab.locator("#arch-total")).to_contain_text("1.01 trillion")
    open_section(tab, "arch-measured-section")
    tab.locator("#arch-measure").click()
    expect(tab.locator("#arch-measured")).to_contain_text("are allowed here: make it smaller")
    expect(tab.locator("#arch-measure")).to_be_visible()
    expect(tab.locator("#arch-cancel")).to_be_hidden()
    open_section(tab, "arch-work")
    tab.locator("#arch-use").click()
    toast = tab.locator(".toast-body")
    expect(toast).to_contain_text("make it smaller to use it")
    toast.locator("button").click()
    expect(toast).to_have_count(0)


def test_memory_and_operations_follow_the_workload(tab: Page) -> None:
    open_section(tab, "arch-memory-section")
    memory = tab.locator("#arch-memory")
    expect(memory).to_contain_text("2 × 12 × 1 × 1,024 × 768 × 4")
    fill(tab, "batch", 4)
    expect(memory).to_contain_text("2 × 12 × 4 × 1,024 × 768 × 4")
    fill(tab, "tokens", 2000)
    expect(memory).to_contain_text("2,000 tokens exceed the context of 1,024")
    open_section(tab, "arch-compute-section")
    fill(tab, "batch", 1)
    expect(tab.locator("#arch-compute")).to_contain_text("291.6 GFLOP")
    expect(tab.locator("#arch-times")).to_contain_text("bandwidth")


def test_a_section_opened_later_shows_the_present_configuration(tab: Page) -> None:
    tab.locator("#arch-numbers > button").click()  # closes it
    expect(tab.locator("#arch-table")).to_be_hidden()
    fill(tab, "n_layers", 7)
    expect(tab.locator("#arch-total")).to_contain_text(f"{TOTAL - 5 * BLOCK:,}")
    tab.locator("#arch-numbers > button").click()
    expect(tab.locator("#arch-table tr.total")).to_contain_text(f"{TOTAL - 5 * BLOCK:,}")
    open_section(tab, "arch-code")
    expect(tab.locator("#arch-code .makes", has_text="x = block(")).to_contain_text(
        f"{7 * BLOCK:,}"
    )


def test_a_small_model_is_measured_and_equals_what_was_computed(tab: Page) -> None:
    make_small(tab)
    open_section(tab, "arch-measured-section")
    tab.locator("#arch-measure").click()
    measured = tab.locator("#arch-measured")
    expect(measured).to_contain_text("1 layer of width 24", timeout=120_000)
    for row in ("parameters", "bytes of the parameters", "KV cache", "operations, prompt"):
        expect(measured.locator("tr", has_text=row).first).to_contain_text("equal ✓")
    expect(tab.locator("#arch-measure")).to_be_visible()


def test_a_measurement_can_be_cancelled_and_the_next_one_is_clean(tab: Page) -> None:
    open_section(tab, "arch-measured-section")
    tab.locator("#arch-measure").click()
    expect(tab.locator("#arch-measured progress")).to_be_visible()
    tab.locator("#arch-cancel").click()
    expect(tab.locator("#arch-measured")).to_contain_text("Cancelled; nothing was kept.")
    make_small(tab)
    expect(tab.locator("#arch-measure")).to_be_visible()
    tab.locator("#arch-measure").click()
    expect(tab.locator("#arch-measured table")).to_be_visible(timeout=120_000)


def test_a_part_of_the_picture_explains_itself_by_mouse_by_keyboard_and_on_a_phone(
    tab: Page,
) -> None:
    part = tab.locator("#arch-part")
    tab.locator('#arch-map [data-part="out_head"]').click()
    expect(part).to_contain_text("50,257 × 768 = 38,597,376 parameters")
    expect(part).to_contain_text("self.out_head(final_norm)")
    tab.locator('#arch-map [data-part="norm2"]').press("Enter")
    expect(part).to_contain_text("12 × (2 × 768) = 18,432 parameters")
    fill(tab, "n_layers", 7)
    expect(part).to_contain_text("7 × (2 × 768) = 10,752 parameters")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.locator('#arch-map [data-part="ff.layers.0"]').click()
    expect(part).to_contain_text("widens each position")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_two_configurations_side_by_side_mark_what_differs(tab: Page) -> None:
    open_section(tab, "arch-compare-section")
    tab.locator("#arch-pin").click()
    compare = tab.locator("#arch-compare")
    expect(compare).to_contain_text("The settings are the same.")
    fill(tab, "n_layers", 24)
    expect(compare).to_contain_text("1 of 8 settings differ.")
    expect(compare.locator("tr.differs").first).to_contain_text("n_layers")


def test_exercises_answer_themselves(tab: Page) -> None:
    fill(tab, "n_layers", 3)
    open_section(tab, "arch-exercises")
    tab.locator("#arch-exercise-4-1").click()
    expect(tab.locator("#arch-answer")).to_contain_text("2.00 times the parameters of attention")
    expect(tab.locator("#arch-total")).to_contain_text("163,009,536")
    tab.locator("#arch-exercise-4-2-xl").click()
    expect(tab.locator("#arch-answer tr.marked")).to_contain_text("1,637,792,000")
    expect(tab.locator("#arch-total")).to_contain_text("1,637,792,000")


def test_export_as_python_and_import_of_a_hugging_face_file(tab: Page) -> None:
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
    with tab.expect_file_chooser() as chooser:
        tab.locator("#arch-upload").click()
    file = {"name": "c.json", "mimeType": "application/json", "buffer": b'{"n_layers": 2}'}
    chooser.value.set_files([file])
    expect(number(tab, "n_layers")).to_have_value("2")
    tab.locator("#arch-import textarea").fill("{")
    tab.locator("#arch-read").click()
    toast = tab.locator(".toast-body")
    expect(toast).to_contain_text("this is no valid JSON")
    toast.locator("button").click()


def test_at_390_pixels_nothing_scrolls_sideways(tab: Page) -> None:
    tab.set_viewport_size({"width": 390, "height": 800})
    for section in ("memory-section", "compute-section", "compare-section"):
        open_section(tab, f"arch-{section}")
    expect(tab.locator("#arch-compare table")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_use_this_model_puts_it_into_the_pickers_of_this_visitor(tab: Page) -> None:
    fill(tab, "n_layers", 2)
    expect(tab.locator("#arch-total")).not_to_contain_text("163,009,536")
    open_section(tab, "arch-work")
    tab.locator("#arch-use").click()
    expect(tab.locator("#gen-model input")).to_have_value(re.compile("Yours, untrained"))
