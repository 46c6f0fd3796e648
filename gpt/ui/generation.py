"""The Generation tab: a prompt, a model, the continuation as it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from gpt.compare import default_precision
from gpt.devices import usable_device
from gpt.models import Registry, random_source
from gpt.sampling import SamplingOptions
from gpt.tokenizer import Tokenizer
from gpt.ui.continuation import checked_prompt, continue_text, stats_html, token_chips
from gpt.ui.errors import one_line_errors
from gpt.ui.generation_controls import (
    AUTO,
    DRAW_A_SEED,
    MAX_NEW_TOKENS,
    Example,
    GenerationControls,
    model_note,
    precision_note,
)

UNTRAINED_SEED = 123  # the book's
DEFAULTS = (120, 0.8, 0, 1, DRAW_A_SEED)  # max_new_tokens, temperature, top-k, top-p, seed
UPDATE_SECONDS = 0.04  # the browser needs no more than 25 updates a second


class RunMemory(NamedTuple):
    """What this visitor's page remembers of its last run; plain values only."""

    seed: int = 0
    loading: str = ""  # the model being fetched; stays set if fetching failed
    loaded: str = ""  # the last model that was there


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
) -> Iterator[Update]:
    """What the page shows so far: the first token at once, then an update every 40 ms.

    Closing the iterator, as Stop and a closed browser tab do, ends this run and no other.
    """
    checked_prompt(prompt)  # before a model is loaded for nothing
    device, missing = usable_device(device)
    precision = default_precision(source, device) if precision == AUTO else precision
    options = options.with_seed()
    assert options.seed is not None
    memory = RunMemory(options.seed, loading=source)
    yield "", f'<p class="stats">{escape(f"Loading {source} …")}</p>', "", memory
    with registry.borrow(source, device, precision, on_stage) as model:
        sent = 0.0
        run = None
        memory = RunMemory(options.seed, loaded=source)
        for run in continue_text(model, tokenizer, prompt, options, f"{device}, {precision}"):
            if missing and not run.steps:
                run.plan_notes.append(missing)
            now = time.perf_counter()
            if len(run.steps) <= 1 or now - sent >= UPDATE_SECONDS:
                sent = now
                yield run.text, stats_html(run, options.max_new_tokens), "", memory
    assert run is not None
    stats = stats_html(run, options.max_new_tokens)
    yield run.text, stats, token_chips(run, tokenizer), memory


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

    def run_here(prompt, options, device, source, progress, precision):  # type: ignore[no-untyped-def]
        stage = None if progress is None else lambda fraction, text: progress(fraction, desc=text)
        yield from stream(registry, tokenizer, prompt, options, device, source, stage, precision)

    run_on_gpu = on_gpu(run_here)

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
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Update]:
        options = sampling_options(max_new_tokens, temperature, top_k, top_p, seed)
        on_cuda = device.startswith("cuda")
        run = run_on_gpu if on_cuda else run_here
        yield from run(prompt, options, device, model, None if on_cuda else progress, precision)

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
    ) -> Iterator[tuple[Any, Any]]:
        if not wanted:
            return
        options = sampling_options(max_new_tokens, temperature, top_k, top_p, memory[0])
        source = random_source(registry.config_of(model), UNTRAINED_SEED)
        for text, stats, _, _ in stream(registry, tokenizer, prompt, options, device, source):
            yield text, stats

    _wire(controls, generate_text, generate_untrained)
    return GenerationTab(controls.model)


def _wire(controls: GenerationControls, generate_text: Any, generate_untrained: Any) -> None:
    memory = gr.State(RunMemory())
    c = controls
    buttons = [c.run, c.stop]
    outputs = [c.output, c.stats, c.tokens, memory]
    beside = [c.untrained_output, c.untrained_stats]
    running: list[Any] = []

    def chain(start: Any, api_name: str | None = None) -> None:
        visibility: Any = "public" if api_name else "private"
        first = start.then(
            generate_text,
            c.sampling(),
            outputs,
            api_name=api_name,
            api_visibility=visibility,
            concurrency_id="model",
            concurrency_limit=1,
            # A run stopped while a model loads counts as pending until the load is over; with
            # the default of one at a time the page would drop the next run.
            trigger_mode="multiple",
        )
        second = first.success(
            generate_untrained,
            [
                c.beside_untrained,
                c.prompt,
                c.max_new_tokens,
                c.temperature,
                c.top_k,
                c.top_p,
                memory,
                c.device,
                c.model,
            ],
            beside,
            api_visibility="private",
            concurrency_id="model",
            trigger_mode="multiple",
        )
        first.failure(
            _after_failure,
            [memory, c.model],
            [*buttons, c.model],
            api_visibility="private",
            queue=False,
        )
        second.then(_idle, None, buttons, api_visibility="private", queue=False)
        running.extend([first, second])

    pressed = gr.on(
        [c.run.click, c.prompt.submit], _busy, None, buttons, api_visibility="private", queue=False
    )
    chain(pressed, api_name="generate")
    settings = [c.prompt, c.model, c.max_new_tokens, c.temperature, c.top_k, c.top_p, c.seed]
    for example, button in c.examples:
        filled = button.click(
            lambda example=example: _fill(example),
            None,
            [*settings, *buttons],
            api_visibility="private",
            queue=False,
        )
        chain(filled)
    # Stop restores the buttons itself: after a cancel the rest of the chain does not run.
    c.stop.click(
        _stopped,
        c.stats,
        [*buttons, c.stats],
        cancels=running,
        api_visibility="private",
        queue=False,
    )
    c.model.change(model_note, c.model, c.note, api_visibility="private", queue=False)
    gr.on(
        [c.model.change, c.precision.change, c.device.change],
        precision_note,
        [c.model, c.precision, c.device],
        c.precision_note,
        api_visibility="private",
        queue=False,
    )
    c.beside_untrained.change(
        lambda shown: [gr.update(visible=shown)] * 2,
        c.beside_untrained,
        beside,
        api_visibility="private",
        queue=False,
    )
    c.reset.click(
        lambda: [*DEFAULTS, AUTO],
        None,
        [*settings[2:], c.precision],
        api_visibility="private",
        queue=False,
    )


def _busy() -> list[Any]:
    return [gr.update(visible="hidden"), gr.update(visible=True)]


def _idle() -> list[Any]:
    return [gr.update(visible=True), gr.update(visible="hidden")]


def _stopped(stats: str) -> list[Any]:
    return [*_idle(), stats + '<p class="stats">Stopped: what was written stays.</p>']


def _after_failure(memory: RunMemory, model: str) -> list[Any]:
    """A model that could not be loaded gives way to the last one that could."""
    _, loading, loaded = memory
    return [*_idle(), loaded if loading and loaded else model]


def _fill(example: Example) -> list[Any]:
    return [
        example.prompt,
        example.source,
        example.max_new_tokens,
        example.temperature,
        0,
        1,
        example.seed,
        *_busy(),
    ]
