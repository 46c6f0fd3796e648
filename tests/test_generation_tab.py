"""The Generation tab without a browser: its runs, its endpoint, Stop, thirty visitors."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from gradio_client import Client
from own_loop import run_async, running
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt import SamplingOptions
from gpt.checkpoints import precision_record
from gpt.checkpoints.sources import config_of
from gpt.generate import generate
from gpt.serving import kept
from gpt.serving.scheduler import Scheduler, scheduler_for
from gpt.tokenizer import BYTE_LETTERS, Tokenizer
from gpt.ui import tabs
from gpt.ui.generation import handlers, settings, story, tab, versions
from gpt.ui.generation import runs as runs_module
from gpt.ui.generation import wish as wishes
from gpt.ui.generation.continuation import Continuation, Draft, token_chip
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.runs import Claim, Runs, Writing
from gpt.ui.generation.story import Story
from gpt.ui.generation.wish import wish
from gpt.ui.parts.errors import BUG, Blocks
from gpt.ui.parts.sentences import say
from gpt.ui.visit import Shared, Visit, Visitor

WIDE = replace(TINY, vocab_size=50257, context_length=600, emb_dim=6)
OPTIONS = SamplingOptions(max_new_tokens=12, seed=3)
VALUES = {
    **settings.STANDARD, "max_new_tokens": 12, "temperature": 1.0, "top_p": 1, "seed": 3,
    "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def registry():
    return TinyRegistry({"storyteller": tiny_model(WIDE), "book-124M": tiny_model(WIDE, seed=1)})


@pytest.fixture(scope="module")
def url(registry):
    with Blocks() as demo:
        tab.add_to(tabs.Page(registry, "storyteller"))
    demo.queue(api_open=False, max_size=1024, default_concurrency_limit=1)
    _, address, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, max_threads=300
    )
    yield address
    demo.close()


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def alone(registry, tokenizer, prompt="Hello", options=OPTIONS, source="storyteller"):
    """The continuation that the package gives without a page."""
    asked = wish(registry, prompt, VALUES, source)
    written = Continuation(Draft(asked))
    steps = generate(
        registry.models[source], tokenizer.encode(prompt), options, tokenizer.end_of_text_id
    )
    for number, step in enumerate(steps):
        written.add(0.01 * (number + 1), step)
    return written


async def everything(updates):
    return [update async for update in updates]


def asked_of(registry, **values):
    return wish(registry, "Hello", {**VALUES, **values}, "storyteller")


async def write(registry, asked):
    """A run of its own, at each update."""
    runs = Runs(registry)
    run = Writing(Draft(asked), runs)
    async with aclosing(Claim(runs).write(run)) as updates:
        async for _ in updates:
            yield run


def written_by(registry, asked):
    """The run, and (text, number of chips, stage) at each update of it."""

    async def read():
        return [(run, seen(run)) async for run in write(registry, asked)]

    def seen(run):
        return run.written.text, run.written.chips.count("<button"), run.stage

    updates = run_async(read())
    return updates[-1][0], [shown for _, shown in updates]


# What is written


def test_text_and_chips_grow_together_and_end_as_the_ids_decode(registry, tokenizer):
    run, seen = written_by(registry, asked_of(registry))
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
    asked = wish(registry, "a " * 700, VALUES, "storyteller")
    assert "the context holds 600" in asked.notes[0]
    html = Continuation(Draft(asked)).told_html()
    assert "the context holds 600" in html


def test_a_chip_says_what_was_drawn_and_what_else_could_have_come(registry, tokenizer):
    step = alone(registry, tokenizer).steps[0]
    chip = token_chip(tokenizer, step, 0)
    first, second, third = chip.title.split("\n")
    assert chip.shade == step.probability
    assert f"drawn at random, u = {step.uniform:.4f}" in first
    others = [c for c in step.candidates if c.token_id != step.token_id][:3]
    assert second.count(" %") + second.count("1 in ") == len(others)
    assert tokenizer.piece(others[0].token_id) in second
    assert f"id {step.token_id:,}" in third


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_chip_of_a_token_that_the_visitor_chose_says_so(registry, tokenizer, temperature):
    """It said that the token was drawn, or the likeliest."""
    options = replace(OPTIONS, temperature=temperature, steering=((2, 500),))
    step = alone(registry, tokenizer, options=options).steps[2]
    first = token_chip(tokenizer, step, 2).title.split("\n")[0]
    assert first.endswith(f", your choice; rank {step.rank:,} in the model's order")


def test_every_token_is_escaped(registry, tokenizer):
    """A token such as `<img` must never reach the page as markup."""
    step = alone(registry, tokenizer).steps[0]
    asked = replace(asked_of(registry), device="<b>", fits=("<b>",))
    written = Continuation(Draft(asked))
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
        ("", "the prompt is empty"),
        ("a" * 5_000_000, "5,000,000 characters: use at most 50,000"),
        (None, "the prompt is None: use a text"),
        (5, "the prompt is 5: use a text"),
    ],
)
def test_an_impossible_prompt_is_one_line_before_any_model_loads(registry, prompt, message):
    before = registry.borrowed
    with pytest.raises(ValueError, match=message):
        wish(registry, prompt, VALUES, "storyteller")
    assert registry.borrowed == before


def test_a_prompt_outside_a_small_vocabulary_is_refused_before_its_model_loads():
    small = TinyRegistry({"storyteller": tiny_model()})
    with pytest.raises(ValueError, match="this model knows ids 0 to 96"):
        wish(small, "Hello", VALUES, "storyteller")


def test_the_controls_mean_what_their_help_says():
    read = settings.sampling_options
    off = {"top_k": 0, "top_p": 1, "min_p": 0, "seed": -1, "stop": ""}
    assert read({**off, "max_new_tokens": 5.0, "temperature": 0.8}) == SamplingOptions(5, 0.8)
    some = {"max_new_tokens": 5, "temperature": 0, "top_k": 3.0, "top_p": 0.5, "min_p": 0.1}
    assert read({**some, "seed": 7.0, "stop": ""}) == SamplingOptions(
        max_new_tokens=5, temperature=0, top_k=3, top_p=0.5, min_p=0.1, seed=7
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_new_tokens", 501, "use at most 500"),
        ("max_new_tokens", None, "max_new_tokens is empty: use a number from 1 to 500"),
        ("temperature", None, "temperature is empty: use a number from 0 to 2"),
        ("top_k", -1, "top_k is -1: use a whole number of at least 1, or none to keep every token"),
        ("seed", -7, "seed is -7: use a whole number of at least 0, or none to draw one"),
        ("max_new_tokens", 2.5, "max_new_tokens is 2.5"),
        ("max_new_tokens", "5", "max_new_tokens is '5'"),
        ("temperature", float("nan"), "temperature is nan"),
        ("seed", 2**64, "seed is"),
    ],
)
def test_an_impossible_value_is_one_line(name, value, message):
    """None and "5" were a traceback in the log, and 2.5 tokens became 2 without a word."""
    with pytest.raises(ValueError, match=message):
        settings.sampling_options({**settings.DEFAULTS, name: value})


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"max_new_tokens": 501}, "Max new tokens is 501: use at most 500"),
        ({"top_p": 2}, "Top-p is 2: use more than 0"),
        ({"stop": None}, "Stop text is None: use a text"),
    ],
)
def test_the_page_calls_a_wrong_setting_as_its_box_and_python_as_its_field(page, changed, line):
    """The line was about max_new_tokens, which is the box “Max new tokens”."""
    (name,) = changed
    with pytest.raises(ValueError, match=f"^{line}"):
        page.do("write", **changed)
    with pytest.raises(ValueError, match=f"^{name} is"):
        settings.sampling_options({**settings.DEFAULTS, **changed})


def test_the_precision_asked_for_is_borrowed_and_named(monkeypatch):
    class Asked(TinyRegistry):
        def borrow(self, source, device, precision, progress):
            self.asked = (source, device, precision)
            return super().borrow(source)

    asking = Asked({"storyteller": tiny_model(WIDE)})
    monkeypatch.setattr(wishes, "default_precision", lambda source, device: "float16")
    for precision, got in (("auto", "float16"), ("int8", "int8")):
        asked = wish(asking, "Hello", {**VALUES, "precision": precision}, "storyteller")
        run, _ = written_by(asking, asked)
        assert asking.asked == ("storyteller", "cpu", got)
        assert f"on cpu, {got}" in run.written.statistics()


def test_what_a_precision_costs_stands_beside_the_choice(monkeypatch, tmp_path):
    names = "mean_kl_nats", "top1_agreement", "perplexity", "n_tokens", "tokens_per_second"
    costs = {
        "float32": dict(zip(names, (0.0, 1.0, 27.01, 1000, 10.0), strict=True)),
        "int8": dict(zip(names, (0.00042, 0.983, 27.05, 1000, 30.0), strict=True)),
    }
    monkeypatch.setattr(precision_record, "RECORD", tmp_path / "record.json")
    precision_record.write_record("gpt2", "tales.txt", costs)
    note = settings.precision_note("gpt2")
    assert note.startswith("Auto uses int8 here. int8 has the same top token as float32 in 98.3 %")
    assert "1,000 held-out tokens; mean KL divergence 0.00042 nats (how far" in note
    assert "perplexity 27.1" in note
    assert "float32 is exact" in settings.precision_note("gpt2", "float32")
    assert "was not measured" in settings.precision_note("gpt2", "float16")


def test_the_examples_that_promise_the_top_word_are_greedy():
    greedy = settings.EXAMPLES["A dragon · always the top word"]
    book = settings.EXAMPLES["The book's untrained model"]
    assert greedy.settings["temperature"] == 0
    assert (book.model, book.prompt) == ("book-124M", "Hello, I am")
    assert book.settings == {"max_new_tokens": 6, "temperature": 0, "precision": "float32"}


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


class Failing(TinyRegistry):
    """Of models that cannot be had any more."""

    def borrow(self, *_, **__):
        raise ValueError("no model")


def test_stop_while_a_model_loads_is_at_once_and_gives_the_model_back(registry):
    """A run stopped while its model loaded counted as running until the load was over."""
    slow = SlowRegistry(registry.models)

    async def stop_it():
        async for run in write(slow, asked_of(slow)):
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

    async def leave():
        async with aclosing(write(slow, asked_of(slow))) as updates:
            return await anext(updates)

    left = run_async(leave())
    slow.loaded.set()
    until(lambda: slow.given_back == slow.borrowed)
    assert left.over


def until(met, seconds=30):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stop_leaves_chips_of_exactly_the_tokens_of_the_text(registry, tokenizer):

    async def stop_it():
        async for run in write(registry, asked_of(registry, max_new_tokens=500)):
            if run.written.steps:
                run.stop()
        return run.written

    written = run_async(stop_it())
    count = len(written.steps)
    assert 0 < count < 500
    assert written.chips.count("<button") == count
    assert written.text == tokenizer.decode(step.token_id for step in written.steps)
    assert f"stopped by you after {count:,} token" in written.statistics()


def test_who_reads_slowly_gets_the_last_token(registry, tokenizer):
    """What came while an update was on its way was lost if the run ended meanwhile."""

    async def read():
        async for run in write(registry, asked_of(registry)):
            seen = run.written.text
            while seen and not run.over:
                await asyncio.sleep(0.01)
        return seen

    assert run_async(read()) == alone(registry, tokenizer).text


def test_a_closed_run_frees_its_row(registry):
    scheduler = runs_module.scheduler_for(registry.models["storyteller"])

    async def leave():
        run = write(registry, asked_of(registry, max_new_tokens=500))
        async with aclosing(run) as updates:
            async for run in updates:
                if run.written.steps:
                    break

    run_async(leave())
    until(lambda: running(scheduler) == 0)


def test_a_call_of_the_endpoint_ends_with_its_session_and_no_other(registry):
    """The row of a script that had gone wrote on to the end: only pages' runs were stopped."""
    runs, request = Runs(registry), SimpleNamespace(session_hash="one")

    async def leave():
        call = tab.endpoint(runs, "storyteller")(
            "Hello", 500, precision="float32", stop="", request=request
        )
        async with aclosing(call) as updates:
            while not (await anext(updates))[0]:
                pass
            await runs.stop(SimpleNamespace(session_hash="two"))
            await anext(updates)
            await runs.stop(request)
            return (await everything(updates))[-1][1]

    said = run_async(leave())
    assert "of 500 tokens" in said
    assert not said.startswith("500 ")


