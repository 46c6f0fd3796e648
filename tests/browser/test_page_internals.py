"""The Internals tab in a browser: every section opened, every control used, hostile text shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
PROMPT = "Once upon a time there was a little"
TOKENS = 8
SLOW = 60_000  # milliseconds: the first pass loads a model


@pytest.fixture(scope="module")
def tab(browser, app_url):
    """The Internals tab after one run of the default prompt: one visit for all of this file."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    page.on("dialog", lambda dialog: problems.append(f"a script ran: {dialog.message}"))
    page.goto(app_url)
    page.get_by_role("tab", name="Internals").click()
    run(page, PROMPT)
    page.locator("#int-softmax .js-plotly-plot").wait_for(timeout=SLOW)
    page.locator("#int-chips .chip").nth(TOKENS - 1).wait_for(timeout=SLOW)
    yield page
    context.close()
    assert problems == []


def run(page, prompt):
    page.locator("#int-prompt textarea").fill(prompt)
    page.locator("#int-run").click()


def open_section(page, name):
    button = page.locator(f"#int-section-{name} > button")
    if "open" not in (button.get_attribute("class") or "").split():
        button.click()


def wait_text(page, selector, pattern):
    """The text of an element once it matches."""
    element = page.locator(selector)
    element.filter(has_text=re.compile(pattern)).first.wait_for(timeout=SLOW)
    return element.first.inner_text()


def test_a_run_shows_tokens_logits_probabilities_and_table(tab):
    assert tab.locator("#int-chips .chip").count() == TOKENS
    assert tab.locator("#int-logits .js-plotly-plot").count() == 1
    assert tab.locator("#int-table tbody tr").count() == 21  # 20 and the tail
    assert "other 50,237" in tab.locator("#int-table").inner_text()
    assert "over all 50,257 tokens" in tab.locator("#int-section-logits").inner_text()


def test_a_click_on_a_token_moves_every_open_section(tab):
    tab.locator('#int-chips [data-position="2"]').click()
    wait_text(tab, "#int-table caption", "after position 2")
    wait_text(tab, "#int-position-guesses", "after position 2")
    wait_text(tab, "#int-choice caption", "after position 2")
    wait_text(tab, "#int-att-words", "position 2")
    assert tab.locator("#int-position input").input_value() == "2"
    assert tab.locator("#int-chips .selected").get_attribute("data-position") == "2"


def test_tokens_and_heads_are_reached_by_keyboard(tab):
    tab.locator('#int-chips [data-position="1"]').focus()
    tab.keyboard.press("Enter")
    wait_text(tab, "#int-table caption", "after position 1")
    wait_text(tab, "#int-att-words", "position 1")
    assert tab.evaluate("document.activeElement.dataset.position") == "1"  # not lost
    tab.mouse.move(0, 0)  # or the head under the mouse would be previewed
    tab.locator('#int-att-grid [data-head="2"]').focus()
    wait_text(tab, "#int-att-grid figcaption", "head 2")
    tab.keyboard.press("Space")
    wait_text(tab, "#int-att-words", "head 2")


def test_the_number_of_bars_follows_its_slider(tab):
    tab.locator("#int-top-k input[type=number]").fill("5")
    tab.locator("#int-top-k input[type=number]").blur()
    wait_text(tab, "#int-table", "other 50,252")
    tab.locator("#int-top-k input[type=number]").fill("20")
    tab.locator("#int-top-k input[type=number]").blur()
    wait_text(tab, "#int-table", "other 50,237")


def test_sampling_settings_recompute_and_reset(tab):
    tab.locator("#int-filter-top-k input[type=number]").fill("3")
    tab.locator("#int-filter-top-k input[type=number]").blur()
    wait_text(tab, "#int-choice", "3 of 50,257 tokens can be drawn")
    assert tab.locator("#int-choice tr.struck").count() == 17
    tab.locator("#int-temperature input[type=number]").fill("0")
    tab.locator("#int-temperature input[type=number]").blur()
    wait_text(tab, "#int-drawn", "draws no random number")
    tab.locator("#int-choice-reset").click()
    wait_text(tab, "#int-choice", "50,257 of 50,257 tokens can be drawn")
    assert tab.locator("#int-temperature input[type=number]").input_value() == "1"


def test_a_token_is_found_and_a_wrong_id_is_one_line(tab):
    tab.locator("#int-find textarea, #int-find input").first.fill("262")
    wait_text(tab, "#int-found", "·the")
    tab.locator("#int-find textarea, #int-find input").first.fill("99999")
    wait_text(tab, ".toast-body", "use 0 to 50,256")


def test_a_layer_that_does_not_exist_is_one_line(tab):
    tab.locator("#int-att-layer input").fill("99")
    wait_text(tab, ".toast-body", "99 is greater than")
    tab.locator("#int-att-layer input").fill("1")
    wait_text(tab, "#int-att-words", "layer 1")


def test_the_stages_of_a_head_and_the_first_token_switch(tab):
    tab.locator("#int-att-stage").get_by_text("scaled and masked").click()
    tab.locator("#int-att-words a[download*=scaled]").wait_for(timeout=SLOW)
    tab.locator("#int-att-skip input").click()
    wait_text(tab, "#int-att-words", "the first token aside")


