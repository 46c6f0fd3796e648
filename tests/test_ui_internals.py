"""The Internals tab without a browser: its endpoint, its limits, its store, its escaping."""

from __future__ import annotations

import threading
from dataclasses import replace

import gradio as gr
import pytest
import torch
from gradio_client import Client
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.tokenizer import Tokenizer
from gpt.ui.internals import build, move
from gpt.ui.internals.lab import MAX_TOKENS, Lab, RunStore
from gpt.ui.internals.logits import read_logits, softmax_figure, views
from gpt.ui.internals.prompt import prompt_chips, prompt_message
from gpt.ui.internals.sections import cancellable
from gpt.ui.internals.tables import csv_text, table_html

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)
PROMPT = "Hello, I am a little"
NASTY = "<img src=x onerror=alert(1)>&\"'\x00\x1b\u202eabc\u2066 é👍🏽\n\t${1}{{2}}</script>"


@pytest.fixture(scope="module")
def registry():
    return TinyRegistry(
        {
            "words": tiny_model(TEXTUAL),
            "numbers": tiny_model(),
            "short": tiny_model(replace(TEXTUAL, context_length=8)),
        }
    )


@pytest.fixture
def lab(registry, tokenizer):
    return Lab(registry, tokenizer)


@pytest.fixture(scope="module")
def client(registry):
    with gr.Blocks() as demo:
        build(registry, Tokenizer())
    demo.queue(api_open=False)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield Client(url, verbose=False)
    demo.close()


def test_the_endpoint_answers_by_keyword(client, registry, tokenizer):
    result = client.predict(
        prompt=PROMPT, position=2, top_k=5, model="words", api_name="/internals"
    )[0]
    with torch.no_grad():
        logits = registry.models["words"](torch.tensor([tokenizer.encode(PROMPT)]))[0, 2]
    best = logits.softmax(-1).topk(5)
    assert [row["id"] for row in result["top"]] == best.indices.tolist()
    assert [row["probability"] for row in result["top"]] == pytest.approx(best.values.tolist())
    assert result["tail"]["tokens"] == 50257 - 5
    assert result["tail"]["probability"] == pytest.approx(1 - best.values.sum().item())
    assert result["position"] == 2


def test_the_endpoint_reads_the_last_position_by_default(client, tokenizer):
    result = client.predict(prompt=PROMPT, api_name="/internals")[0]
    assert result["position"] == len(tokenizer.encode(PROMPT)) - 1
    assert [token["id"] for token in result["tokens"]] == tokenizer.encode(PROMPT)