def test_keys_and_values_are_kept_of_texts_that_a_page_can_go_on_with_only():
    """Each call of a script left 2 MiB behind that nothing could ask for, up to 64 MiB a model."""
    model = tiny_model(WIDE)
    page = Page(TinyRegistry({"storyteller": model}))
    call = tab.endpoint(page.runs, "storyteller")
    run_async(everything(call("Hello", 5, precision="float32", stop="")))
    assert model not in kept._texts
    page.do("write", max_new_tokens=5)
    assert len(kept._texts[model]) == 1


def test_who_waits_sees_the_place_and_who_stops_has_left_the_line_at_once(registry, monkeypatch):
    """Stop was seen at the next look only, a quarter of a second later."""
    scheduler = scheduler_for(registry.models["storyteller"])
    monkeypatch.setattr(scheduler, "max_rows", 1)
    monkeypatch.setattr(runs_module, "LOOK_SECONDS", 0.01)

    async def second():
        run = Writing(Draft(asked_of(registry)), Runs(registry))
        writing = run.start(lambda: None)
        while not run.stage.startswith("Waiting to write: place 1"):
            await asyncio.sleep(0.01)
        monkeypatch.setattr(runs_module, "LOOK_SECONDS", 60)
        await asyncio.sleep(0.05)  # into a look of a minute
        run.stop()
        await asyncio.wait([writing], timeout=30)
        assert run.over

    with closing(scheduler.submit([1], SamplingOptions(10**6, seed=1))) as first:
        run_async(anext(first))
        run_async(second())
        assert scheduler.waiting == 0


