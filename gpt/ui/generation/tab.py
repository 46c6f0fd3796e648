"""The Generation tab: a prompt, a model, the continuation as it is written."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import is_kept
from gpt.serving.registry import Registry
from gpt.ui.generation.borrowed_gpu import borrowed_row, steps_on_gpu
from gpt.ui.generation.endpoint import endpoint
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.run import Stage, Wish, Writing, cluster_row, local_row, untrained, wish
from gpt.ui.generation.settings import (
    AUTO,
    DEFAULTS,
    Example,
    model_note,
    precision_note,
    sampling_options,
)
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.visit import Shared, Visit

_AT_ONCE: dict[str, Any] = {
    "api_visibility": "private",
    "queue": False,
    "show_progress": "hidden",
}  # nothing is computed
LOST_SECONDS = 10  # after which a claim whose run has not begun is no claim: its page has gone


@dataclass(frozen=True)
class GenerationTab:
    """What other parts of the page connect to."""

    model: gr.Dropdown
    prompt: gr.Textbox
    left: Callable[[gr.Request], Any]  # for `unload`: ends the run of a page that was closed


@dataclass
class Claim:
    """A page's right to its one run, from the click to the run's end."""

    made: float = field(default_factory=time.monotonic)
    begun: bool = False
    stopped: bool = False


class Runs:
    """The runs that go on, of all visitors, by the session that asked for them."""

    def __init__(
        self, registry: Registry, on_gpu: Callable[[Any], Any] | None, cluster: Any = None
    ) -> None:
        self.registry = registry
        self._cluster = cluster
        self._on_gpu = on_gpu and on_gpu(steps_on_gpu)
        self._writing: set[Writing] = set()
        self._of: dict[str, list[Writing]] = defaultdict(list)
        self.failed_to_load: dict[str, str] = {}  # a model, by session, until the page has told it
        self.claims: dict[str, Claim] = {}  # of pages, by session

    def claim(self, session: str) -> bool:
        """Whether the page may start a run: one at a time. A claim lasts until `end`."""
        claim = self.claims.get(session)
        if claim and (claim.begun or time.monotonic() - claim.made < LOST_SECONDS):
            return False
        self.claims[session] = Claim()
        return True

    def begin(self, session: str) -> Claim | None:
        """The page's claim, the first time that it is asked for."""
        claim = self.claims.get(session)
        if claim is None or claim.begun:
            return None
        claim.begun = True
        return claim

    def stop(self, session: str) -> None:
        """Every run of the session ends where it is."""
        if claim := self.claims.get(session):
            claim.stopped = True
        for run in list(self._of.get(session, ())):
            run.stop()

    def _begin(self, asked: Wish, on_stage: Stage) -> AbstractContextManager[Any]:
        if self._cluster is not None and not is_kept(asked.source):
            return cluster_row(self._cluster, asked)
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
            except Exception:
                if not run.written.steps:
                    self.failed_to_load[session] = one.source
                raise
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
    cluster: Any = None,
    shared: Shared | None = None,
) -> GenerationTab:
    """Lay out the tab and wire its events.

    `on_gpu`, if any, decorates what borrows a GPU; `cluster` is the handle of the replicas that
    write instead of this process (`gpt.serving.cluster.connect`).
    """
    tokenizer_of(default_source)  # read now, not by the first visitor
    layout = Layout(registry, default_source, default_device)
    runs = Runs(registry, on_gpu, cluster)
    shared = shared or Shared()
    shared.add_picker(layout.model)
    loaded = gr.State(default_source)  # the last model that wrote something
    # The scheduler has the waiting line, which knows everyone's place: gradio needs none.
    writing = {"concurrency_id": "writing", "concurrency_limit": None}
    starts = [(None, [layout.run.click, layout.prompt.submit])]
    starts += [(example, [button.click]) for button, example in layout.examples]
    start, write, finish = _handlers(layout, runs, loaded, shared.visitor)
    for example, events in starts:
        # Three events, since gradio makes a component anew for each output that an update skips:
        # what streams has the outputs that change, and no others.
        streamed = gr.on(
            events,
            start(example),
            None,
            [*layout.filled_by_examples, *layout.streamed, *layout.buttons],
            **_AT_ONCE,
        ).then(
            one_line_errors(write),
            layout.inputs | {loaded, shared.visitor},
            {*layout.streamed, loaded},
            api_visibility="private",
            trigger_mode="multiple",
            show_progress="hidden",
            preprocess=False,  # an emptied field would be a traceback: our own checks say a line
            **writing,
        )
        for ended in (streamed.success, streamed.failure):  # `.then` does not follow an error
            ended(finish, [layout.model, loaded], [*layout.buttons, layout.model], **_AT_ONCE)

    async def stop(request: gr.Request) -> None:
        runs.stop(request.session_hash or "")

    layout.stop.click(stop, **_AT_ONCE)
    gr.api(endpoint(runs.write, default_source), api_name="generate", **writing)
    _follow(layout)
    return GenerationTab(layout.model, layout.prompt, stop)