@pytest.mark.parametrize(
    ("name", "selector", "pattern"),
    [
        ("prompt", "#int-prompt-table", "surprisal"),
        ("embeddings", "#int-emb-words", "position vector"),
        ("stream", "#int-stream", "resid_out = "),
        ("vectors", "#int-vec-gelu", "neurons are positive"),
        ("lens", "#int-lens", "the model's own output"),
        ("ledger", "#int-ledger-sum", "rounding in float32"),
        ("mattered", "#int-mattered", "occluding"),
        ("ablation", "#int-abl", "with and without head 0 of layer 0"),
        ("shapes", "#int-shapes", r"gpt/model\.py:\d+"),
    ],
)
def test_a_closed_section_computes_when_it_is_opened(tab, name, selector, pattern):
    assert not re.search(pattern, tab.locator("#int-section-" + name).inner_text())
    open_section(tab, name)
    wait_text(tab, selector, pattern)


def test_the_lens_colours_by_the_rank_of_a_token(tab):
    open_section(tab, "lens")
    wait_text(tab, "#int-lens", "the model's own output")
    tab.locator("#int-lens-measure input").click()
    tab.get_by_role("option", name="rank of the chosen token").click()
    wait_text(tab, "#int-lens", "rank of the chosen token")
    tab.locator("#int-lens-token textarea, #int-lens-token input").first.fill("262")
    wait_text(tab, "#int-lens", "id 262")


def test_an_opened_section_that_needs_the_model_follows_a_click(tab):
    open_section(tab, "lens")
    wait_text(tab, "#int-lens", "the model's own output")
    for position in (3, 5):
        tab.locator(f'#int-chips [data-position="{position}"]').click()
        wait_text(tab, "#int-lens", f"At position {position} the final guess")


def test_a_sweep_over_all_heads_finishes(tab):
    open_section(tab, "ablation")
    wait_text(tab, "#int-abl", "with and without")
    tab.locator("#int-sweep").click()
    wait_text(tab, "#int-sweep-words", "Without head")
    expect(tab.locator("#int-sweep-cancel")).to_be_disabled()
    tab.locator("#int-abl-kind").get_by_text("a feed-forward").click()
    wait_text(tab, "#int-abl", "the feed-forward of layer 0")


def test_a_sweep_over_all_heads_is_cancelled(page):
    """Asked of a model with 144 heads: the bundled one's 16 are done before a click."""
    page.get_by_role("tab", name="Internals").click()
    page.locator("#int-model input").click()
    page.get_by_role("option", name=re.compile("book's 124M")).click()
    run(page, "one two " * 30)
    open_section(page, "ablation")
    wait_text(page, "#int-abl", "with and without")
    page.locator("#int-sweep").click()
    wait_text(page, "#int-sweep-words", r"Layer \d+ of 12")
    page.locator("#int-sweep-cancel").click()
    wait_text(page, "#int-sweep-words", "Cancelled")
    expect(page.locator("#int-sweep-cancel")).to_be_disabled()
    page.wait_for_timeout(500)
    assert "Error" not in page.locator("#int-section-ablation").inner_text()


def test_another_prompt_is_compared(tab):
    open_section(tab, "compare")
    tab.locator("#int-cmp-run").click()
    wait_text(tab, "#int-cmp", "share")
    tab.locator("#int-cmp-plot .js-plotly-plot").wait_for(timeout=SLOW)


def test_the_trace_downloads_as_npz(tab):
    open_section(tab, "shapes")
    tab.locator("#int-npz").click()
    tab.locator("#int-npz-file").wait_for(timeout=SLOW)
    with tab.expect_download(timeout=SLOW) as download:
        tab.locator("#int-npz-file").click()
    assert download.value.suggested_filename.endswith(".npz")


def test_a_table_downloads_as_csv(tab):
    with tab.expect_download() as download:
        tab.locator("#int-table .csv").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.splitlines()[0] == "rank,token,id,logit,probability"
    assert len(text.splitlines()) == 22


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "the prompt is empty"), ("a " * 200, "this tab reads at most 128")],
)
def test_a_prompt_that_cannot_be_read_is_one_line(tab, prompt, message):
    run(tab, prompt)
    wait_text(tab, ".toast-body", message)


def test_a_position_that_the_prompt_lacks_is_one_line(tab):
    tab.locator("#int-position input").fill("99")
    wait_text(tab, ".toast-body", "position 99 is outside the prompt of 8 tokens")
    tab.locator("#int-position input").fill("-1")
    wait_text(tab, "#int-table caption", "after position 7")


def test_hostile_text_is_shown_as_text(tab):
    run(tab, "<img src=x onerror=alert(1)> ${alert(2)} {{value}} \u202emoc مرحبا 👍🏽 <script>")
    wait_text(tab, "#int-chips", "onerror|error")
    shown = tab.locator("#int-chips").inner_text().replace("\n", "")
    assert "<imgsrc=x" in shown.replace("·", "").replace(" ", "")
    assert "{{value}}" in shown.replace("·", "").replace(" ", "")
    assert tab.locator("#int-chips img, #int-chips script, #int-shapes img").count() == 0


def test_the_page_does_not_scroll_sideways_on_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    for name in ("lens", "stream", "ledger", "shapes"):
        open_section(tab, name)
    wait_text(tab, "#int-lens", "the model's own output")
    wait_text(tab, "#int-shapes", "recorded steps")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
