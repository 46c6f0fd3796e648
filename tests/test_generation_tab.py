"""The Generation tab without a browser: its runs, its endpoint, Stop, thirty visitors."""

from __future__ import annotations

import threading
import time
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from gradio_client import Client
from own_loop import run_async
from tiny_models import TINY, TinyRegistry, tiny_model

import gpt.ui.generation.tab as tab
from gpt import SamplingOptions
from gpt.checkpoints import precision_record
from gpt.checkpoints.sources import config_of
from gpt.generate import generate
from gpt.ui.generation import run as runs_module
from gpt.ui.generation import settings
from gpt.ui.generation.continuation import Continuation, token_chip
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.run import Writing, local_row, wish
from gpt.ui.visit import Visit, Visitor

WIDE = replace(TINY, vocab_size=50257, context_length=600, emb_dim=6)
OPTIONS = SamplingOptions(max_new_tokens=12, seed=3)
VALUES = {**settings.DEFAULTS, "max_new_tokens": 12, "temperature": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def registry():
    return TinyRegistry({"storyteller": tiny_model(WIDE), "book-124M": tiny_model(WIDE, seed=1)})


@pytest.fixture(scope="module")
def url(registry):
    with gr.Blocks() as demo:
        demo.unload(tab.build(registry, "storyteller").left)
    demo.queue(api_open=False, max_size=1024, default_concurrency_limit=1)
    _, address, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, max_threads=300
    )
    yield address
    demo.close()


def alone(registry, tokenizer, prompt="Hello", options=OPTIONS, source="storyteller"):
    """The continuation that the package gives without a page."""
    written = Continuation(tokenizer, options.max_new_tokens, "cpu, float32")
    steps = generate(
        registry.models[source], tokenizer.encode(prompt), options, tokenizer.end_of_text_id
    )
    for number, step in enumerate(steps):
        written.add(0.01 * (number + 1), step)
    return written


async def everything(updates):
    return [update async for update in updates]


def written_by(writing):
    """(text, number of chips, stage) at each update of a run."""

    async def read():
        run = writing()
        return run, [
            (run.written.text, run.written.chips.count("<button"), run.stage)
            async for _ in run.updates(set())
        ]

    return run_async(read())


# What is written


def test_text_and_chips_grow_together_and_end_as_the_ids_decode(registry, tokenizer):
    asked = wish(registry, "Hello", OPTIONS, "storyteller", precision="float32")
    run, seen = written_by(lambda: Writing(asked, partial(local_row, registry)))
    texts = [text for text, _, _ in seen]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == tokenizer.decode(step.token_id for step in run.written.steps)
    assert texts[-1] == alone(registry, tokenizer).text
    counts = [count for _, count, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 12


def test_statistics_say_what_was_measured(registry, tokenizer):
    told = alone(registry, tokenizer).statistics()
    for part in (
        "12 of 12 tokens", "100 tokens/s", "first token after 10.0 ms", "12 tokens of context",
        "seed 3", "on cpu, float32", "stopped at your limit of 12 tokens",
    ):  # fmt: skip
        assert part in told


def test_a_long_prompt_is_told_before_the_first_token(registry):
    asked = wish(registry, "a " * 700, OPTIONS, "storyteller")
    assert "the context holds 600" in asked.notes[0]
    html = Continuation(asked.tokenizer, 1, asked.where, asked.notes).told_html()
    assert "the context holds 600" in html


def test_a_chip_says_what_was_drawn_and_what_else_could_have_come(registry, tokenizer):
    step = alone(registry, tokenizer).steps[0]
    chip = token_chip(tokenizer, step, 0)
    first, second, third = chip.title.split("\n")
    assert chip.shade == step.probability
    assert f"drawn at u = {step.uniform:.4f}" in first
    others = [c for c in step.candidates if c.token_id != step.token_id][:5]
    assert second.count(" %") + second.count("1 in ") == len(others)
    assert tokenizer.piece(others[0].token_id).display in second
    assert f"id {step.token_id:,}" in third


def test_every_token_is_escaped(registry, tokenizer):
    """A token such as `<img` must never reach the page as markup."""
    step = alone(registry, tokenizer).steps[0]
    written = Continuation(tokenizer, 9, "<b>", ["<b>"])
    for token_id in tokenizer.encode("<img src=x>&\"'"):
        written.add(0.1, replace(step, token_id=token_id))
    assert "<img" not in written.chips
    assert "&lt;" in written.chips
    assert "<b>" not in written.told_html()


def test_a_model_of_a_larger_vocabulary_shows_ids_that_stand_for_no_text(registry, tokenizer):
    step = replace(alone(registry, tokenizer).steps[0], token_id=50299)
    assert token_chip(tokenizer, step, 0).label == "⟨50299⟩"


# What is asked for


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "The prompt is empty"),
        ("a" * 50_001, "50,001 characters: use at most 50,000"),
        (None, "The prompt is a NoneType: use text"),
        (5, "The prompt is a int: use text"),
    ],
)
def test_an_impossible_prompt_is_one_line_before_any_model_loads(registry, prompt, message):
    before = registry.borrowed
    with pytest.raises(ValueError, match=message):
        wish(registry, prompt, OPTIONS, "storyteller")
    assert registry.borrowed == before