def test_updates_come_seldom_where_many_write_and_four_times_a_second_at_least():
    times = [runs_module.update_seconds(writing) for writing in (1, 8, 16, 30, 200)]
    assert times == sorted(times)
    assert 0.05 < times[0] < times[2] < times[-1] <= 0.22


def test_a_full_line_is_one_line(registry, monkeypatch):
    monkeypatch.setattr(runs_module, "MAX_WAITING", 0)
    with pytest.raises(ValueError, match="others are waiting to write: try again in a minute"):
        written_by(registry, asked_of(registry))


@functools.cache
def components():
    """What all pages share: components, which no handler changes."""
    with gr.Blocks():
        named = TinyRegistry(dict.fromkeys(("storyteller", "book-124M")))
        return Shared(), Layout(named, "storyteller", "cpu")


class Page:
    """The tab's handlers without a server: what a page shows at each update."""

    def __init__(self, registry):
        self.shared, self.layout = components()
        self.runs = Runs(registry)
        self.handlers = handlers.Handlers(self.layout, self.runs, self.shared)
        self.story, self.known = Story(loaded="storyteller"), Visitor()

    def data(self, source="storyteller", prompt="Hello", **values):
        layout = self.layout
        return {
            layout.prompt: prompt, layout.model: source, layout.guess: values.pop("guess", False),
            layout.by: values.pop("by", "seed"), layout.count: values.pop("count", 3),
            self.handlers.story: self.story,
            self.shared.visitor: self.known,
            **{c: {**VALUES, **values}[name] for name, c in layout.settings.items()},
        }  # fmt: skip

    async def press(self, session="one", order=("write", None), event=None, **asked):
        """The updates of an event that asks for a run."""
        request = SimpleNamespace(session_hash=session)
        self.filled = await self.handlers.start(order)(self.story, request, event)
        async with aclosing(self.handlers.write(self.data(**asked))) as updates:
            async for update in updates:
                yield update

    def do(self, kind, value=None, event=None, **asked):
        """The last update of it."""
        return run_async(everything(self.press("one", (kind, value), event, **asked)))[-1]

    def change(self, name, prompt="Hello", event=None):
        handler = self.handlers.change(name)
        return run_async(handler(self.story, self.known, prompt, event))

    @property
    def ids(self):
        return [step.token_id for step in self.story.seen.steps[: self.story.seen.shown]]

    async def finish(self, failed=None):
        """Whether Generate is shown at the end (None: as before), and the model.

        `failed` is the model that is chosen as a run ends with an error.
        """
        ends = self.handlers.failed(self.story, failed) if failed else None
        shown = await (ends or self.handlers.finish(self.story))
        return shown.get(self.layout.run, {}).get("visible"), shown.get(self.layout.model)


@pytest.fixture
def page(registry):
    return Page(registry)


def test_a_second_run_of_a_page_is_refused_while_one_goes_on(page, registry):
    """Holding Shift + Enter for four seconds queued fifteen runs."""

    async def press_twice():
        async with aclosing(page.press()) as first:
            await anext(first)
            (refused,) = await everything(page.press())
            assert refused == gr.skip()
            assert await page.finish() == (None, None)  # of the refused: Stop stays
            assert len(await everything(Page(registry).press(session="two"))) > 2
            await everything(first)
        assert await page.finish() == (True, None)
        assert len(await everything(page.press())) > 2

    run_async(press_twice())


