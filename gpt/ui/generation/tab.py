"""The Generation tab: a prompt, a model, the continuation as it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import random_source
from gpt.engine.machine import usable_device
from gpt.generate import Step
from gpt.sampling import SamplingOptions
from gpt.serving.all_cores import each_on_all_cores
from gpt.serving.registry import Registry
from gpt.tokenizer import Tokenizer
from gpt.ui.generation.continuation import (
    Continuation,
    checked_prompt,
    continue_text,
    stats_html,
    token_chips,
)
from gpt.ui.generation.controls import (
    AUTO,
    DRAW_A_SEED,
    MAX_NEW_TOKENS,
    GenerationControls,
)
from gpt.ui.generation.events import Halt, wire
from gpt.ui.parts.errors import one_line_errors

UNTRAINED_SEED = 123  # the book's
UPDATE_SECONDS = 0.06  # each update takes some time from a fast model


class RunMemory(NamedTuple):
    """What this visitor's page remembers of its last run."""

    seed: int = 0
    loading: str = ""  # the model being fetched; stays set if fetching failed
    loaded: str = ""  # the last model that was there
    running: bool = False  # not ended by itself; stays set if the run was stopped
    steps: tuple[Step, ...] = ()  # so far, while it runs: the tokens of what Stop leaves


Update = tuple[str, str, str, RunMemory]  # text, statistics, chips, memory


def stream(
    registry: Registry,
    tokenizer: Tokenizer,
    prompt: str,
    options: SamplingOptions,
    device: str,
    source: str,
    on_stage: Callable[[float, str], None] | None = None,
    precision: str = AUTO,
    before: RunMemory = RunMemory(),  # noqa: B008
) -> Iterator[Update]:
    """What the page shows so far: the first token at once, then an update every 60 ms.

    Closing the iterator, as Stop and a closed browser tab do, ends this run and no other.
    """
    checked_prompt(prompt)  # before a model is loaded for nothing
    device, missing = usable_device(device)
    precision = default_precision(source, device) if precision == AUTO else precision
    options = options.with_seed()
    assert options.seed is not None
    memory = before._replace(seed=options.seed, loading=source, running=True, steps=())
    yield "", f'<p class="stats">{escape(f"Loading {source} …")}</p>', "", memory
    with registry.borrow(source, device, precision, on_stage) as model:
        run = None
        memory = RunMemory(options.seed, loaded=source, running=True)
        steps = continue_text(model, tokenizer, prompt, options, f"{device}, {precision}")
        updates = _updates(steps)
        for run in each_on_all_cores(updates) if device == "cpu" else updates:
            if missing and not run.steps:
                run.plan_notes.append(missing)
            so_far = memory._replace(steps=tuple(run.steps))
            yield run.text, stats_html(run, options.max_new_tokens), "", so_far
    assert run is not None
    stats = stats_html(run, options.max_new_tokens)
    yield run.text, stats, token_chips(run.steps, tokenizer), memory._replace(running=False)


def _updates(runs: Iterator[Continuation]) -> Iterator[Continuation]:
    """Of a growing run what the page is sent: its start, its first token, then every 60 ms."""
    sent = time.perf_counter()
    for run in runs:
        now = time.perf_counter()
        if len(run.steps) <= 1 or now - sent >= UPDATE_SECONDS:
            yield run
            sent = time.perf_counter()  # after others had their turn


def sampling_options(
    max_new_tokens: float, temperature: float, top_k: float | None, top_p: float, seed: float | None
) -> SamplingOptions:
    """The options that the controls mean: top-k 0 or empty is off, seed -1 or empty draws one.

    Raises ValueError if a number is impossible; the browser's limits are not trusted.
    """
    if max_new_tokens > MAX_NEW_TOKENS:
        raise ValueError(f"max_new_tokens is {max_new_tokens:,.0f}: use at most {MAX_NEW_TOKENS}.")
    return SamplingOptions(
        max_new_tokens=int(max_new_tokens),
        temperature=float(temperature),
        top_k=int(top_k) if top_k else None,
        top_p=float(top_p),
        seed=None if seed is None or seed == DRAW_A_SEED else int(seed),
    )