def test_a_prompt_outside_a_small_vocabulary_is_refused_before_its_model_loads():
    small = TinyRegistry({"storyteller": tiny_model()})
    with pytest.raises(ValueError, match="this model knows 97 tokens"):
        wish(small, "Hello", OPTIONS, "storyteller")


def test_the_controls_mean_what_their_help_says():
    read = settings.sampling_options
    off = {"top_k": 0, "top_p": 1, "min_p": 0, "seed": -1}
    assert read({**off, "max_new_tokens": 5.0, "temperature": 0.8}) == SamplingOptions(5, 0.8)
    some = {"max_new_tokens": 5, "temperature": 0, "top_k": 3.0, "top_p": 0.5, "min_p": 0.1}
    assert read({**some, "seed": 7.0}) == SamplingOptions(
        max_new_tokens=5, temperature=0, top_k=3, top_p=0.5, min_p=0.1, seed=7
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_new_tokens", 501, "use at most 500"),
        ("max_new_tokens", 2.5, "max_new_tokens is 2.5"),
        ("max_new_tokens", None, "max_new_tokens is None"),
        ("max_new_tokens", "5", "max_new_tokens is '5'"),
        ("temperature", None, "temperature is None"),
        ("temperature", "hot", "temperature is 'hot'"),
        ("temperature", float("nan"), "temperature is nan"),
        ("top_p", 0, "top_p is 0"),
        ("seed", 2**64, "seed is"),
    ],
)
def test_an_impossible_value_is_one_line(name, value, message):
    """None and "5" were a traceback in the log, and 2.5 tokens became 2 without a word."""
    with pytest.raises(ValueError, match=message):
        settings.sampling_options({**settings.DEFAULTS, name: value})


def test_the_precision_asked_for_is_borrowed_and_named(monkeypatch):
    class Asked(TinyRegistry):
        def borrow(self, source, device, precision, progress):
            self.asked = (source, device, precision)
            return super().borrow(source)

    asking = Asked({"storyteller": tiny_model(WIDE)})
    monkeypatch.setattr(runs_module, "default_precision", lambda source, device: "float16")
    for precision, got in (("auto", "float16"), ("int8", "int8")):
        asked = wish(asking, "Hello", OPTIONS, "storyteller", precision=precision)
        run, _ = written_by(lambda asked=asked: Writing(asked, partial(local_row, asking)))
        assert asking.asked == ("storyteller", "cpu", got)
        assert f"on cpu, {got}" in run.written.statistics()


def test_what_a_precision_costs_stands_beside_the_choice(monkeypatch, tmp_path):
    costs = {
        name: precision_record.Measured(kl, agreement, perplexity, 1000, rate, 1)
        for name, kl, agreement, perplexity, rate in [
            ("float32", 0.0, 1.0, 27.01, 10.0),
            ("int8", 0.00042, 0.983, 27.05, 30.0),
        ]
    }
    precision_record.record("gpt2", "tales.txt", costs, tmp_path / "record.json")
    found = precision_record.recorded("gpt2", tmp_path / "record.json")
    monkeypatch.setattr(settings, "recorded", lambda source: found)
    monkeypatch.setattr(settings, "default_precision", lambda source, device: found["default"])
    note = settings.precision_note("gpt2")
    assert note.startswith("Auto uses int8 here. int8 has the same top token as float32 in 98.3 %")
    assert "1,000 held-out tokens; mean KL divergence 0.00042 nats" in note
    assert "float32 is exact" in settings.precision_note("gpt2", "float32")
    assert "was not measured" in settings.precision_note("gpt2", "float16")


def test_the_example_that_promises_the_top_word_is_greedy():
    (example,) = [e for e in settings.EXAMPLES if "always the top word" in e.label]
    assert {**settings.DEFAULTS, **example.settings}["temperature"] == 0