def test_the_endpoint_is_the_only_public_one(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/internals"]


@pytest.mark.parametrize(
    ("source", "prompt", "position", "message"),
    [
        ("words", "", -1, "the prompt is empty"),
        ("words", "a " * MAX_TOKENS, -1, "tokens and this tab reads at most 128"),
        ("short", "a b c d e f g h i", -1, "at most 8"),
        ("words", "a b", 2, "position 2 is outside the prompt of 2 tokens"),
        ("numbers", "Hello", -1, "has id 15,496 and this model knows ids 0 to 96"),
    ],
)
def test_a_mistake_is_one_clear_line(lab, source, prompt, position, message):
    with pytest.raises(ValueError, match=message):
        lab.read(source, prompt, position)


def test_a_mistake_costs_no_model(lab, registry):
    before = registry.borrowed
    with pytest.raises(ValueError, match="empty"):
        lab.read("words", "")
    assert registry.borrowed == before


def test_one_pass_serves_every_control(lab, registry):
    before = registry.borrowed
    state = lab.read("words", PROMPT)
    for k in (1, 5, 50):
        views(read_logits(lab, state, k))
    prompt_chips(lab, move(state, 0))
    assert registry.borrowed == before + 1


def test_a_run_that_was_dropped_is_computed_again(lab, registry):
    lab.store = RunStore(max_bytes=1)
    state = lab.read("words", PROMPT)
    first = lab.run(state).logits
    lab.read("words", "other")
    before = registry.borrowed
    assert torch.equal(lab.run(state).logits, first)
    assert registry.borrowed == before + 1


def test_the_store_stays_within_its_bytes(lab):
    one = lab.run(lab.read("words", PROMPT)).n_bytes
    lab.store = RunStore(max_bytes=3 * one)
    states = [lab.read("words", f"{PROMPT}{tail}") for tail in ["", "one", "two", "six", "ten"]]
    held = [state for state in states if lab.store.get(("words", tuple(state["ids"])))]
    assert held == states[-len(held) :]
    assert 1 <= len(held) < len(states)


def test_visitors_at_once_read_their_own_prompt(lab):
    lab.store = RunStore(max_bytes=1)  # every look is a new pass
    prompts = [f"{word} said" for word in ("cat", "dog", "fox", "owl", "bee", "ant", "cow", "hen")]
    expected = {p: lab.run(lab.read("words", p)).logits.clone() for p in prompts}
    got: dict[str, list[bool]] = {p: [] for p in prompts}

    def visit(prompt):
        for _ in range(5):
            state = lab.read("words", prompt)
            got[prompt].append(torch.equal(lab.run(state).logits, expected[prompt]))

    threads = [threading.Thread(target=visit, args=(p,)) for p in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {p: [True] * 5 for p in prompts}


def test_a_visit_is_plain_data(lab):
    state = lab.read("words", PROMPT)
    assert {type(value) for value in state.values()} == {str, list, int}


def test_a_hostile_prompt_is_shown_as_text(lab):
    state = lab.read("words", NASTY)
    html = prompt_chips(lab, state) + prompt_message(lab, state)
    html += "".join(views(read_logits(lab, state, 20))[2:])
    assert "<img" not in html
    assert "</script" not in html
    assert not set(html) & set("\x00\x1b\u202e\u2066\n\t")
    assert html.count("data-position=") == len(state["ids"])


def test_a_table_escapes_every_cell_and_its_csv_is_exact():
    html = table_html("a<b", ["x<y"], [["<i>"]], csv_name="t", csv_rows=[['a"b,c']])
    assert "<i>" not in html
    assert "&lt;i&gt;" in html
    assert csv_text(["h"], [['a"b,c'], [0.1]]) == 'h\r\n"a""b,c"\r\n0.1\r\n'


def test_faint_probabilities_are_shown_as_multiples_of_the_uniform_one(lab):
    state = lab.read("words", PROMPT)
    read = read_logits(lab, state, 5)
    read["top"] = [{**row, "probability": 2e-5} for row in read["top"]]
    figure = softmax_figure(read)
    assert figure.layout.xaxis.title.text == "times the uniform probability, 1 in 50,257"
    assert figure.data[0].x[0] == pytest.approx(2e-5 * 50257)
    table = views(read)[2]
    assert "× uniform" in table
    assert table.count("<bdi>1.01</bdi>") == 5  # 2e-5 times 50,257


def test_moving_before_the_first_run_does_nothing():
    assert move(None, 3) == gr.skip()


def test_bars_outside_the_range_are_refused(lab):
    state = lab.read("words", PROMPT)
    with pytest.raises(ValueError, match="use 1 to 50"):
        read_logits(lab, state, 51)


def test_cancel_can_be_pressed_only_while_something_runs():
    """Pressed afterwards it replaced the result by "Cancelled."."""
    *running, ended = cancellable(iter([("1 of 2", None), ("2 of 2", None)]), 2)
    assert [view[:-1] for view in running] == [("1 of 2", None), ("2 of 2", None)]
    assert [view[-1]["interactive"] for view in (*running, ended)] == [True, True, False]
    assert ended[:-1] == (gr.skip(), gr.skip())


def test_cancel_cannot_be_pressed_after_a_failure():
    def failing():
        yield ("1 of 2",)
        raise ValueError("no memory")

    views = cancellable(failing(), 1)
    assert next(views)[-1]["interactive"]
    assert not next(views)[-1]["interactive"]
    with pytest.raises(ValueError, match="no memory"):
        next(views)
