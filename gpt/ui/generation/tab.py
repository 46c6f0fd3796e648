"""The Generation tab: a prompt, a model, the continuation as it is written."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from gpt.checkpoints import tokenizer_of
from gpt.serving.registry import Registry
from gpt.ui.generation.borrowed_gpu import borrowed_row, steps_on_gpu
from gpt.ui.generation.endpoint import endpoint
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.run import Stage, Wish, Writing, local_row, untrained, wish
from gpt.ui.generation.settings import (
    AUTO,
    DEFAULTS,
    Example,
    model_note,
    precision_note,
    sampling_options,
)
from gpt.ui.parts.errors import one_line_errors

_AT_ONCE: dict[str, Any] = {
    "api_visibility": "private",
    "queue": False,
    "show_progress": "hidden",
}  # nothing is computed


@dataclass(frozen=True)
class GenerationTab:
    """What other parts of the page connect to."""

    model: gr.Dropdown
    left: Callable[[gr.Request], Any]  # for `unload`: ends the run of a page that was closed


class Runs:
    """The runs that go on, of all visitors, by the session that asked for them."""

    def __init__(self, registry: Registry, on_gpu: Callable[[Any], Any] | None) -> None:
        self.registry = registry
        self._on_gpu = on_gpu and on_gpu(steps_on_gpu)
        self._writing: set[Writing] = set()
        self._of: dict[str, list[Writing]] = defaultdict(list)
        self._claimed: set[str] = set()

    @contextmanager
    def claim(self, session: str) -> Iterator[bool]:
        """Whether this page has no run yet; until the end of the block no other one has it."""
        free = session not in self._claimed
        self._claimed.add(session)
        try:
            yield free
        finally:
            if free:
                self._claimed.discard(session)

    def stop(self, session: str) -> None:
        """Every run of the session ends where it is."""
        for run in list(self._of.get(session, ())):
            run.stop()

    def _begin(self, asked: Wish, on_stage: Stage) -> AbstractContextManager[Any]:
        if self._on_gpu and asked.device == "cuda":
            return borrowed_row(self._on_gpu, asked, on_stage)
        return local_row(self.registry, asked, on_stage)

    async def write(
        self,
        prompt: Any,
        values: Mapping[str, Any],
        source: str,
        device: str,
        precision: str,
        request: gr.Request | None,
        beside_untrained: bool = False,
    ) -> AsyncIterator[Writing]:
        """The run that goes on, at each update; a second one follows, of the untrained twin.

        Raises ValueError if the run cannot be had.
        """
        asked = await asyncio.to_thread(
            wish, self.registry, prompt, sampling_options(values), source, device, precision
        )
        wishes = [asked, untrained(self.registry, asked)] if beside_untrained else [asked]
        session = (request.session_hash if request else "") or ""
        for one in wishes:
            run = Writing(one, self._begin)
            self._of[session].append(run)
            try:
                async with aclosing(run.updates(self._writing)) as updates:
                    async for _ in updates:
                        yield run
            finally:
                self._of[session].remove(run)
                if not self._of[session]:
                    del self._of[session]
            if run.stopped:
                return


def build(
    registry: Registry,
    default_source: str = "storyteller",
    default_device: str = "cpu",
    on_gpu: Callable[[Any], Any] | None = None,
) -> GenerationTab:
    """Lay out the tab and wire its events; `on_gpu`, if any, decorates what borrows a GPU."""
    tokenizer_of(default_source)  # read now, not by the first visitor
    layout = Layout(registry, default_source, default_device)
    runs = Runs(registry, on_gpu)
    loaded = gr.State(default_source)  # the last model that wrote something
    # The scheduler has the waiting line, which knows everyone's place: gradio needs none.
    writing = {"concurrency_id": "writing", "concurrency_limit": None}
    starts = [(None, [layout.run.click, layout.prompt.submit])]
    starts += [(example, [button.click]) for button, example in layout.examples]
    for example, events in starts:
        gr.on(
            events,
            one_line_errors(_writer(layout, runs, loaded, example)),
            layout.inputs | {loaded},
            layout.outputs | {loaded},
            api_visibility="private",
            trigger_mode="multiple",
            show_progress="hidden",
            preprocess=False,  # an emptied field would be a traceback: our own checks say a line
            **writing,
        )

    async def stop(request: gr.Request) -> None:
        runs.stop(request.session_hash or "")

    layout.stop.click(stop, **_AT_ONCE)
    gr.api(endpoint(runs.write, default_source), api_name="generate", **writing)
    _follow(layout)
    return GenerationTab(layout.model, stop)


def _writer(layout: Layout, runs: Runs, loaded: gr.State, example: Example | None) -> Any:
    """The handler of Generate, of Shift + Enter and, with its example, of an example's button."""

    async def write(data: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        filled = layout.filled(example) if example else {}
        data = {**data, **filled}
        first = run = None
        with runs.claim(request.session_hash or "") as claimed:
            if not claimed:  # a key that is held down, or a second click: one run a page at a time
                yield {layout.run: gr.skip()}  # gradio would empty all outputs without a yield
                return
            updates = runs.write(
                data[layout.prompt], layout.values(data), data[layout.model], data[layout.device],
                data[layout.precision], request, data[layout.beside_untrained],
            )  # fmt: skip
            try:
                async with aclosing(updates):
                    async for run in updates:
                        if first is None:
                            first = run
                            yield {**filled, **_busy(layout)}
                        yield _shown(layout, run, run is first)
            except Exception:
                failed = run is not None and not run.written.steps  # to load, say
                yield {**_idle(layout), **({layout.model: data[loaded]} if failed else {})}
                raise
            yield {**_idle(layout), loaded: data[layout.model]}

    return write


def _shown(layout: Layout, run: Writing, first: bool) -> dict[Any, Any]:
    """What the page shows of a run; the untrained twin's, which is second, has no chips."""
    written = run.written
    told = f'<p class="stats">{escape(run.stage)}</p>' if run.stage else written.told_html()
    if first:
        return {layout.output: written.text, layout.stats: told, layout.tokens: written.chips}
    return {layout.untrained_output: written.text, layout.untrained_stats: told}


def _busy(layout: Layout) -> dict[Any, Any]:
    return {
        layout.run: gr.update(visible="hidden"),
        layout.stop: gr.update(visible=True),
        layout.untrained_output: "",
        layout.untrained_stats: "",
    }


def _idle(layout: Layout) -> dict[Any, Any]:
    return {layout.run: gr.update(visible=True), layout.stop: gr.update(visible="hidden")}


def _follow(layout: Layout) -> None:
    """Notes that follow the controls, and the reset."""
    layout.model.change(model_note, layout.model, layout.note, **_AT_ONCE)
    gr.on(
        [layout.model.change, layout.precision.change, layout.device.change],
        precision_note,
        [layout.model, layout.precision, layout.device],
        layout.precision_note,
        **_AT_ONCE,
    )
    twin = [layout.untrained_output, layout.untrained_stats]
    layout.beside_untrained.change(
        lambda shown: [gr.update(visible=shown)] * 2, layout.beside_untrained, twin, **_AT_ONCE
    )
    settings = list(layout.settings.values())
    layout.reset.click(
        lambda: [*DEFAULTS.values(), AUTO, False],
        None,
        [*settings, layout.precision, layout.beside_untrained],
        **_AT_ONCE,
    )