@dataclass(frozen=True)
class GenerationTab:
    """What other parts of the page connect to."""

    model: gr.Dropdown


def build(
    registry: Registry,
    tokenizer: Tokenizer,
    default_source: str = "storyteller",
    default_device: str = "cpu",
    on_gpu: Callable[[Any], Any] = lambda handler: handler,
) -> GenerationTab:
    """Lay out the tab and wire its events; `on_gpu` decorates what runs on a borrowed GPU."""
    controls = GenerationControls(registry, default_source, default_device)
    run = _runner(registry, tokenizer, on_gpu)
    memory = gr.State(RunMemory(loaded=default_source))
    wire(
        controls,
        memory,
        _text_handler(run, default_source),
        _untrained_handler(run, registry),
        lambda steps: token_chips(steps, tokenizer),
    )
    return GenerationTab(controls.model)


def _runner(
    registry: Registry, tokenizer: Tokenizer, on_gpu: Callable[[Any], Any]
) -> Callable[..., Iterator[Update]]:
    """`stream` here or on a borrowed GPU; it takes a device, a gr.Progress and what follows."""

    def run_here(
        prompt: str,
        options: SamplingOptions,
        device: str,
        source: str,
        precision: str,
        before: RunMemory,
        progress: gr.Progress | None = None,
    ) -> Iterator[Update]:
        stage = None if progress is None else lambda fraction, text: progress(fraction, desc=text)
        yield from stream(
            registry, tokenizer, prompt, options, device, source, stage, precision, before
        )

    run_on_gpu = on_gpu(run_here)

    def run(device: str, progress: gr.Progress, *args: Any) -> Iterator[Update]:
        # A borrowed GPU belongs to another process, which a progress bar here cannot follow.
        on_cuda = device.startswith("cuda")
        yield from run_on_gpu(*args) if on_cuda else run_here(*args, progress)

    return run


def _text_handler(run: Callable[..., Iterator[Update]], default_source: str) -> Any:
    """What Generate runs, and the endpoint `/generate` with its names and defaults."""

    @one_line_errors
    def generate_text(
        prompt: str,
        max_new_tokens: float = 120,
        device: str = "cpu",
        temperature: float = 0.8,
        top_k: float | None = 0,
        top_p: float = 1.0,
        seed: float | None = DRAW_A_SEED,
        model: str = default_source,
        precision: str = AUTO,
        memory: RunMemory = RunMemory(),  # noqa: B008
        halt: Halt = Halt(),  # noqa: B008
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Update]:
        memory = RunMemory(*memory)
        try:
            options = sampling_options(max_new_tokens, temperature, top_k, top_p, seed)
            args = (prompt, options, device, model, precision, memory)
            for update in run(device, progress, *args):
                if halt.pressed:
                    return
                memory = update[-1]
                yield update
        except Exception:
            yield gr.skip(), gr.skip(), gr.skip(), memory._replace(running=False, steps=())
            raise

    return generate_text


def _untrained_handler(run: Callable[..., Iterator[Update]], registry: Registry) -> Any:
    """What runs after that: the same again by a model of the same shape that knows nothing."""

    @one_line_errors
    def generate_untrained(
        wanted: bool,
        prompt: str,
        max_new_tokens: float,
        temperature: float,
        top_k: float | None,
        top_p: float,
        memory: RunMemory,
        device: str,
        model: str,
        halt: Halt,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any]]:
        memory = RunMemory(*memory)
        # Gradio calls a stopped run a success; one stopped in the queue was never running.
        if memory.running or halt.pressed or not wanted:
            return
        options = sampling_options(max_new_tokens, temperature, top_k, top_p, memory.seed)
        source = random_source(registry.config_of(model), UNTRAINED_SEED)
        args = (prompt, options, device, source, AUTO, RunMemory())
        for text, stats, _, _ in run(device, progress, *args):
            if halt.pressed:
                return
            yield text, stats

    return generate_untrained