def test_the_books_example_is_greedy_with_six_tokens():
    book = next(e for e in settings.EXAMPLES if e.source == "book-124M")
    options = settings.sampling_options({**settings.DEFAULTS, **book.settings})
    assert (book.prompt, book.precision) == ("Hello, I am", "float32")
    assert (options.max_new_tokens, options.temperature) == (6, 0)


# Stop, waiting, failing


class SlowRegistry(TinyRegistry):
    """A model that is there once `loaded` is set; counts what was given back."""

    def __init__(self, models):
        super().__init__(models)
        self.loaded, self.given_back = threading.Event(), 0

    @contextmanager
    def borrow(self, source, device, precision, progress):
        progress(0.5, "downloading")
        self.loaded.wait(30)
        with super().borrow(source) as model:
            try:
                yield model
            finally:
                self.given_back += 1


def test_stop_while_a_model_loads_is_at_once_and_gives_the_model_back(registry):
    """A run stopped while its model loaded counted as running until the load was over."""
    slow = SlowRegistry(registry.models)
    asked = wish(slow, "Hello", OPTIONS, "storyteller")

    async def stop_it():
        run = Writing(asked, partial(local_row, slow))
        async for _ in run.updates(set()):
            if run.stage.startswith("Downloading … 50 %"):
                run.stop()
        return run.written

    written = run_async(stop_it())
    assert (written.text, written.chips, written.stopped) == ("", "", True)
    assert slow.given_back == 0
    slow.loaded.set()
    until(lambda: slow.given_back == 1)


def test_who_leaves_at_the_first_update_gives_the_model_back(registry):
    """The load went on, and the model stayed borrowed, as long as anybody held the run."""
    slow = SlowRegistry(registry.models)
    asked = wish(slow, "Hello", OPTIONS, "storyteller")
    left = []

    async def leave():
        run = Writing(asked, partial(local_row, slow))
        left.append(run)
        async with aclosing(run.updates(set())) as updates:
            await anext(updates)

    run_async(leave())
    slow.loaded.set()
    until(lambda: slow.given_back == slow.borrowed)
    assert left[0]._left


def until(met, seconds=30):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stop_leaves_chips_of_exactly_the_tokens_of_the_text(registry, tokenizer):
    asked = wish(registry, "Hello", replace(OPTIONS, max_new_tokens=500), "storyteller")

    async def stop_it():
        run = Writing(asked, partial(local_row, registry))
        async for _ in run.updates(set()):
            if run.written.steps:
                run.stop()
        return run.written

    written = run_async(stop_it())
    count = len(written.steps)
    assert 0 < count < 500
    assert written.chips.count("<button") == count
    assert written.text == tokenizer.decode(step.token_id for step in written.steps)
    assert f"stopped by you after {count:,} tokens" in written.statistics()


def test_a_closed_run_frees_its_row(registry):
    asked = wish(registry, "Hello", replace(OPTIONS, max_new_tokens=500), "storyteller")
    scheduler = runs_module.scheduler_for(registry.models["storyteller"])

    async def leave():
        run = Writing(asked, partial(local_row, registry))
        async with aclosing(run.updates(set())) as updates:
            async for _ in updates:
                if run.written.steps:
                    break

    run_async(leave())
    until(lambda: scheduler.running == 0)


def test_a_full_line_is_one_line(registry, monkeypatch):
    monkeypatch.setattr(runs_module, "MAX_WAITING", 0)
    asked = wish(registry, "Hello", OPTIONS, "storyteller")
    with pytest.raises(ValueError, match="others are waiting to write: try again in a minute"):
        written_by(lambda: Writing(asked, partial(local_row, registry)))


class Page:
    """The tab's handlers without a server: what a page shows at each update."""

    def __init__(self, registry, session="one"):
        with gr.Blocks():
            self.layout = Layout(registry, "storyteller", "cpu")
            self.loaded = gr.State("storyteller")
            self.visitor = gr.State(Visitor())
        self.known = Visitor()
        self.runs = tab.Runs(registry, None)
        self.start, self.write, self._finish = tab._handlers(
            self.layout, self.runs, self.loaded, self.visitor
        )

    def data(self, source="storyteller", prompt="Hello", beside_untrained=False):
        layout = self.layout
        return {
            layout.prompt: prompt, layout.model: source, layout.device: "cpu",
            layout.precision: "float32", layout.beside_untrained: beside_untrained,
            self.loaded: "storyteller",
            self.visitor: self.known,
            **{component: VALUES[name] for name, component in layout.settings.items()},
        }  # fmt: skip

    async def press(self, session="one", example=None, **asked):
        """The updates of a click on Generate, or on an example."""
        request = SimpleNamespace(session_hash=session)
        await self.start(example)(request)
        async with aclosing(self.write(self.data(**asked), request)) as updates:
            async for update in updates:
                yield update

    async def finish(self, model="storyteller", session="one"):
        """Whether Generate is shown at the end (None: as before), and the model."""
        run, _, chosen = await self._finish(
            model, "storyteller", SimpleNamespace(session_hash=session)
        )
        return run.get("visible"), chosen