def test_a_mistake_after_a_stopped_run_gives_the_button_back(page):
    """Generate, Stop, top-k -5, Generate: Stop stayed, with nothing running."""

    async def stop_then_mistake():
        async with aclosing(page.press()) as updates:
            await anext(updates)
            page.story.claim.stop()
            await everything(updates)
        assert await page.finish() == (True, None)
        with pytest.raises(ValueError, match="prompt is empty"):
            await everything(page.press(prompt=""))
        return await page.finish(failed="storyteller")

    assert run_async(stop_then_mistake()) == (True, None)  # the model had nothing to do with it


def test_a_mistake_leaves_the_text_as_it_was(page):
    """The click had cleared text and chips; the line that refused it left them so."""
    written = page.do("write")
    with pytest.raises(ValueError, match="prompt is empty"):
        page.do("write", prompt="")
    assert page.filled[page.layout.output] == ""
    shown = run_async(page.handlers.failed(page.story, "storyteller"))
    assert {box: shown[box] for box in page.layout.streamed} == written
    assert shown[page.layout.run]["visible"]


def test_stop_before_the_run_is_there_stops_it(page):
    async def stop_at_once():
        request = SimpleNamespace(session_hash="one")
        await page.handlers.start(("write", None))(page.story, request)
        await page.runs.stop(request)
        return (await everything(page.handlers.write(page.data())))[-1]

    assert "Stopped before the first token" in run_async(stop_at_once())[page.layout.stats]


def test_a_start_that_never_began_gives_way_to_the_next(page):
    async def press_twice():
        request = SimpleNamespace(session_hash="one")
        await page.handlers.start(("more", None))(page.story, request)
        assert len(await everything(page.press())) > 2
        return await everything(page.handlers.write(page.data()))  # of the first, after all

    assert run_async(press_twice()) == [gr.skip()]


def test_a_run_that_gradio_refuses_gives_the_button_back(page):
    """Its queue was full: Stop stayed, with nothing running."""
    run_async(page.handlers.start(("write", None))(page.story, SimpleNamespace(session_hash="one")))
    assert run_async(page.finish(failed="storyteller")) == (True, None)


def test_an_example_that_takes_a_clicks_place_is_written_as_it_says(page):
    """The prompt of the click before was written beneath the example's."""
    example = Visit("storyteller", "The dragon", {"max_new_tokens": 3}, seed=7)

    async def press_both():
        request = SimpleNamespace(session_hash="one")
        await page.handlers.start(("write", None))(page.story, request)
        await page.handlers.start(("example", example))(page.story, request)
        await everything(page.handlers.write(page.data()))  # of the first

    run_async(press_both())
    asked = page.story.present.asked
    assert (asked.prompt, asked.options.seed, len(page.ids)) == ("The dragon", 7, 3)


def test_a_page_that_is_closed_between_click_and_run_writes_nothing_and_leaves_no_claim(registry):
    """One stayed for each such page, as long as the server ran."""
    with gr.Blocks() as whole:
        tab.add_to(tabs.Page(registry, "storyteller"))
    (left,) = [f.fn for f in whole.fns.values() if (None, "unload") in f.targets]
    page, before = Page(registry), registry.borrowed
    page.runs = page.handlers.runs = left.__self__

    async def click_and_close():
        request = SimpleNamespace(session_hash="one")
        await page.handlers.start(("write", None))(page.story, request)
        await left(request)
        await everything(page.handlers.write(page.data()))  # it was on its way

    run_async(click_and_close())
    assert registry.borrowed == before
    assert not page.runs.claims


def test_an_example_fills_the_controls_that_it_names(page):
    greedy = next(e for e in settings.EXAMPLES.values() if e.settings.get("temperature") == 0)
    start = page.handlers.start(("example", greedy))
    values = run_async(start(page.story, SimpleNamespace(session_hash="one")))
    assert values[page.layout.prompt] == greedy.prompt
    assert values[page.layout.settings["temperature"]] == 0
    assert values[page.layout.settings["top_p"]] == settings.DEFAULTS["top_p"]


def test_a_model_that_cannot_be_loaded_gives_way_to_the_last_one_that_could(registry):
    """A failed download must leave the visitor with the model that worked."""

    page = Page(Failing(registry.models))

    async def fail():
        with pytest.raises(ValueError, match="no model"):
            await everything(page.press(source="book-124M"))
        return await page.finish(failed="book-124M")

    assert run_async(fail()) == (True, "storyteller")


class Gone(TinyRegistry):
    """The same, with the package's own line."""

    def borrow(self, *_, **__):
        config_of("gone")


def test_why_another_model_is_chosen_stays_beside_the_text(registry):
    """A link to a model that could not be downloaded: the toast went, and nothing said why the
    page had another model.
    """
    page = Page(registry)
    written = page.do("write")
    page.runs.registry = Gone(registry.models)
    with pytest.raises(ValueError, match="gone") as caught:
        page.do("write", source="book-124M")
    shown = run_async(page.handlers.failed(page.story, "book-124M"))
    told = f"{caught.value} Another model is chosen above in its place."
    assert shown[page.layout.stats] == say(told, "note") + written[page.layout.stats]
    with pytest.raises(ValueError, match="gone"):  # of the model that wrote
        page.do("write")
    shown = run_async(page.handlers.failed(page.story, "storyteller"))
    assert {box: shown[box] for box in page.layout.streamed} == written


