"""The runs of all visitors: each from its start to its last token, and one of a page at a time.

No thread waits for a visitor while text is written: the engine's thread writes everybody's, and
the page takes what has come of each a few times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

from gpt.checkpoints.sources import is_kept
from gpt.generate import Step
from gpt.serving.cluster import ClusterRow
from gpt.serving.registry import Registry
from gpt.serving.scheduler import scheduler_for
from gpt.ui.generation.borrowed_gpu import Stage, borrowed_row, steps_on_gpu
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.wish import Wish

MAX_WAITING = 200  # behind the rows of a scheduler
LOST_SECONDS = 10  # after which a claim whose run has not begun is no claim: its page has gone
PATIENCE_SECONDS = 5  # for a stopped run to end
LOOK_SECONDS = 0.25  # how often a run that waits looks at what for
_LOADERS = ThreadPoolExecutor(400, thread_name_prefix="loader")  # they wait, for a model mostly


def update_seconds(writing: int) -> float:
    """Between two updates of one page when so many write: their sum takes the engine's time.

    Everybody still sees at least four a second.
    """
    return min(0.22, max(0.06, 0.0125 * writing))


class Writing:
    """One run as the page sees it: what is written, what it waits for, and its end by Stop.

    Made in the event loop that runs `write`. `known` are its first steps, shown at once; the row
    gives them too, made again where their keys and values are gone; None where no run will go on
    with this one. At most `most` are shown.
    """

    def __init__(
        self,
        asked: Wish,
        runs: Runs,
        known: Sequence[Step] | None = (),
        most: int | None = None,
    ) -> None:
        self.asked = asked
        self.written = Continuation(asked, most)
        for step in known or ():
            self.written.add(0.0, step)
        self._again = len(known or ())  # steps that will come and are there already
        self.stage = "Starting …"  # what it waits for; empty while it writes
        self._context = runs.row(asked, self._on_stage, known)
        self._all_writing = runs.writing
        self._left = False
        self._row: Any = None
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stopped(self) -> bool:
        return self._stop.done()

    def stop(self) -> None:
        """Ends the run at what is written, from within the event loop."""
        if self._row is not None:
            self._row.close()
        if not self.stopped:
            self._stop.set_result(None)

    async def write(self, changed: Callable[[], None]) -> None:
        """Writes to the end; calls `changed` when the page should show `written` or `stage` again.

        The first token is shown at once, the others together at intervals that grow with the
        number of runs. Raises what ends the run, and ValueError if the line is full.
        """
        event = contextvars.copy_context()  # who borrows a GPU is asked of it
        job: Future[Any] = _LOADERS.submit(event.run, self._context.__enter__)
        row = asyncio.wrap_future(job)
        try:
            changed()
            while not row.done() and not self.stopped:
                await asyncio.wait(
                    [row, self._stop], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                changed()
            if not self.stopped:
                self._all_writing.add(self)
                with contextlib.closing(row.result()) as self._row:
                    await self._read(self._row, changed)
            if self.stopped:
                self.stage = ""
                self.written.stop()
        finally:
            self._left = True
            self._all_writing.discard(self)
            row.cancel()  # and the job with it, if it has not begun
            job.add_done_callback(self._leave)

    async def _read(self, row: Any, changed: Callable[[], None]) -> None:
        """Moves steps from the row to what is written."""
        while not self.stopped and not await row.ready(LOOK_SECONDS):
            self.stage = f"Waiting to write: place {row.place} …" if row.place else "Reading …"
            changed()
        self.stage = ""
        while not self.stopped:
            step = await anext(row, None)
            if step is None:
                return
            self._add([step, *row.take()], row.started)
            changed()
            if self.written.ended:
                return
            await row.ended(update_seconds(len(self._all_writing)))
            while not self.stopped and not await row.ready(LOOK_SECONDS):
                pass

    def _add(self, steps: list[Step], started: float | None) -> None:
        now = time.perf_counter()
        known, self._again = min(self._again, len(steps)), max(0, self._again - len(steps))
        for step in steps[known:]:
            self.written.add(now - (started or now), step)

    def _on_stage(self, fraction: float, text: str) -> None:
        if self._left:
            raise Left  # in the thread that loads: nobody wants the model any more
        self.stage = f"{text[:1].upper()}{text[1:]} … {100 * fraction:.0f} %"

    def _leave(self, job: Future[Any]) -> None:
        if not job.cancelled() and job.exception() is None:
            self._context.__exit__(None, None, None)


class Left(Exception):
    """Ends the loading of a model for a run that has ended."""


@dataclass(eq=False)
class Claim:
    """A page's right to its one run, from the click to the run's end; /generate has one too."""

    made: float = field(default_factory=time.monotonic)
    begun: bool = False
    stopped: bool = False
    runs: Sequence[Writing] = ()
    failed: str = ""  # a model that could not be had

    def stop(self) -> None:
        self.stopped = True
        for run in self.runs:
            run.stop()


class Runs:
    """The runs that go on, of all visitors; claims by the session that made them."""

    def __init__(
        self, registry: Registry, on_gpu: Callable[[Any], Any] | None = None, cluster: Any = None
    ) -> None:
        self.registry = registry
        self._cluster = cluster
        self._on_gpu = on_gpu and on_gpu(steps_on_gpu)
        self.writing: set[Writing] = set()
        self.claims: dict[str | None, Claim] = {}
        self._calls: list[tuple[str | None, Claim]] = []  # of /generate, with their session

    def claim(self, session: str | None) -> bool:
        """Whether the page may start a run: one at a time. Who ends the run deletes its claim."""
        claim = self.claims.get(session)
        if claim and (claim.begun or time.monotonic() - claim.made < LOST_SECONDS):
            return False
        self.claims[session] = Claim()
        return True

    def begin(self, session: str | None) -> Claim | None:
        """The page's claim, the first time that it is asked for."""
        claim = self.claims.get(session)
        if claim is None or claim.begun:
            return None
        claim.begun = True
        return claim

    def stop(self, session: str | None) -> None:
        """The session's runs end where they are, of its page and of its calls."""
        for of, claim in (*self.claims.items(), *self._calls):
            if of == session:
                claim.stop()

    def left(self, session: str | None) -> None:
        """The session's page was closed: its runs end, and a claim without a run is given up."""
        self.stop(session)
        claim = self.claims.get(session)
        if claim and not claim.begun:  # else its run deletes it
            del self.claims[session]

    async def ended(self, session: str | None) -> None:
        """Stops the run of the session, and comes back once it is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while session in self.claims and time.monotonic() < deadline:
            self.stop(session)
            await asyncio.sleep(0.02)

    def row(
        self, asked: Wish, on_stage: Stage, known: Sequence[Step] | None
    ) -> AbstractContextManager[Any]:
        """The row of steps, wherever it is written; `known` as for `Scheduler.submit`.

        The context keeps what the row needs; entering it may take as long as a model loads.
        """
        if self._cluster is not None and not is_kept(asked.source):
            key = (asked.source, asked.device, asked.precision)
            stop_id = asked.tokenizer.end_of_text_id
            row = ClusterRow(self._cluster, key, asked.ids, asked.options, stop_id)
            return contextlib.nullcontext(row)
        if self._on_gpu and asked.device == "cuda":
            return borrowed_row(self._on_gpu, asked, on_stage)
        return self._row_here(asked, on_stage, known)

    @contextlib.contextmanager
    def _row_here(
        self, asked: Wish, on_stage: Stage, known: Sequence[Step] | None
    ) -> Iterator[Any]:
        """A row of the scheduler of a borrowed model; ValueError if too many wait already."""
        with self.registry.borrow(asked.source, asked.device, asked.precision, on_stage) as model:
            scheduler, tokenizer = scheduler_for(model), asked.tokenizer
            if scheduler.waiting >= MAX_WAITING:
                raise ValueError(
                    f"{MAX_WAITING} others are waiting to write: try again in a minute."
                )
            text_of, stop_id = tokenizer.stream().push, tokenizer.end_of_text_id
            with scheduler.submit(
                asked.ids, asked.options, stop_id, text_of=text_of, known=known
            ) as row:
                yield row

    async def follow(
        self, runs: Sequence[Writing], claim: Claim | None = None
    ) -> AsyncIterator[None]:
        """Comes by whenever the page should show one of `runs` again; they go on together."""
        news, claim = asyncio.Event(), claim or Claim()
        claim.runs = runs
        if claim.stopped:  # before there was a run to stop
            claim.stop()
        jobs = [asyncio.ensure_future(run.write(news.set)) for run in runs]
        for job in jobs:
            job.add_done_callback(lambda _: news.set())
        try:
            over = False
            while not over:
                await news.wait()
                news.clear()
                over = all(job.done() for job in jobs)
                for run, job in zip(runs, jobs, strict=True):
                    if job.done() and job.exception() and not run.written.steps:
                        claim.failed = run.asked.source
                    if job.done():
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

    @contextlib.contextmanager
    def call(self, session: str | None) -> Iterator[Claim]:
        """The claim of a run of /generate, of which a session may have several at once."""
        call = session, Claim()
        self._calls.append(call)
        try:
            yield call[1]
        finally:
            self._calls.remove(call)
