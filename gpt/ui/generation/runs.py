"""The runs of all visitors: each from its start to its last token, and one of a page at a time.

No thread waits for a visitor while text is written: the engine's thread writes everybody's, and
the page takes what has come of each a few times a second.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import gradio as gr

from gpt.checkpoints import HUB_MODELS, download
from gpt.checkpoints.sources import is_kept
from gpt.serving.cluster import ClusterRow
from gpt.serving.registry import Registry
from gpt.serving.scheduler import scheduler_for
from gpt.serving.step_stream import StepStream
from gpt.ui.generation.borrowed_gpu import borrowed_run, steps_on_gpu
from gpt.ui.generation.continuation import AHEAD, Continuation, Draft

MAX_WAITING = 200  # behind the rows of a scheduler
LOOK_SECONDS = 0.25  # how often a run that waits looks at what for
Order = tuple[str, Any]  # what a run is to do, and with what
_LOADERS = ThreadPoolExecutor(400, thread_name_prefix="loader")  # they wait, for a model mostly


def update_seconds(writing: int) -> float:
    """Between two updates of one page when so many write: their sum takes the engine's time.

    Everybody still sees at least four a second.
    """
    return min(0.22, max(0.06, 0.0125 * writing))


class Runs:
    """The runs that go on, of all visitors, and where they are written."""

    def __init__(
        self, registry: Registry, on_gpu: Callable[[Any], Any] | None = None, cluster: Any = None
    ) -> None:
        self.registry, self.cluster = registry, cluster
        self.on_gpu = on_gpu and on_gpu(steps_on_gpu)
        self.writing: set[Writing] = set()
        self.claims: WeakSet[Claim] = WeakSet()  # a page's story holds its own, a call too

    async def stop(self, request: gr.Request) -> None:
        """Stop was pressed, or the page was closed: the session's runs end, its calls' too."""
        for claim in [*self.claims]:
            if claim.session == request.session_hash:
                claim.stop()


class Writing:
    """One run as the page sees it: what is written, what it waits for, and its end by Stop.

    The steps of the draft that it `begins` with are shown at once; the row gives them too, made
    again where their keys and values are gone. These are not `kept` where no run will go on.
    """

    def __init__(self, begins: Draft, runs: Runs, kept: bool = True) -> None:
        self.begins, self._runs, self._kept = begins, runs, kept
        self.written = Continuation(begins)
        self.stage = "" if begins.done else "Starting …"  # what it waits for
        self._task: asyncio.Task[None] | None = None

    def start(self, changed: Callable[[], None]) -> asyncio.Task[None]:
        """Writes to the end; calls `changed` when `written` or `stage` should be shown again.

        The first token is shown at once, the others together at intervals that grow with the
        number of runs. The task raises what ends the run, and ValueError if the line is full.
        """
        self._task = asyncio.ensure_future(self._write(changed))
        self._task.add_done_callback(lambda _: changed())
        return self._task

    def draft(self, told: str = "") -> Draft:
        """What is written so far."""
        steps = (*self.written.steps, *self.written.ahead)
        return replace(self.begins, steps=steps, shown=len(self.written.steps), told=told)

    @property
    def over(self) -> bool:
        return self._task is not None and self._task.done()

    def stop(self) -> None:
        """Ends the run at what is written, from within the event loop."""
        if not self.over:
            self._task.cancel()
            self.stage, self.written.stopped = "", True
            self.written.finish()

    async def _write(self, changed: Callable[[], None]) -> None:
        if self.begins.done:
            return
        held = ExitStack()  # what the row needs, and the row
        job = _LOADERS.submit(contextvars.copy_context().run, self._row, held)
        row = asyncio.wrap_future(job)
        try:
            while not row.done():
                changed()
                await asyncio.wait([row], timeout=LOOK_SECONDS)
            self._runs.writing.add(self)
            await self._read(row.result(), changed)
        finally:
            self._runs.writing.discard(self)
            row.cancel()  # and the job with it, if it has not begun
            job.add_done_callback(lambda _: held.close())

    async def _read(self, row: StepStream, changed: Callable[[], None]) -> None:
        """Moves steps from the row to what is written."""
        while not await row.ready(LOOK_SECONDS):
            self.stage = f"Waiting to write: place {row.place} …" if row.place else "Reading …"
            changed()
        self.stage, again = "", len(self.begins.steps)  # that are there already
        async for step in row:
            steps = [step, *row.take()]
            seconds = time.perf_counter() - row.started
            for new in steps[again:]:
                self.written.add(seconds, new)
            again = max(0, again - len(steps))
            changed()
            if steps[-1].stop is not None:
                return
            await row.ended(update_seconds(len(self._runs.writing)))

    def _row(self, held: ExitStack) -> StepStream:
        """The row of steps, wherever it is written; it may take as long as a model loads.

        Raises ValueError if too many wait already.
        """
        asked, runs = self.begins.asked, self._runs
        options, key = asked.options, (asked.source, asked.device, asked.precision)
        if self.begins.shown is not None:
            options = replace(options, max_new_tokens=options.max_new_tokens + AHEAD)
        given = (asked.ids, options, asked.tokenizer.end_of_text_id)
        if runs.cluster is not None and not is_kept(asked.source):
            row: StepStream = ClusterRow(runs.cluster, key, *given)
        elif runs.on_gpu and asked.device == "cuda":
            if asked.source in HUB_MODELS:  # before: a visitor's seconds on a GPU are few
                download(asked.source, self._on_stage)
            row = borrowed_run(runs.on_gpu(asked.source, asked.precision, *given))
        else:
            model = held.enter_context(runs.registry.borrow(*key, self._on_stage))
            scheduler = scheduler_for(model)
            if scheduler.waiting >= MAX_WAITING:
                raise ValueError(
                    f"{MAX_WAITING} others are waiting to write: try again in a minute."
                )
            known = self.begins.steps if self._kept else None
            text_of = asked.tokenizer.stream().push
            row = scheduler.submit(*given, text_of=text_of, known=known)
        return held.enter_context(closing(row))

    def _on_stage(self, fraction: float, text: str) -> None:
        if self.over or self.written.stopped:
            raise CancelledError  # in the thread that loads: nobody wants the model any more
        self.stage = f"{text[:1].upper()}{text[1:]} … {100 * fraction:.0f} %"


class Claim:
    """The right to write, from the click, or a call of /generate, to the end of the runs."""

    def __init__(self, of: Runs, session: str | None = None, order: Order | None = None) -> None:
        self.session, self.order, self._of = session, order, of
        self.stopped = False
        self.runs: Sequence[Writing] = ()
        of.claims.add(self)

    def stop(self) -> None:
        """The runs end where they are, also those that are still to come."""
        self.stopped = True
        for run in self.runs:
            run.stop()

    async def write(self, *runs: Writing) -> AsyncIterator[None]:
        """Comes by whenever the page should show one of `runs` again; they go on together.

        Raises what ends one of them.
        """
        news = asyncio.Event()
        jobs = [run.start(news.set) for run in runs]
        self.runs = runs
        if self.stopped:  # before there was a run to stop
            self.stop()
        try:
            over = False
            while not over:
                await news.wait()
                news.clear()
                over = all(run.over for run in runs)
                for job in jobs:
                    if job.done() and not job.cancelled():
                        job.result()
                yield
                if len(runs) > 1:
                    await asyncio.sleep(update_seconds(len(self._of.writing)))
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