def test_beside_the_text_a_fault_is_called_one_and_no_mistake_of_before_is_told(registry):
    """Why another model is chosen was the line of an earlier run, about a setting."""
    page = Page(Failing(registry.models))
    with pytest.raises(ValueError, match="Top-p is 2"):
        page.do("write", top_p=2)
    with pytest.raises(ValueError, match="no model"):
        page.do("write", source="book-124M")
    shown = run_async(page.handlers.failed(page.story, "book-124M"))
    told = say(f"{BUG} Another model is chosen above in its place.", "note")
    assert shown[page.layout.stats].startswith(told)


def test_what_streams_skips_no_output(page):
    """Gradio makes a component anew for each output skipped: 12 ms an update, not 2."""
    *_, last = run_async(everything(page.press()))
    assert set(last) == {*page.layout.streamed}
    assert all(isinstance(value, str) for value in last.values())


# Steering, steps, undo, versions


def test_another_token_cuts_the_text_and_the_same_seed_goes_on(page, registry, tokenizer):
    page.do("write")
    before = page.ids
    page.story.chosen = 4
    shown = page.do("use", event=SimpleNamespace(token=500))
    options = replace(OPTIONS, steering=((4, 500),))
    expected = alone(registry, tokenizer, options=options)
    assert page.ids == [step.token_id for step in expected.steps] != before
    assert page.ids[:5] == [*before[:4], 500]
    assert shown[page.layout.output] == expected.text
    assert (
        "Steered: you chose 1 token; all others are drawn with seed 3."
        in (shown[page.layout.stats])
    )
    assert page.known.visit.steering == ((4, 500),)
    page.story.chosen = 2
    page.do("use", event=SimpleNamespace(token=7))
    assert page.known.visit.steering == ((2, 7),)  # the later one was cut off


@pytest.mark.parametrize(("kind", "event"), [("use", SimpleNamespace(token=500)), ("more", None)])
def test_a_text_that_cannot_go_on_stays_as_it_was(page, registry, kind, event):
    """Another token cut it, and nothing came after that: a trained model is kept for an hour."""
    page.do("write")
    page.story.chosen = 4
    before, visit = page.ids, page.known.visit
    page.runs.registry = Failing(registry.models)
    with pytest.raises(ValueError, match="no model"):
        page.do(kind, event=event)
    assert (page.ids, page.known.visit) == (before, visit)
    assert len(page.story.drafts) == 1


def test_steps_are_the_tokens_of_one_long_run(registry, tokenizer):
    """One at a time, ten at once, back and on again: always those of a run of that length."""
    page, long = Page(registry), replace(OPTIONS, max_new_tokens=40)
    whole = [step.token_id for step in alone(registry, tokenizer, options=long).steps]
    before = registry.borrowed
    page.do("next", 1)
    assert (page.ids, page.story.chosen) == (whole[:1], 0)
    page.do("next", 1)
    page.do("next", 1)
    assert page.ids == whole[:3]
    assert registry.borrowed == before + 1  # it wrote ahead
    page.do("next", 10)
    assert page.ids == whole[:13]
    page.change("back")
    assert page.ids == whole[:12]
    page.do("more", max_new_tokens=3)  # fewer than it wrote ahead: they once came all at once
    assert page.ids == whole[:15]
    page.do("more")
    assert page.ids == whole[:27]
    page.do("next", 1)
    page.story.chosen = 20
    page.do("use", event=SimpleNamespace(token=7))
    assert page.ids[:21] == [*whole[:20], 7]
    assert len(page.ids) == 28  # it was 38, with a limit that nobody had set
    page.do("next", 1, temperature=0.5)  # other settings begin anew
    assert len(page.ids) == 1


def test_undo_and_redo_go_over_everything_and_give_the_prompt_back(page):
    page.do("write")
    texts = [page.ids]
    page.story.chosen = 4
    page.do("use", event=SimpleNamespace(token=500))
    texts.append(page.ids)
    page.do("next", 1)
    texts.append(page.ids)
    page.change("back")
    page.do("write", prompt="A dragon")
    for expected in (texts[1], texts[2], texts[1], texts[0], texts[0]):
        filled = page.change("undo", prompt=page.story.present.asked.prompt)
        assert page.ids == expected
    assert filled == gr.skip()  # nothing is left to undo
    for expected in (texts[1], texts[2], texts[1]):
        page.change("redo", prompt=page.story.present.asked.prompt)
        assert page.ids == expected
    assert page.change("redo")[page.layout.prompt] == "A dragon"


def test_an_edit_of_the_prompt_is_undone_first(page):
    page.do("write")
    written = page.ids
    box = page.layout.prompt
    assert page.change("undo", prompt="Hello you")[box] == "Hello"
    assert page.change("redo", prompt="Hello")[box] == "Hello you"
    assert page.ids == written


def test_an_edit_that_was_undone_comes_back_where_it_was_made(page):
    """It came back at an earlier text, before the one that had been undone after it."""
    page.do("write")
    page.do("write", prompt="A dragon")
    box = page.layout.prompt
    assert page.change("undo", prompt="A dragon said")[box] == "A dragon"
    assert page.change("undo", prompt="A dragon")[box] == "Hello"
    assert page.change("redo", prompt="Hello")[box] == "A dragon"
    assert page.change("redo", prompt="A dragon")[box] == "A dragon said"


def test_drafts_are_bounded(page, monkeypatch):
    monkeypatch.setattr(story, "MOST_STEPS", 40)
    for seed in range(6):
        page.do("write", seed=seed)
    assert sum(len(draft.steps) for draft in page.story.drafts) <= 40
    assert page.story.present.asked.options.seed == 5


def test_the_same_seed_and_a_new_one(page):
    page.do("write")
    first = page.ids
    page.do("again", seed=-1)
    assert page.ids == first
    page.do("reseed")
    assert page.known.visit.seed != 3


