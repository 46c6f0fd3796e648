"""The runs of all visitors: each from its start to its last token, and one of a page at a time.

No thread waits for a visitor while text is written: the engine's thread writes everybody's, and
the page takes what has come of each a few times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from gpt.checkpoints import HUB_MODELS, download
from gpt.checkpoints.sources import is_kept
from gpt.generate import Step
from gpt.serving.cluster import ClusterRow
from gpt.serving.registry import Registry
from gpt.serving.run import Run
from gpt.serving.scheduler import scheduler_for
from gpt.ui.generation.borrowed_gpu import BorrowedRow, steps_on_gpu
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.settings import MAX_NEW_TOKENS
from gpt.ui.generation.wish import Wish

MAX_WAITING = 200  # behind the rows of a scheduler
LOOK_SECONDS = 0.25  # how often a run that waits looks at what for
AHEAD = 10  # tokens that a single step writes beyond what it shows: the next ones come at once
Order = tuple[str, Any]  # what a run is to do, and with what
_LOADERS = ThreadPoolExecutor(400, thread_name_prefix="loader")  # they wait, for a model mostly


def update_seconds(writing: int) -> float:
    """Between two updates of one page when so many write: their sum takes the engine's time.

    Everybody still sees at least four a second.
    """
    return min(0.22, max(0.06, 0.0125 * writing))


class Writing:
    """One run as the page sees it: what is written, what it waits for, and its end by Stop.

    `known` are its first steps, shown at once; the row gives them too, made again where their keys
    and values are gone; None where no run will go on with this one. With `most` only so many steps
    are shown, and some more are written.
    """

    def __init__(
        self,
        asked: Wish,
        runs: Runs,
        known: Sequence[Step] | None = (),
        most: int | None = None,
    ) -> None:
        self.asked, self._runs, self._known = asked, runs, known
        self.written = Continuation(asked, most, known or ())
        self.stage = "Starting …"  # what it waits for; empty while it writes
        self._ahead = 0 if most is None else AHEAD
        self._task: asyncio.Task[None] | None = None

    def start(self, changed: Callable[[], None]) -> asyncio.Task[None]:
        """Writes to the end; calls `changed` when `written` or `stage` should be shown again.

        The first token is shown at once, the others together at intervals that grow with the
        number of runs. The task raises what ends the run, and ValueError if the line is full.
        """
        self._task = asyncio.ensure_future(self._write(changed))
        self._task.add_done_callback(lambda _: changed())
        return self._task

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
        held = ExitStack()  # what the row needs, and the row
        job = _LOADERS.submit(self._row, held)
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

    async def _read(self, row: Run, changed: Callable[[], None]) -> None:
        """Moves steps from the row to what is written."""
        while not await row.ready(LOOK_SECONDS):
            self.stage = f"Waiting to write: place {row.place} …" if row.place else "Reading …"
            changed()
        self.stage, again = "", len(self._known or ())  # steps that are there already
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

    def _row(self, held: ExitStack) -> Run:
        """The row of steps, wherever it is written; it may take as long as a model loads.

        Raises ValueError if too many wait already.
        """
        asked, runs = self.asked, self._runs
        options, stop_id = asked.options, asked.tokenizer.end_of_text_id
        if self._ahead:
            limit = min(options.max_new_tokens + self._ahead, MAX_NEW_TOKENS)
            options = asked.with_options(max_new_tokens=limit).options
        key = (asked.source, asked.device, asked.precision)
        if runs.cluster is not None and not is_kept(asked.source):
            row: Run = ClusterRow(runs.cluster, key, asked.ids, options, stop_id)
        elif runs.on_gpu and asked.device == "cuda":
            if asked.source in HUB_MODELS:  # before: a visitor's seconds on a GPU are few
                download(asked.source, self._on_stage)
            row = BorrowedRow(
                runs.on_gpu(asked.source, asked.precision, asked.ids, options, stop_id)
            )
        else:
            model = held.enter_context(runs.registry.borrow(*key, self._on_stage))
            scheduler = scheduler_for(model)
            if scheduler.waiting >= MAX_WAITING:
                raise ValueError(
                    f"{MAX_WAITING} others are waiting to write: try again in a minute."
                )
            text_of = asked.tokenizer.stream().push
            row = scheduler.submit(asked.ids, options, stop_id, text_of=text_of, known=self._known)
        return held.enter_context(row)

    def _on_stage(self, fraction: float, text: str) -> None:
        if self.over or self.written.stopped:
            raise CancelledError  # in the thread that loads: nobody wants the model any more
        self.stage = f"{text[:1].upper()}{text[1:]} … {100 * fraction:.0f} %"


@dataclass(eq=False)
class Claim:
    """The right to one run, from the click, or a call of /generate, to the run's end."""

    session: str | None = None
    order: Order = ("write", None)
    begun: bool = False
    stopped: bool = False
    runs: Sequence[Writing] = ()

    def stop(self) -> None:
        self.stopped = True
        for run in self.runs:
            run.stop()


class Runs:
    """The runs that go on, of all visitors, and where they are written."""

    def __init__(
        self, registry: Registry, on_gpu: Callable[[Any], Any] | None = None, cluster: Any = None
    ) -> None:
        self.registry = registry
        self.cluster = cluster
        self.on_gpu = on_gpu and on_gpu(steps_on_gpu)
        self.writing: set[Writing] = set()
        self._claims: WeakSet[Claim] = WeakSet()  # a page's story holds its own, a call too

    def claim(self, session: str | None, order: Order = ("write", None)) -> Claim:
        """A new claim, which whoever holds it may stop, and whoever names its session."""
        claim = Claim(session, order)
        self._claims.add(claim)
        return claim

    def stop(self, session: str | None) -> None:
        """The session's runs end where they are, of its page and of its calls."""
        for claim in [*self._claims]:
            if claim.session == session:
                claim.stop()

    async def follow(
        self, runs: Sequence[Writing], claim: Claim | None = None
    ) -> AsyncIterator[None]:
        """Comes by whenever the page should show one of `runs` again; they go on together."""
        news, claim = asyncio.Event(), claim or Claim()
        jobs = [run.start(news.set) for run in runs]
        claim.runs = runs
        if claim.stopped:  # before there was a run to stop
            claim.stop()
        try:
            over = False
            while not over:
                await news.wait()
                news.clear()
                over = all(job.done() for job in jobs)
                for job in jobs:
                    if job.done() and not job.cancelled():
                        job.result()
                yield
                if len(runs) > 1:
                    await asyncio.sleep(update_seconds(len(self.writing)))
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def write(
        self, asked: Wish, claim: Claim | None = None, known: Sequence[Step] | None = ()
    ) -> AsyncIterator[Writing]:
        """One run, at each update. Raises what ends it."""
        run = Writing(asked, self, known)
        async with aclosing(self.follow([run], claim)) as updates:
            async for _ in updates:
                yield run
