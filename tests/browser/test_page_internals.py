"""The Internals tab in a browser: every section opened, every control used, hostile text shown."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=2)]
PROMPT = "Once upon a time there was a little"
TOKENS = 8
SLOW = 60_000  # milliseconds: the first pass loads a model
OPENED = ("position", "attention", "logits", "choice")  # at first


@pytest.fixture(scope="module")
def opened(browser, app_url):
    """A page on which the Internals tab was clicked and nothing else: one for all of this file."""
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
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def tab(opened):
    """The page as at first: the default prompt at its last token, four sections open."""
    opened.set_viewport_size({"width": 1280, "height": 1000})
    for section in opened.locator("[id^=int-section-]").all():
        name = section.get_attribute("id").removeprefix("int-section-")
        if is_open(opened, name) != (name in OPENED):
            section.locator("> button").click()
    if opened.locator("#int-prompt textarea").input_value() != PROMPT:
        look(opened, PROMPT)
    wait_text(opened, "#int-message", f"{TOKENS} tokens, float32")
    opened.locator('#int-chips [data-position="7"]').click()
    wait_text(opened, "#int-choice caption", "after position 7")
    return opened


def look(page, prompt):
    page.locator("#int-prompt textarea").fill(prompt)
    page.locator("#int-run").click()


def is_open(page, name):
    button = page.locator(f"#int-section-{name} > button")
    return "open" in (button.get_attribute("class") or "").split()


def open_section(page, name):
    if not is_open(page, name):
        page.locator(f"#int-section-{name} > button").click()


def fill_number(page, elem_id, value):
    box = page.locator(f"#{elem_id} input[type=number]")
    box.fill(value)
    box.blur()


def wait_text(page, selector, pattern):
    """The text of an element once it matches."""
    element = page.locator(selector)
    element.filter(has_text=re.compile(pattern)).first.wait_for(timeout=SLOW)
    return element.first.inner_text()


def test_the_tab_looks_inside_by_itself_when_it_is_opened(opened):
    """It opened on five empty boxes."""
    wait_text(opened, "#int-message", "8 tokens, float32")
    wait_text(opened, "#int-counted", "1,000 draws")  # the last of the open sections
    assert opened.locator("#int-chips .chip").count() == TOKENS
    opened.locator("#int-logits .js-plotly-plot").wait_for(timeout=SLOW)
    assert opened.locator("#int-table tbody tr").count() == 21  # 20 and the tail
    assert "other 50,237" in opened.locator("#int-table").inner_text()


def test_a_click_on_a_token_moves_every_open_section_in_two_requests(tab):
    """It made 24 to 34, and a queue of 16 refused some when two visitors clicked at once."""
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.locator('#int-chips [data-position="2"]').click()
    wait_text(tab, "#int-table caption", "after position 2")
    wait_text(tab, "#int-position-guesses", "after position 2")
    wait_text(tab, "#int-choice caption", "after position 2")
    wait_text(tab, "#int-att-words", "position 2")
    assert len([url for url in asked if "/gradio_api/" in url]) <= 3
    assert tab.locator("#int-position input").input_value() == "2"
    assert tab.locator("#int-chips .selected").get_attribute("data-position") == "2"


def test_tokens_and_heads_are_reached_by_keyboard(tab):
    tab.locator('#int-chips [data-position="1"]').focus()
    tab.keyboard.press("Enter")
    wait_text(tab, "#int-table caption", "after position 1")
    wait_text(tab, "#int-att-words", "position 1")
    assert tab.evaluate("document.activeElement.dataset.position") == "1"  # not lost
    tab.locator('#int-att-grid [data-head="2"]').focus()
    tab.keyboard.press("Space")
    wait_text(tab, "#int-att-words", "head 2")
    assert tab.locator("#int-att-head input").input_value() == "2"


def test_the_number_of_bars_follows_its_slider(tab):
    fill_number(tab, "int-top-k", "5")
    wait_text(tab, "#int-table", "other 50,252")
    fill_number(tab, "int-top-k", "20")
    wait_text(tab, "#int-table", "other 50,237")


def test_sampling_settings_recompute_and_reset(tab):
    fill_number(tab, "int-filter-top-k", "3")
    wait_text(tab, "#int-choice", "3 of 50,257 tokens can be drawn")
    assert tab.locator("#int-choice tr.struck").count() == 17
    fill_number(tab, "int-temperature", "0")
    wait_text(tab, "#int-drawn", "draws no random number")
    tab.locator("#int-choice-reset").click()
    wait_text(tab, "#int-choice", "50,257 of 50,257 tokens can be drawn")
    assert tab.locator("#int-temperature input[type=number]").input_value() == "1"


def test_a_token_is_found_and_a_wrong_id_is_one_line(tab):
    tab.locator("#int-find textarea, #int-find input").first.fill("262")
    wait_text(tab, "#int-found", "·the")
    tab.locator("#int-find textarea, #int-find input").first.fill("99999")
    wait_text(tab, "#int-found", "use 0 to 50,256")
    tab.locator("#int-find textarea, #int-find input").first.fill("")


def test_the_layers_on_offer_are_the_models(tab):
    tab.locator("#int-att-layer input").click()
    options = tab.locator("#int-att-layer").get_by_role("option")
    expect(options).to_contain_text(["0", "1", "2", "3"])
    options.nth(1).click()
    expect(tab.locator("#int-att-layer input")).to_have_value("1")
    wait_text(tab, "#int-att-words", "In layer 1")


def test_the_stages_of_a_head_and_the_first_token_switch(tab):
    tab.locator("#int-att-stage").get_by_text("scaled and masked").click()
    tab.locator("#int-att-words a[download*=scaled]").wait_for(timeout=SLOW)
    tab.locator("#int-att-skip input").click()
    wait_text(tab, "#int-att-words", "the first token aside")


def test_a_closed_section_computes_when_it_is_opened(tab):
    for name, selector, pattern in (
        ("prompt", "#int-prompt-table", "surprisal"),
        ("embeddings", "#int-emb-words", "position vector"),
        ("stream", "#int-stream", "resid_out = "),
        ("vectors", "#int-vec-gelu", "neurons are positive"),
        ("lens", "#int-lens", "the model's own output"),
        ("ledger", "#int-ledger-sum", "rounding in float32"),
        ("mattered", "#int-mattered", "occluding"),
        ("ablation", "#int-abl", "with and without head 0 of layer 0"),
        ("shapes", "#int-shapes", r"gpt/model\.py:\d+"),
    ):
        assert not re.search(pattern, tab.locator(f"#int-section-{name}").inner_text())
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
    tab.locator("#int-lens-token textarea, #int-lens-token input").first.fill("two words")
    wait_text(tab, "#int-lens", "type one token or an id")
    tab.locator("#int-lens-token textarea, #int-lens-token input").first.fill("")
    wait_text(tab, "#int-lens", "the model's own output")


def test_an_opened_section_that_needs_the_model_follows_a_click(tab):
    open_section(tab, "vectors")
    wait_text(tab, "#int-vec-gelu", "neurons are positive")
    open_section(tab, "ledger")
    for position in (3, 5):
        tab.locator(f'#int-chips [data-position="{position}"]').click()
        wait_text(tab, "#int-ledger-sum", f"after position {position} ")


def test_results_of_a_button_become_those_of_the_former_pass(tab):
    open_section(tab, "ablation")
    wait_text(tab, "#int-abl", "with and without")
    expect(tab.locator("#int-sweep-cancel")).to_be_hidden()
    tab.locator("#int-sweep").click()
    wait_text(tab, "#int-sweep-words", "matters most .* after position 7")
    tab.locator("#int-sweep-plot .js-plotly-plot").wait_for(timeout=SLOW)
    open_section(tab, "compare")
    tab.locator("#int-cmp-run").click()
    wait_text(tab, "#int-cmp", "Top token")
    tab.locator("#int-cmp-plot .js-plotly-plot").wait_for(timeout=SLOW)
    tab.locator('#int-chips [data-position="4"]').click()
    wait_text(tab, "#int-sweep-words", "of the former pass: press “Sweep all heads” again")
    wait_text(tab, "#int-cmp", "of the former pass: press “Compare” again")
    expect(tab.locator("#int-cmp-plot")).to_be_hidden()


def test_a_sweep_is_cancelled_and_only_then_offers_to(tab, monkeypatch):
    """The second layer waits until Cancel was heard: no race with the bundled model's 16 heads."""
    heard = threading.Event()

    def slow_sweep(*_):
        yield 0, [0.0] * 4
        heard.wait(SLOW / 1000)
        yield 1, [0.0] * 4

    monkeypatch.setattr("gpt.ui.internals.sections.what_if.sweep_heads", slow_sweep)
    open_section(tab, "ablation")
    wait_text(tab, "#int-abl", "with and without")
    tab.locator("#int-sweep").click()
    wait_text(tab, "#int-sweep-words", "Layer 1 of 4")
    with tab.expect_response(lambda response: "/run/" in response.url):
        tab.locator("#int-sweep-cancel").click()
    heard.set()
    wait_text(tab, "#int-sweep-words", "Cancelled")
    expect(tab.locator("#int-sweep-cancel")).to_be_hidden()


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
    assert text.splitlines()[0].startswith("rank,token,id,logit,probability")
    assert len(text.splitlines()) == 22