@pytest.mark.parametrize("typed", [True, False])
def test_a_guess_is_told_with_its_rank_before_the_odds(page, registry, tokenizer, typed):
    page.do("write")
    written = page.ids
    panel = page.do("next", 1, guess=True)[page.layout.panel]
    assert page.ids == written
    assert "What comes next?" in panel
    assert " %" not in panel
    came = page.story.guess.steps[len(written)]
    token = tokenizer.encode(" king")[0] if typed else came.candidates[2].token_id
    event = SimpleNamespace(token=-1 if typed else token, text="king" if typed else "")
    panel = page.do("guess", event=event)[page.layout.panel]
    assert page.ids == [*written, came.token_id]
    with torch.no_grad():
        model = registry.models["storyteller"]
        logits = model(torch.tensor([[*tokenizer.encode("Hello"), *written]]))[0, -1]
    assert f"rank {1 + int((logits > logits[token]).sum()):,}," in panel
    assert "gen-use" in panel


def test_a_typed_guess_is_read_without_writing_the_text_again(page, monkeypatch):
    """It took as long as the text before it had taken."""
    page.do("write")
    page.do("next", 1, guess=True)
    decoded, decode = [], Scheduler._decode
    monkeypatch.setattr(
        Scheduler, "_decode", lambda self, rows: (decoded.append(rows), decode(self, rows))[1]
    )
    page.do("guess", event=SimpleNamespace(token=-1, text="king"))
    assert len(decoded) == 1


def test_a_guess_is_told_of_its_own_text_only(page):
    """It stood above the odds of whatever token came at that place in a text written later."""
    page.do("write")
    place = len(page.ids)
    page.do("next", 1, guess=True)
    page.do("guess", event=SimpleNamespace(token=-1, text="king"))

    def panel():
        event = SimpleNamespace(position=place)
        return run_async(page.handlers.choose(page.story, page.known, event))

    assert "Your guess" in panel()
    page.do("reseed", max_new_tokens=place + 1)
    assert f"New token {place}" in panel()
    assert "Your guess" not in panel()
    page.change("undo")
    assert "Your guess" in panel()


def test_a_text_that_begins_asks_for_no_guess_about_the_one_before(page):
    """While it was written the panel asked what comes next, and heard no answer."""
    page.do("write")
    assert "What comes next?" in page.do("next", 1, guess=True)[page.layout.panel]
    updates = run_async(everything(page.press("one", ("again", None), guess=True)))
    assert not [update for update in updates if "What comes next?" in update[page.layout.panel]]


@pytest.mark.parametrize(
    ("kind", "value", "event", "message"),
    [
        ("more", None, None, "there is no text yet"),
        ("use", None, SimpleNamespace(token=5), "there is no text yet"),
        ("guess", None, SimpleNamespace(token=-1, text="a"), "press Next token first"),
    ],
)
def test_what_needs_a_text_says_so(registry, kind, value, event, message):
    with pytest.raises(ValueError, match=message):
        Page(registry).do(kind, value, event)


def test_another_token_while_the_text_streams_ends_that_run_first(page):
    async def steer():
        async with aclosing(page.press(max_new_tokens=400)) as updates:
            async for _ in updates:
                if len(page.ids) > 5:
                    break
            kept = page.ids
            panel = await page.handlers.choose(page.story, page.known, SimpleNamespace(position=3))
            assert "New token 3" in panel

            async def end():
                async for _ in updates:
                    pass

            ending = asyncio.ensure_future(end())
            use = page.press("one", ("use", None), SimpleNamespace(token=500), max_new_tokens=400)
            async with aclosing(use) as steered:
                async for _ in steered:
                    if len(page.ids) > 6:
                        break
                ids = page.ids
            await ending
            return kept, ids

    kept, ids = run_async(steer())
    assert ids[:4] == [*kept[:3], 500]


@pytest.mark.parametrize(
    ("by", "count", "names"),
    [
        ("seed", 3, ["seed 3", "seed 4", "seed 5"]),
        (
            "temperature",
            4,
            ["temperature 0", "temperature 0.5", "temperature 1", "temperature 1.5"],
        ),
        ("precision", 2, ["float32", "int8"]),
        ("training", 2, ["trained", "untrained"]),
    ],
)
def test_versions_are_the_runs_of_each_alone(page, registry, tokenizer, by, count, names):
    shown = page.do("versions", by=by, count=count)[page.layout.columns]
    drafts = [run.draft() for run in page.story.versions.values()]
    first = drafts[0]
    assert first.asked.options.seed == 3
    assert all(f">{name} <button" in shown for name in names)
    expected = alone(registry, tokenizer, options=first.asked.options).steps
    assert [s.token_id for s in first.steps] == [s.token_id for s in expected]
    assert shown.count('class="chip"') == sum(len(draft.steps) for draft in drafts)
    page.change("take", event=SimpleNamespace(column=1, position=2))
    assert page.story.present == drafts[1]
    assert page.story.chosen == 2


def test_no_version_can_be_taken_while_they_are_written(page):
    """It took one of the run before, or was a traceback where there had been none."""
    page.do("versions", by="seed", count=2)

    async def take_at_once():
        shown = []
        async for update in page.press("one", ("versions", None), by="temperature", count=2):
            shown.append(update[page.layout.columns])
            if len(shown) == 1:
                event = SimpleNamespace(column=1, position=None)
                taken = await page.handlers.change("take")(page.story, page.known, "", event)
        return taken, shown

    taken, shown = run_async(take_at_once())
    assert taken == gr.skip()
    assert "Take this one" not in shown[0]
    assert shown[-1].count("Take this one") == 2


def test_the_untrained_version_is_replayed_in_the_precision_that_wrote_it(page, registry):
    """A link to it asked for the trained one's, int8, and wrote another text."""
    asked = wish(registry, "Hello", {**VALUES, "precision": "int8"}, "storyteller")
    untrained = versions.versions(registry, asked, "training", 2)["untrained"]
    again = page.handlers.written_again(Draft(untrained).visit())
    assert (again.source, again.precision) == (untrained.source, untrained.precision)


