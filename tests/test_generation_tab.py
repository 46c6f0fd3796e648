"""The Generation tab without a browser: its functions, its endpoint, Stop, two visitors."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import gradio as gr
import pytest
import torch
from gradio_client import Client
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt import SamplingOptions
from gpt.checkpoints import precision_record as compare
from gpt.ui.generation import controls
from gpt.ui.generation import tab as generation
from gpt.ui.generation.continuation import continue_text, stats_html, token_chips
from gpt.ui.generation.controls import BOOK_EXAMPLE
from gpt.ui.generation.events import Halt, after_both, after_failure, chips_after_stop, idle

WIDE = replace(TINY, vocab_size=50257, context_length=600, emb_dim=6)
OPTIONS = SamplingOptions(max_new_tokens=12, seed=3)


class SlowRegistry(TinyRegistry):
    """Models named as the page names them; `config_of` serves any name."""

    def config_of(self, source):
        return WIDE


@pytest.fixture(scope="module")
def registry():
    return SlowRegistry({"storyteller": tiny_model(WIDE), "book-124M": tiny_model(WIDE, seed=1)})


@pytest.fixture(scope="module")
def url(registry, tokenizer):
    with gr.Blocks() as demo:
        generation.build(registry, tokenizer, "storyteller")
    demo.queue(api_open=False, max_size=16, default_concurrency_limit=1)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield address
    demo.close()


def test_text_grows_by_whole_characters_and_ends_as_the_ids_decode(registry, tokenizer):
    model = registry.models["storyteller"]
    texts = []
    for run in continue_text(model, tokenizer, "Hello", OPTIONS, "cpu"):
        texts.append(run.text)
    assert texts[0] == ""
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == tokenizer.decode(step.token_id for step in run.steps)


def test_statistics_say_what_was_measured(registry, tokenizer):
    *_, run = continue_text(registry.models["storyteller"], tokenizer, "Hello", OPTIONS, "cpu")
    html = stats_html(run, 12)
    assert "12 of 12 tokens" in html
    assert "tokens/s" in html
    assert "first token after" in html
    assert "12 tokens of context" in html
    assert "seed 3" in html
    assert "on cpu" in html
    assert "reached the number of tokens asked for" in html
    assert run.first_token_seconds < run.engine_seconds


def test_a_long_prompt_is_told_before_the_first_token(registry, tokenizer):
    options = SamplingOptions(max_new_tokens=1, seed=3)
    run = next(continue_text(registry.models["storyteller"], tokenizer, "a " * 700, options, "cpu"))
    assert not run.steps
    assert "the context holds 600" in stats_html(run, 1)


def test_every_token_is_escaped(registry, tokenizer):
    """A token such as `<img` must never reach the page as markup."""
    *_, run = continue_text(registry.models["storyteller"], tokenizer, "x", OPTIONS, "cpu")
    markup = tokenizer.encode("<b>&\"'")
    run.steps = [replace(run.steps[0], token_id=i) for i in markup]
    html = token_chips(run.steps, tokenizer)
    assert "<b>" not in html.replace("<bdi>", "")
    assert "&lt;" in html


def test_a_model_of_a_larger_vocabulary_shows_ids_that_stand_for_no_text(tokenizer):
    torch.manual_seed(0)
    model = tiny_model(replace(WIDE, vocab_size=50300))
    *_, run = continue_text(model, tokenizer, "x", OPTIONS, "cpu")
    run.steps[0] = replace(run.steps[0], token_id=50299)
    assert "⟨50299⟩" in token_chips(run.steps, tokenizer)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "The prompt is empty"), ("a" * 50_001, "50,001 characters: use at most 50,000")],
)
def test_an_impossible_prompt_is_one_line_before_any_model_loads(
    registry, tokenizer, prompt, message
):
    before = registry.borrowed
    with pytest.raises(ValueError, match=message):
        next(generation.stream(registry, tokenizer, prompt, OPTIONS, "cpu", "storyteller"))
    assert registry.borrowed == before


def test_a_missing_device_is_told_with_what_is_used_instead(registry, tokenizer):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    *_, (_, stats, _, _) = generation.stream(
        registry, tokenizer, "Hello", OPTIONS, "cuda", "storyteller"
    )
    assert "no cuda device: the CPU is used instead" in stats
    assert "on cpu" in stats


@pytest.mark.parametrize(("asked", "got"), [("auto", "float16"), ("int8", "int8")])
def test_the_precision_asked_for_is_borrowed_and_named(tokenizer, monkeypatch, asked, got):
    class Asked(SlowRegistry):
        def borrow(self, source, device, precision, progress):
            self.asked = (source, device, precision)
            return super().borrow(source)

    asking = Asked({"storyteller": tiny_model(WIDE)})
    monkeypatch.setattr(generation, "default_precision", lambda source, device: "float16")
    *_, (_, stats, _, _) = generation.stream(
        asking, tokenizer, "Hello", OPTIONS, "cpu", "storyteller", precision=asked
    )
    assert asking.asked == ("storyteller", "cpu", got)
    assert f"on cpu, {got}" in stats


def test_what_a_precision_costs_stands_beside_the_choice(monkeypatch, tmp_path):
    costs = {
        name: compare.Measured(kl, agreement, perplexity, 1000, rate, 1)
        for name, kl, agreement, perplexity, rate in [
            ("float32", 0.0, 1.0, 27.01, 10.0),
            ("int8", 0.00042, 0.983, 27.05, 30.0),
        ]
    }
    compare.record("gpt2", "tales.txt", costs, tmp_path / "record.json")
    found = compare.recorded("gpt2", tmp_path / "record.json")
    monkeypatch.setattr(controls, "recorded", lambda source: found)
    monkeypatch.setattr(controls, "default_precision", lambda source, device: found["default"])
    note = controls.precision_note("gpt2")
    assert note.startswith("auto is int8 here. Measured on 1,000 held-out tokens")
    assert "98.3 %, mean KL divergence 0.00042 nats" in note
    assert "float32 is exact" in controls.precision_note("gpt2", "float32")
    assert controls.precision_note("gpt2", "float16") == (
        "What float16 costs this model was not measured."
    )


def test_the_endpoint_takes_a_precision_last(url):
    result = Client(url, verbose=False).predict(
        "Hello", 3, "cpu", 0, 0, 1, 1, "storyteller", "float16", api_name="/generate"
    )
    assert "on cpu, float16" in result[1]


def test_the_controls_mean_what_their_help_says():
    assert generation.sampling_options(5, 0.8, 0, 1, -1) == SamplingOptions(5, 0.8)
    assert generation.sampling_options(5, 0, 3.0, 0.5, 7.0) == SamplingOptions(5, 0, 3, 0.5, 7)
    with pytest.raises(ValueError, match="use at most 500"):
        generation.sampling_options(1e9, 0.8, 0, 1, -1)


def test_the_endpoint_streams_by_keyword_and_ends_with_the_text(url, registry, tokenizer):
    client = Client(url, verbose=False)
    job = client.submit(
        prompt="Hello", max_new_tokens=12, temperature=1.0, seed=3, api_name="/generate"
    )
    text = job.result()[0]
    *_, run = continue_text(registry.models["storyteller"], tokenizer, "Hello", OPTIONS, "cpu")
    assert text == run.text
    assert not text.startswith("Hello")
    assert len(job.outputs()) > 1


def test_the_endpoint_needs_only_a_prompt(url):
    result = Client(url, verbose=False).predict(prompt="Hello", api_name="/generate")
    assert "seed" in result[1]


def test_the_endpoint_shows_a_callers_mistake_as_one_line(url):
    with pytest.raises(Exception, match="The prompt is empty: write at least one character"):
        Client(url, verbose=False).predict(prompt="", api_name="/generate")


def test_a_cancelled_run_ends_and_the_next_is_clean(url):
    client = Client(url, verbose=False)
    job = client.submit(prompt="Hello", max_new_tokens=500, seed=1, api_name="/generate")
    deadline = time.monotonic() + 60
    while not job.outputs() and time.monotonic() < deadline:
        time.sleep(0.01)
    job.cancel()
    assert "500 of 500 tokens" not in job.outputs()[-1][1]
    again = client.predict(prompt="Hello", max_new_tokens=3, seed=1, api_name="/generate")
    assert "3 of 3 tokens" in again[1]


def test_the_books_example_is_greedy_with_six_tokens():
    assert (BOOK_EXAMPLE.prompt, BOOK_EXAMPLE.max_new_tokens) == ("Hello, I am", 6)
    assert (BOOK_EXAMPLE.temperature, BOOK_EXAMPLE.source) == (0.0, "book-124M")


class FailingRegistry(TinyRegistry):
    """Every model but the storyteller is out of reach."""

    def borrow(self, source, *args, **kwargs):
        if source != "storyteller":
            raise ValueError(f"{source} cannot be downloaded: there is no network.")
        return super().borrow(source)


def test_a_model_that_cannot_be_loaded_gives_way_to_the_last_one_that_could(registry, tokenizer):
    """A failed download must leave the visitor with the model that worked."""
    failing = FailingRegistry(registry.models)
    before = generation.RunMemory(loaded="storyteller")
    updates = generation.stream(failing, tokenizer, "Hello", OPTIONS, "cpu", "gpt2", before=before)
    *_, memory = next(updates)
    with pytest.raises(ValueError, match="there is no network"):
        next(updates)
    assert after_failure(memory._replace(running=False), Halt(), "gpt2")[-1] == "storyteller"


def test_the_end_of_a_stopped_run_leaves_the_buttons_to_the_next():
    """Gradio calls a stopped run a success and a failure, late: the next may have begun."""
    stopped = generation.RunMemory(1, "gpt2", "storyteller", running=True)
    assert after_failure(stopped, Halt(), "gpt2") == [gr.skip()] * 3
    assert after_both(stopped, Halt()) == [gr.skip()] * 2
    ended = stopped._replace(running=False)
    assert after_both(ended, Halt()) == idle()
    assert after_both(ended, Halt(True)) == [gr.skip()] * 2  # stopped in the queue, before it ran
    assert after_failure(ended, Halt(True), "gpt2") == [gr.skip()] * 3


def test_a_mistake_in_the_prompt_leaves_the_chosen_model(registry, tokenizer):
    memory = generation.RunMemory(loaded="storyteller")
    with pytest.raises(ValueError, match="empty"):
        next(generation.stream(registry, tokenizer, "", OPTIONS, "cpu", "book-124M", before=memory))
    assert after_failure(memory, Halt(), "book-124M")[-1] == "book-124M"


def test_the_memory_says_what_is_loading_and_then_what_is_loaded(registry, tokenizer):
    updates = [
        memory._replace(steps=())
        for *_, memory in generation.stream(
            registry, tokenizer, "Hello", OPTIONS, "cpu", "storyteller"
        )
    ]
    assert updates[0] == (3, "storyteller", "", True, ())
    assert set(updates[1:-1]) == {(3, "", "storyteller", True, ())}
    assert updates[-1] == (3, "", "storyteller", False, ())


def test_a_run_stopped_while_its_model_loads_shows_no_tokens_of_the_run_before(registry, tokenizer):
    """The memory of the stopped run went on into the next, with its tokens."""
    *_, run = continue_text(registry.models["storyteller"], tokenizer, "x", OPTIONS, "cpu")
    before = generation.RunMemory(1, "", "storyteller", True, tuple(run.steps))
    updates = generation.stream(
        registry, tokenizer, "Hello", OPTIONS, "cpu", "storyteller", before=before
    )
    *_, loading = next(updates)
    updates.close()
    assert chips_after_stop(loading, lambda steps: token_chips(steps, tokenizer)) == ""
    assert 'class="chip"' in chips_after_stop(before, lambda s: token_chips(s, tokenizer))
    ended = before._replace(running=False)
    assert chips_after_stop(ended, token_chips) == gr.skip()


def test_the_memory_holds_the_tokens_of_the_text_beside_it_for_a_run_that_is_stopped(
    registry, tokenizer
):
    """After Stop the text stayed without its tokens: only a run that ended showed them."""
    updates = generation.stream(registry, tokenizer, "Hello", OPTIONS, "cpu", "storyteller")
    lengths = []
    for text, _, chips, memory in updates:
        if memory.running:
            assert not chips
            written = b"".join(tokenizer.token_bytes(step.token_id) for step in memory.steps)
            assert written.decode(errors="ignore").startswith(text.rstrip("\ufffd"))
            lengths.append(len(memory.steps))
    assert lengths[:3] == [0, 0, 1]
    assert lengths == sorted(lengths)
