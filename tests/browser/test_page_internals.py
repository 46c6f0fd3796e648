"""The Internals tab in a browser: every section opened, every control used, hostile text shown."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from shut_out import OPEN, faults_of_the_tab
from watched import MOVED, PATIENCE, expect, visit

from gpt.ui.internals.sections import SECTIONS

pytestmark = pytest.mark.browser
PROMPT = "Once upon a time there was a little"
TOKENS = 8
OPENED = ("tokens", "attention", "logits", "choice")  # at first
TALLEST = 800  # px of a section at 1280 px, its numbers folded
TOPS = """[...document.querySelectorAll('[id^=int-section-]')].map(
    (section) => section.getBoundingClientRect().top + scrollY)"""


@pytest.fixture(scope="module")
def opened(browser_tab, app_url):
    """A page on which the Internals tab was clicked and nothing else: one for all of this file."""
    with visit(browser_tab, app_url) as page:
        expect(page.locator("#gen-chips .chip")).not_to_have_count(0)
        held = []
        page.route("**/queue/join*", lambda route: held.append(route))
        page.get_by_role("tab", name="Internals").click()
        page.locator("#int-section-file").wait_for()
        page.evaluate(f"window.topsAtFirst = {TOPS}")
        for route in held:
            route.continue_()
        page.unroute("**/queue/join*")
        expect(page.locator("#int-chips .chip")).not_to_have_count(0)
        yield page


@pytest.fixture
def tab(opened):
    """The page as at first: a prompt of eight tokens at its last one, four sections open."""
    opened.set_viewport_size({"width": 1280, "height": 1000})
    for section in opened.locator("[id^=int-section-]").all():
        name = section.get_attribute("id").removeprefix("int-section-")
        if is_open(opened, name) != (name in OPENED):
            section.locator("> button").click()
    if opened.locator("#int-prompt textarea").input_value() != PROMPT:
        opened.locator("#int-choice-reset").click()
        look(opened, PROMPT)
    wait_text(opened, "#int-message", f"{TOKENS} tokens, float32")
    opened.locator('#int-chips [data-position="7"]').click()
    wait_text(opened, "#int-logits-words", "After position 7")
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
    """The text of an element once it matches; in view, for the rest follows when it comes there."""
    element = page.locator(selector)
    element.first.scroll_into_view_if_needed()
    expect(element.filter(has_text=re.compile(pattern)).first).to_be_visible()
    return element.first.inner_text()


def fill_token(page, elem_id, value):
    page.locator(f"#{elem_id} textarea, #{elem_id} input").first.fill(value)


def test_the_tab_opens_on_the_text_of_the_page(opened):
    """It opened on a prompt of its own, which stood nowhere else."""
    text = opened.locator("#gen-prompt textarea").input_value()
    assert opened.locator("#int-prompt textarea").input_value().startswith(text)
    wait_text(opened, "#int-choice", "Draw 0 of seed 10 .* It is the one in the text")
    jumps = opened.evaluate(f"{TOPS}.map((top, n) => Math.abs(top - topsAtFirst[n]))")
    assert max(jumps) < 100  # the last section moved by 1,250 px
    assert opened.evaluate(MOVED) < 0.1
    opened.set_viewport_size({"width": 1280, "height": 1000})
    assert opened.locator("#int-section-choice").bounding_box()["height"] <= TALLEST  # it was 809
    sheets = opened.pdf(prefer_css_page_size=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", sheets)) <= 2  # printed as it opens


def test_plotly_is_there_before_a_figure_is_unless_a_visitor_saves_data(opened):
    """It came, 4.6 MB of script, when the section with the only two figures was opened."""
    got = "performance.getEntriesByType('resource').some(({name}) => /PlotlyPlot-/.test(name))"
    opened.wait_for_function(got)
    expect(opened.locator(".js-plotly-plot")).to_have_count(0)
    opened.evaluate("document.querySelector('[data-plotly]').rel = ''")
    opened.evaluate("Object.defineProperty(navigator, 'connection', {value: {saveData: true}})")
    opened.evaluate("gptPage.plotly()")
    assert opened.locator("[data-plotly]").get_attribute("rel") == ""


def test_tokens_heads_and_words_are_reached_by_keyboard(tab):
    tab.locator('#int-chips [data-position="1"]').focus()
    tab.keyboard.press("Enter")
    wait_text(tab, "#int-logits-words", "After position 1")
    wait_text(tab, "#int-att-words", "position 1")
    assert tab.evaluate("document.activeElement.dataset.position") == "1"  # not lost
    tab.locator('#int-att-grid [data-at="1.2"]').focus()
    tab.keyboard.press("Space")
    wait_text(tab, "#int-att-words", "In layer 1, head 2,")
    assert tab.evaluate("document.activeElement.dataset.at") == "1.2"
    tab.locator("#int-heads button").first.click()
    chosen = tab.locator("#int-heads button").first.get_attribute("data-layer")
    wait_text(tab, "#int-att-words", f"In layer {chosen}, ")
    tab.locator('#int-att-words .word[data-from="5"]').focus()
    expect(tab.locator('#int-att-words .from[data-from="5"]')).to_be_visible()
    expect(tab.locator('#int-att-words .from[data-from="1"]')).to_be_hidden()
    tab.locator("#int-att-stage").get_by_text("scaled and masked").click()
    tab.locator("#int-att-words a[download*=scaled]").wait_for(state="attached")
    tab.locator("#int-code-attention summary").click()
    code = tab.locator("#int-code-attention code")
    assert "\nscaled = scores / " in code.inner_text()  # a line a line: it ran into one paragraph
    tab.locator("#int-code-attention summary").click()
    tab.locator("#int-rail").get_by_role("button", name="Lens").press("Enter")
    wait_text(tab, "#int-lens", "the model's own output")


def test_controls_recompute_while_one_types_and_what_is_unfolded_stays_so(tab):
    fill_token(tab, "int-word", " Ozma")
    wait_text(tab, "#int-merges", "“·Ozma” is 5 bytes")
    fill_token(tab, "int-word", "")
    wait_text(tab, "#int-merges", "“·little” is 7 bytes")
    tab.locator("#int-table summary").click()
    fill_number(tab, "int-top-k", "5")
    wait_text(tab, "#int-table table", "other 50,252")  # seen: it is still unfolded
    expect(tab.locator("#int-table table")).to_be_visible()
    with tab.expect_download() as download:
        tab.locator("#int-table .csv").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.splitlines()[0].startswith("rank,token,id,logit,probability")
    tab.locator("#int-table summary").click()
    fill_number(tab, "int-filter-top-k", "3")
    wait_text(tab, "#int-choice", "3 of 50,257 tokens can be drawn")
    assert tab.locator("#int-choice .row.struck").count() == 5
    tab.locator("#int-choice-reset").click()
    wait_text(tab, "#int-choice", "50,257 of 50,257 tokens can be drawn")
    assert tab.locator("#int-filter-top-k input[type=number]").input_value() == "0"
    tab.locator('#int-chips [data-position="4"]').click()  # and at once:
    fill_token(tab, "int-find", "262")
    wait_text(tab, "#int-found", "·the")
    fill_token(tab, "int-find", "")
    tab.locator("#int-position input").fill("99")
    wait_text(tab, "#int-message", "position 99 is outside the prompt of 8 tokens")
    tab.locator("#int-position input").fill("7")
    open_section(tab, "lens")
    tab.locator("#int-lens-measure input").click()
    tab.get_by_role("option", name="rank of the chosen token").click()
    wait_text(tab, "#int-lens", "rank of the chosen")


def test_buttons_and_prompts_that_cannot_be_read(tab, monkeypatch):
    """The second layer of a sweep waits until Cancel was heard: no race with 16 heads."""
    for key in ("sweep", "compare", "file"):
        open_section(tab, key)
    tab.locator("#int-cmp-run").click()
    wait_text(tab, "#int-cmp", "Top token")
    tab.locator('#int-chips [data-position="4"]').click()
    wait_text(tab, "#int-cmp", "of the former pass: press “Compare” again")
    heard = threading.Event()

    def slow_sweep(*_):
        yield 0, [0.0] * 4
        heard.wait(PATIENCE / 1000)
        yield 1, [0.0] * 4

    monkeypatch.setattr("gpt.internals.interventions.sweep_heads", slow_sweep)
    expect(tab.locator("#int-sweep-cancel")).to_be_hidden()
    tab.locator("#int-sweep").click()
    wait_text(tab, "#int-sweep-words", "Layer 1 of 4")
    with tab.expect_response(lambda response: "/run/" in response.url):
        tab.locator("#int-sweep-cancel").click()
    heard.set()
    wait_text(tab, "#int-sweep-words", "Cancelled")
    expect(tab.locator("#int-sweep-cancel")).to_be_hidden()
    tab.locator("#int-npz").click()
    tab.locator("#int-npz-file").wait_for()
    with tab.expect_download() as download:
        tab.locator("#int-npz-file").click()
    assert download.value.suggested_filename.endswith(".npz")
    look(tab, "a " * 200)
    wait_text(tab, "#int-message", "this tab reads at most 128")
    expect(tab.locator("#int-chips .chip")).to_have_count(0)
    wait_text(tab, "#int-choice", "Press “Look inside”")
    look(tab, "<img src=x onerror=alert(1)> ${alert(2)} {{value}} \u202emoc مرحبا 👍🏽 <script>")
    wait_text(tab, "#int-chips", "onerror|error")
    shown = tab.locator("#int-chips").inner_text()
    shown = "".join(c for c in shown if c not in "·\n ")
    assert "<imgsrc=x" in shown
    assert "{{value}}" in shown
    assert tab.locator("#int-chips img, #int-chips script").count() == 0


def test_all_sections_fit_a_screen_move_with_one_click_and_shut_nobody_out(tab):
    """It opened on empty boxes; a section had 2,700 px; a click made 24 to 34 requests."""
    tab.evaluate(OPEN)
    for elem_id, pattern in (
        ("int-merges", "7 bytes"), ("int-emb", "position vector"), ("int-stream", "resid_out = "),
        ("int-vec-words", "neurons are positive"), ("int-lens", "the model's own output"),
        ("int-ledger", "rounding in float32"), ("int-mattered", "occluding"),
        ("int-abl", "with and without head 0 of layer 0"), ("int-patch", "brings back most"),
        ("int-shapes", r"gpt/model\.py:\d+"), ("int-choice", "1,000 draws"),
    ):  # fmt: skip
        wait_text(tab, f"#{elem_id}", pattern)
    boxes = {s.key: tab.locator(f"#int-section-{s.key}").bounding_box() for s in SECTIONS}
    assert {key: box["height"] for key, box in boxes.items() if box["height"] > TALLEST} == {}
    tab.locator("#int-rail").get_by_role("button", name="Choice").click()
    expect(tab.locator("#int-section-choice")).to_be_in_viewport(ratio=0.5)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.locator('#int-chips [data-position="2"]').click()  # the strip is there without scrolling
    for elem_id, pattern in (
        ("int-choice", "after position 2;"), ("int-att-words", "position 2"),
        ("int-logits-words", "After position 2"), ("int-mattered", "after position 2"),
        ("int-ledger", "after position 2 "), ("int-abl", "After position 2 "),
    ):  # fmt: skip
        if elem_id == "int-att-words":
            assert len([url for url in asked if "/gradio_api/" in url]) <= 3
        wait_text(tab, f"#{elem_id}", pattern)
    assert tab.locator("#int-position input").input_value() == "2"
    assert tab.locator("#int-chips .selected").get_attribute("data-position") == "2"
    # Printed then, a section out of view would show the token before: it says so, and is computed.
    tab.locator('#int-chips [data-position="3"]').click()
    expect(tab.locator("#int-section-lens")).to_have_class(re.compile("late"))
    expect(tab.locator("#int-lens")).not_to_contain_text("At position 3")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(tab.locator("#int-lens")).to_contain_text("At position 3")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(tab.locator(".late")).to_have_count(0)
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.set_viewport_size({"width": 1280, "height": 1000})
    assert "\n".join(faults_of_the_tab(tab)) == ""


def test_a_long_chart_opens_at_the_word_that_its_sentence_is_about(tab):
    """It began at the first of 128 words, with the one that mattered most far below."""
    open_section(tab, "mattered")
    look(tab, ", ".join(f"{number} wolves" for number in range(20)) + " and the old king said")
    wait_text(tab, "#int-mattered", r"\(“·said”\): occluding")
    expect(tab.locator("#int-mattered .bars .here .name")).to_have_count(1)
    name = tab.locator("#int-mattered .bars .here .name").bounding_box()
    box = tab.locator("#int-mattered .bars").bounding_box()
    assert tab.locator("#int-mattered .bars").evaluate("box => box.scrollHeight > 2 * 400")
    assert box["y"] <= name["y"] <= box["y"] + box["height"] - name["height"]