def test_an_untrained_version_with_the_trained_ones_vocabulary_is_there_to_compare(page):
    """Once taken, Next and Internals read its ids with GPT-2's vocabulary, or refused them."""
    page.do("versions", by="training", count=2)
    run = page.story.versions["untrained"]
    letters = Tokenizer({letter: n for n, letter in BYTE_LETTERS.items()}, [], "!")
    run.begins = replace(run.begins, asked=replace(run.begins.asked, tokenizer=letters))
    before = page.story.present
    with pytest.raises(ValueError, match="another model's vocabulary"):
        page.change("take", event=SimpleNamespace(column=1, position=None))
    assert page.story.present == before


def test_versions_that_cannot_be_written_leave_those_of_before(page, registry):
    """“Starting …” stood there for good, and none of the former ones could be taken."""
    page.do("versions", by="seed", count=2)
    kept = page.story.versions
    page.runs.registry = Failing(registry.models)
    with pytest.raises(ValueError, match="no model"):
        page.do("versions", by="temperature", count=2)
    assert page.story.versions is kept


def test_a_copy_made_while_a_text_is_written_is_of_that_text(page):
    """The link and the program were those of the text before, "copied"."""

    async def look():
        async for _ in page.press("one", max_new_tokens=60, stop=""):
            if page.story.live and page.story.live.written.steps:
                return page.known.visit, len(page.story.live.written.steps)

    visit, count = run_async(look())
    assert (visit.prompt, visit.tokens) == ("Hello", count)
    assert (
        len(visit.ids) == len(page.story.live.begins.asked.ids) + count if page.story.live else True
    )


@pytest.mark.parametrize(
    ("rows", "shared", "marked"),
    [([[1, 2, 3], [1, 2, 4]], 2, 2), ([[1, 2, 3], [1, 2]], 2, 0), ([[5], [6]], 0, 2)],
)
def test_versions_show_what_they_share_and_where_they_part(registry, rows, shared, marked):
    step = alone(registry, wish(registry, "a", VALUES, "storyteller").tokenizer).steps[0]
    runs = {}
    for number, row in enumerate(rows):
        steps = tuple(replace(step, token_id=token_id) for token_id in row)
        runs[f"{number}"] = Writing(Draft(asked_of(registry), steps), None)
    html = versions.columns_html(runs)
    assert (f"what all begin with, {shared} tokens" in html) == (shared > 0)
    assert html.count("<mark>") == marked


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": "colour"}, "versions differ in seed, temperature"),
        ({"by": ["seed"]}, "versions differ in seed, temperature"),
        ({"count": "x"}, "how many is 'x': use a whole number from 2 to 4"),
        ({"count": 10**9}, "how many is 1000000000: use a whole number from 2 to 4"),
    ],
)
def test_an_unknown_kind_or_number_of_versions_is_one_line(registry, asked, message):
    """A list, or a text in place of the number, by hand to the queue: a traceback."""
    with pytest.raises(ValueError, match=message):
        Page(registry).do("versions", **asked)


def test_why_opens_internals_at_the_place_that_predicted_the_token(page, tokenizer):
    page.do("write")
    run_async(page.handlers.choose(page.story, page.known, SimpleNamespace(position=5)))
    update = run_async(page.handlers.why(page.story, page.known))
    assert update["selected"] == "internals"
    prompt = tokenizer.encode("Hello")
    assert page.known.visit.position == len(prompt) + 5
    assert page.known.visit.ids[page.known.visit.position] == page.ids[5]


def test_a_visit_is_replayed_token_for_token(registry):
    page, other = Page(registry), Page(registry)
    page.do("write")
    page.story.chosen = 4
    page.do("use", event=SimpleNamespace(token=500))
    page.do("next", 1)
    other.do("linked", replace(page.known.visit, position=None, ids=()))
    assert other.ids == page.ids


def test_the_page_opens_with_a_finished_run_that_is_made_once(registry):
    """Each of a class that opened the page together wrote the opening text again."""
    page, borrowed = Page(registry), registry.borrowed
    request = SimpleNamespace(session_hash="one", query_params={})

    async def a_class():
        others = [page.handlers.open(Story(), Visitor(), request) for _ in range(7)]
        return await asyncio.gather(page.handlers.open(page.story, page.known, request), *others)

    first, *others = run_async(a_class())
    assert len(first) == len(page.layout.streamed)
    assert others == [first] * 7
    assert run_async(page.handlers.open(Story(), Visitor(), request)) == first
    assert registry.borrowed == borrowed + 1
    assert (
        first[page.layout.tokens].count("<button")
        == len(page.ids)
        == settings.DEFAULTS["max_new_tokens"]
    )
    linked = SimpleNamespace(session_hash="two", query_params={"prompt": "A"})
    assert run_async(page.handlers.open(Story(), Visitor(), linked)) == gr.skip()


def test_a_page_that_opens_while_the_line_is_full_is_told_so_in_one_line(registry, monkeypatch):
    """It was an error without a reason, and a traceback for each page."""
    monkeypatch.setattr(runs_module, "MAX_WAITING", 0)
    with gr.Blocks() as demo:
        tab.add_to(tabs.Page(registry, "storyteller"))
    (opened,) = [fn.fn for fn in demo.fns.values() if fn.name == "open"]
    request = SimpleNamespace(session_hash="one", query_params={})
    with pytest.raises(ValueError, match="others are waiting to write: try again in a minute"):
        run_async(opened(Story(), Visitor(), request))