def test_a_prompt_that_cannot_be_read_is_one_line_and_leaves_nothing_stale(tab):
    look(tab, "a " * 200)
    wait_text(tab, "#int-message", "this tab reads at most 128")
    expect(tab.locator("#int-chips .chip")).to_have_count(0)
    wait_text(tab, "#int-choice", "Press “Look inside”")
    assert "Error" not in tab.locator("#int-section-choice").inner_text()


def test_a_position_that_the_prompt_lacks_is_one_line(tab):
    tab.locator("#int-position input").fill("99")
    wait_text(tab, "#int-message", "position 99 is outside the prompt of 8 tokens")
    tab.locator("#int-position input").fill("-2")
    wait_text(tab, "#int-table caption", "after position 6")


def test_hostile_text_is_shown_as_text(tab):
    look(tab, "<img src=x onerror=alert(1)> ${alert(2)} {{value}} \u202emoc مرحبا 👍🏽 <script>")
    wait_text(tab, "#int-chips", "onerror|error")
    shown = tab.locator("#int-chips").inner_text().replace("\n", "")
    assert "<imgsrc=x" in shown.replace("·", "").replace(" ", "")
    assert "{{value}}" in shown.replace("·", "").replace(" ", "")
    assert tab.locator("#int-chips img, #int-chips script").count() == 0


def test_the_page_does_not_scroll_sideways_on_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    for name in ("lens", "stream", "ledger", "shapes"):
        open_section(tab, name)
    wait_text(tab, "#int-lens", "the model's own output")
    wait_text(tab, "#int-shapes", "recorded steps")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