def _handlers(
    layout: Layout, runs: Runs, loaded: gr.State, visitor: gr.State
) -> tuple[Any, Any, Any]:
    """What a start does at once, what then streams, and what is left to do at the end."""

    def start(example: Example | None) -> Any:
        async def claim(request: gr.Request) -> list[Any]:
            filled = layout.filled(example) if example else {}
            if not runs.claim(request.session_hash or ""):  # a second click, a key held down
                return [gr.skip()] * (len(layout.filled_by_examples) + len(layout.streamed) + 2)
            cleared = [""] * len(layout.streamed)
            chosen = [filled.get(c, gr.skip()) for c in layout.filled_by_examples]
            return [*chosen, *cleared, *_buttons(True)]

        return claim

    async def write(data: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        session = request.session_hash or ""
        claim = runs.begin(session)
        if claim is None:
            yield dict.fromkeys({*layout.streamed, loaded}, gr.skip())
            return
        shown = {**dict.fromkeys(layout.streamed, ""), loaded: data[loaded]}
        first = None
        updates = runs.write(
            data[layout.prompt], layout.values(data), data[layout.model], data[layout.device],
            data[layout.precision], request, data[layout.beside_untrained],
        )  # fmt: skip
        try:
            async with aclosing(updates):
                async for run in updates:
                    first = first or run
                    if claim.stopped:  # before there was a run to stop
                        run.stop()
                    if run.written.steps:
                        shown[loaded] = data[layout.model]
                    shown |= _shown(layout, run, run is first)
                    yield dict(shown)
        finally:
            if runs.claims.get(session) is claim:
                del runs.claims[session]
            if first and first.written.steps:
                data[visitor].visit = _visit(layout, data, first)

    async def finish(model: str, last: str, request: gr.Request) -> list[Any]:
        """The buttons as they should be now, which may be the next run's already."""
        if (request.session_hash or "") in runs.claims:
            return [gr.skip()] * 3
        failed = runs.failed_to_load.pop(request.session_hash or "", None) == model
        return [*_buttons(False), last if failed else gr.skip()]

    return start, write, finish


def _visit(layout: Layout, data: dict[Any, Any], run: Writing) -> Visit:
    """What all tabs know of a run."""
    asked, written = run.asked, [step.token_id for step in run.written.steps]
    chosen = {**layout.values(data), "precision": data[layout.precision]}
    chosen["device"] = data[layout.device]
    defaults = {**DEFAULTS, "precision": AUTO, "device": "cpu", "seed": chosen["seed"]}
    return Visit(
        model=asked.source,
        prompt=data[layout.prompt],
        settings={name: value for name, value in chosen.items() if value != defaults[name]},
        seed=asked.options.seed,
        tokens=len(written),
        ids=(*asked.ids, *written),
    )


def _shown(layout: Layout, run: Writing, first: bool) -> dict[Any, Any]:
    """What the page shows of a run; the untrained twin's, which is second, has no chips."""
    written = run.written
    told = f'<p class="stats">{escape(run.stage)}</p>' if run.stage else written.told_html()
    if first:
        return {layout.output: written.text, layout.stats: told, layout.tokens: written.chips}
    return {layout.untrained_output: written.text, layout.untrained_stats: told}


def _buttons(busy: bool) -> list[Any]:
    """Generate and Stop: one of them is shown."""
    return [gr.update(visible="hidden" if hidden else True) for hidden in (busy, not busy)]


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