def test_the_text_that_a_page_opens_with_is_the_visit_of_all_tabs(page):
    """Its ids were not, and Internals opened on a text of its own."""
    page.known.visit = settings.OPENING
    request = SimpleNamespace(session_hash="one", query_params={})
    run_async(page.handlers.open(page.story, page.known, request))
    assert page.known.visit == page.story.present.visit()
    assert page.known.visit.ids[-3:] == tuple(page.ids[-3:])
    elsewhere, made = Visitor(), Visit("random:seed=1", "Hello", ids=(1, 2))
    elsewhere.visit = made  # a visitor was quicker, in another tab
    run_async(page.handlers.open(Story(), elsewhere, request))
    assert elsewhere.visit == made


def test_what_was_written_is_the_visit_of_all_tabs(page, registry, tokenizer):
    run_async(everything(page.press()))
    written = [step.token_id for step in alone(registry, tokenizer).steps]
    values = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1, "precision": "float32"}
    ids = (*tokenizer.encode("Hello"), *written)
    assert page.known.visit == Visit("storyteller", "Hello", values, 3, tokens=12, ids=ids)


# The endpoint


def test_the_endpoint_streams_by_keyword_and_ends_with_the_text(client, registry, tokenizer):
    job = client.submit(
        prompt="Hello", max_new_tokens=12, temperature=1.0, top_p=1, seed=3, api_name="/generate"
    )
    text, statistics = job.result()
    assert text == alone(registry, tokenizer).text
    assert "12 of 12 tokens" in statistics
    assert all(isinstance(value, str) for output in job.outputs() for value in output)


def test_the_endpoint_steers_and_stops(client, registry, tokenizer):
    plain = alone(registry, tokenizer)
    asked = {"prompt": "Hello", "max_new_tokens": 12, "temperature": 1.0, "top_p": 1, "seed": 3}
    options = replace(OPTIONS, steering=((4, 500),))
    text, told = client.predict(**asked, steering=[[4, 500]], api_name="/generate")
    assert text == alone(registry, tokenizer, options=options).text
    assert "Steered: you chose 1 token" in told
    stop = tokenizer.decode([plain.steps[2].token_id, plain.steps[3].token_id])[1:]
    text, told = client.predict(**asked, stop=stop, api_name="/generate")
    assert text == tokenizer.decode(step.token_id for step in plain.steps[:4])
    assert "ended at your stop text" in told


def test_the_endpoint_needs_only_a_prompt_and_takes_a_precision_by_position(client):
    assert "seed" in client.predict(prompt="Hello", max_new_tokens=2, api_name="/generate")[1]
    positional = ("Hello", 3, "cpu", 0, 0, 1, 1, "storyteller", "float16")
    assert "on cpu, float16" in client.predict(*positional, api_name="/generate")[1]


def test_the_endpoint_is_typed_and_described(client):
    """Its results were called value_19 and value_304, after component ids."""
    info = client.view_api(return_format="dict")["named_endpoints"]["/generate"]
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
        ({"prompt": ""}, "the prompt is empty: write at least one character"),
        ({"prompt": "a", "temperature": "hot"}, "temperature is 'hot'"),
        ({"prompt": "a", "precision": "int3"}, "precision is 'int3'"),
        ({"prompt": "a", "steering": [[0]]}, "steering is"),
        ({"prompt": "a", "steering": [[0, 50257]]}, "outside the vocabulary"),
    ],
)
def test_the_endpoint_shows_a_callers_mistake_as_one_line(client, asked, message, capfd):
    with pytest.raises(Exception, match=message):
        client.predict(**asked, api_name="/generate")
    assert "Traceback" not in capfd.readouterr().err


def test_a_missing_device_is_told_with_what_is_used_instead(client):
    """gradio refused it with a line of its own: the sentence could not be reached."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    asked = {"prompt": "Hello", "max_new_tokens": 2, "device": "cuda"}
    told = client.predict(**asked, api_name="/generate")[1]
    assert "no cuda device: the CPU is used instead" in told
    assert "on cpu" in told


def test_a_cancelled_job_frees_its_row_and_the_next_is_clean(client, registry):
    scheduler = runs_module.scheduler_for(registry.models["storyteller"])
    asked = {"prompt": "Hello", "seed": 1, "api_name": "/generate"}
    job = client.submit(max_new_tokens=500, **asked)
    until(lambda: any("tokens/s" in output[1] for output in job.outputs()))
    job.cancel()
    until(lambda: running(scheduler) == 0)
    assert "500 of 500 tokens" not in job.outputs()[-1][1]
    assert "3 of 3 tokens" in client.predict(max_new_tokens=3, **asked)[1]


def test_thirty_runs_at_once_are_all_served_with_the_text_of_each_alone(url, registry, tokenizer):
    """Seventeen of thirty were served, in turn; thirteen met "Queue is full".

    By three clients, which cost more than their runs; tests/benchmarks/visitors.py has thirty.
    """
    clients = [Client(url, verbose=False, httpx_kwargs={"timeout": 60}) for _ in range(3)]
    jobs = [
        clients[seed % 3].submit(
            prompt=f"Visitor {seed % 5} said", max_new_tokens=8, temperature=1.0, top_p=1,
            seed=seed, precision="float32", api_name="/generate",
        )
        for seed in range(30)
    ]  # fmt: skip
    for seed, job in enumerate(jobs):
        options = SamplingOptions(max_new_tokens=8, seed=seed)
        expected = alone(registry, tokenizer, f"Visitor {seed % 5} said", options).text
        assert job.result(120)[0] == expected


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"top_k": -1}, "Top-k is -1: use a whole number of at least 1, or 0 to keep every token."),
        ({"seed": -2}, "Seed is -2: use a whole number of at least 0, or -1 to draw one."),
    ],
)
def test_an_error_on_the_page_says_a_box_s_own_number_for_none(wrong, told):
    """Beside "0: off" stood "or none to keep every token"."""
    with pytest.raises(ValueError, match="none to") as error:
        SamplingOptions(**wrong)
    assert settings.labelled(str(error.value)) == told