def test_a_second_run_of_a_page_is_refused_while_one_goes_on(registry):
    """Holding Shift + Enter for four seconds queued fifteen runs."""
    page = Page(registry)

    async def press_twice():
        async with aclosing(page.press()) as first:
            await anext(first)
            (refused,) = await everything(page.press())
            assert all(value == gr.skip() for value in refused.values())
            assert await page.finish() == (None, gr.skip())  # of the refused: Stop stays
            assert len(await everything(page.press(session="two"))) > 2
            await everything(first)
        assert await page.finish() == (True, gr.skip())
        assert len(await everything(page.press())) > 2

    run_async(press_twice())


def test_a_mistake_after_a_stopped_run_gives_the_button_back(registry):
    """Generate, Stop, top-k -5, Generate: Stop stayed, with nothing running."""
    page = Page(registry)

    async def stop_then_mistake():
        async with aclosing(page.press()) as updates:
            await anext(updates)
            page.runs.stop("one")
            await everything(updates)
        assert await page.finish() == (True, gr.skip())
        with pytest.raises(ValueError, match="prompt is empty"):
            await everything(page.press(prompt=""))
        return await page.finish()

    assert run_async(stop_then_mistake()) == (
        True,
        gr.skip(),
    )  # the model had nothing to do with it


def test_stop_before_the_run_is_there_stops_it(registry):
    page = Page(registry)

    async def stop_at_once():
        request = SimpleNamespace(session_hash="one")
        await page.start(None)(request)
        page.runs.stop("one")
        return (await everything(page.write(page.data(), request)))[-1]

    assert "Stopped before the first token" in run_async(stop_at_once())[page.layout.stats]


def test_a_start_that_never_began_is_forgotten(registry, monkeypatch):
    page = Page(registry)
    assert page.runs.claim("one")
    assert not page.runs.claim("one")
    monkeypatch.setattr(tab, "LOST_SECONDS", 0)
    assert page.runs.claim("one")


def test_an_example_fills_the_controls_that_it_names(registry):
    page = Page(registry)
    greedy = next(e for e in settings.EXAMPLES if e.settings.get("temperature") == 0)
    filled = run_async(page.start(greedy)(SimpleNamespace(session_hash="one")))
    values = dict(zip(page.layout.filled_by_examples, filled, strict=False))
    assert values[page.layout.prompt] == greedy.prompt
    assert values[page.layout.settings["temperature"]] == 0
    assert values[page.layout.settings["top_p"]] == settings.DEFAULTS["top_p"]


def test_a_model_that_cannot_be_loaded_gives_way_to_the_last_one_that_could(registry):
    """A failed download must leave the visitor with the model that worked."""

    class Failing(TinyRegistry):
        def borrow(self, source, *args, **kwargs):
            raise ValueError("no network")

    page = Page(Failing(registry.models))

    async def fail():
        with pytest.raises(ValueError, match="no network"):
            await everything(page.press(source="book-124M"))
        return await page.finish(model="book-124M")

    assert run_async(fail()) == (True, "storyteller")


def test_what_streams_skips_no_output(registry):
    """Gradio makes a component anew for each output skipped: 12 ms an update, not 2."""
    page = Page(registry)
    *_, last = run_async(everything(page.press()))
    assert set(last) == {*page.layout.streamed, page.loaded}
    assert all(isinstance(value, str) for value in last.values())


def test_the_untrained_twin_has_the_prompt_and_seed_of_its_run(registry, tokenizer):
    """The twin read the controls when the first run ended: by then they said something else."""
    page = Page(registry)
    shown = run_async(everything(page.press(beside_untrained=True)))[-1]
    twin = TinyRegistry({})
    source = runs_module.random_source(WIDE, 123)
    with twin.borrow(source) as model:
        twin.models["twin"] = model
        expected = alone(twin, tokenizer, source="twin").text
    assert shown[page.layout.output] == alone(registry, tokenizer).text
    assert shown[page.layout.untrained_output] == expected
    assert config_of(source) == WIDE


def test_stop_in_the_first_run_starts_no_untrained_twin(registry):
    page = Page(registry)

    async def stop_it():
        async for update in page.press(beside_untrained=True):
            page.runs.stop("one")
            shown = update
        return shown

    assert not run_async(stop_it())[page.layout.untrained_output]


def test_what_was_written_is_the_visit_of_all_tabs(registry, tokenizer):
    page = Page(registry)
    run_async(everything(page.press()))
    written = [step.token_id for step in alone(registry, tokenizer).steps]
    values = {"max_new_tokens": 12, "temperature": 1.0, "precision": "float32"}
    ids = (*tokenizer.encode("Hello"), *written)
    assert page.known.visit == Visit("storyteller", "Hello", values, 3, tokens=12, ids=ids)


# The endpoint


def test_the_endpoint_streams_by_keyword_and_ends_with_the_text(url, registry, tokenizer):
    job = Client(url, verbose=False).submit(
        prompt="Hello", max_new_tokens=12, temperature=1.0, seed=3, api_name="/generate"
    )
    text, statistics = job.result()
    assert text == alone(registry, tokenizer).text
    assert "12 of 12 tokens" in statistics
    assert all(isinstance(value, str) for output in job.outputs() for value in output)


def test_the_endpoint_needs_only_a_prompt_and_takes_a_precision_by_position(url):
    client = Client(url, verbose=False)
    assert "seed" in client.predict(prompt="Hello", max_new_tokens=2, api_name="/generate")[1]
    positional = ("Hello", 3, "cpu", 0, 0, 1, 1, "storyteller", "float16")
    assert "on cpu, float16" in client.predict(*positional, api_name="/generate")[1]


def test_the_endpoint_is_typed_and_described(url):
    """Its results were called value_19 and value_304, after component ids."""
    info = Client(url, verbose=False).view_api(return_format="dict")["named_endpoints"]["/generate"]
    types = {p["parameter_name"]: p["python_type"]["type"] for p in info["parameters"]}
    assert types["prompt"] == "str"
    assert types["max_new_tokens"] == "int"
    assert types["temperature"] == "float"
    assert [r["python_type"]["type"] for r in info["returns"]] == ["str", "str"]
    assert not any(r["label"].startswith("value_") for r in info["returns"])
    assert info["description"].startswith("Continues a prompt")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt": ""}, "The prompt is empty: write at least one character"),
        ({"prompt": "a", "max_new_tokens": None}, "max_new_tokens is None"),
        ({"prompt": "a", "temperature": "hot"}, "temperature is 'hot'"),
        ({"prompt": "a", "max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"prompt": "a", "precision": "int3"}, "precision is 'int3'"),
    ],
)
def test_the_endpoint_shows_a_callers_mistake_as_one_line(url, asked, message, capfd):
    with pytest.raises(Exception, match=message):
        Client(url, verbose=False).predict(**asked, api_name="/generate")
    assert "Traceback" not in capfd.readouterr().err


def test_a_missing_device_is_told_with_what_is_used_instead(url):
    """gradio refused it with a line of its own: the sentence could not be reached."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    asked = {"prompt": "Hello", "max_new_tokens": 2, "device": "cuda"}
    told = Client(url, verbose=False).predict(**asked, api_name="/generate")[1]
    assert "no cuda device: the CPU is used instead" in told
    assert "on cpu" in told


def test_a_cancelled_job_frees_its_row_and_the_next_is_clean(url, registry):
    client = Client(url, verbose=False)
    scheduler = runs_module.scheduler_for(registry.models["storyteller"])
    asked = {"prompt": "Hello", "seed": 1, "api_name": "/generate"}
    job = client.submit(max_new_tokens=500, **asked)
    until(lambda: any("tokens/s" in output[1] for output in job.outputs()))
    job.cancel()
    until(lambda: scheduler.running == 0)
    assert "500 of 500 tokens" not in job.outputs()[-1][1]
    assert "3 of 3 tokens" in client.predict(max_new_tokens=3, **asked)[1]


def test_thirty_runs_at_once_are_all_served_with_the_text_of_each_alone(url, registry, tokenizer):
    """Seventeen of thirty were served, in turn; thirteen met "Queue is full".

    By three clients, which cost more than their runs; tests/benchmarks/visitors.py has thirty.
    """
    clients = [Client(url, verbose=False, httpx_kwargs={"timeout": 60}) for _ in range(3)]
    jobs = [
        clients[seed % 3].submit(
            prompt=f"Visitor {seed % 5} said", max_new_tokens=20, temperature=1.0, seed=seed,
            precision="float32", api_name="/generate",
        )
        for seed in range(30)
    ]  # fmt: skip
    for seed, job in enumerate(jobs):
        options = SamplingOptions(max_new_tokens=20, seed=seed)
        expected = alone(registry, tokenizer, f"Visitor {seed % 5} said", options).text
        assert job.result(120)[0] == expected
