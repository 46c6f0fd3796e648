"""The runs that go on, of all visitors: where each is written, and one for a page at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

from gpt.checkpoints.sources import is_kept
from gpt.generate import Step
from gpt.serving.cluster import ClusterRow
from gpt.serving.registry import Registry
from gpt.serving.scheduler import scheduler_for
from gpt.ui.generation.borrowed_gpu import borrowed_row, steps_on_gpu
from gpt.ui.generation.run import Stage, Writing, update_seconds
from gpt.ui.generation.wish import Wish

MAX_WAITING = 200  # behind the rows of a scheduler
LOST_SECONDS = 10  # after which a claim whose run has not begun is no claim: its page has gone
PATIENCE_SECONDS = 5  # for a stopped run to end


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
        self._writing: set[Writing] = set()
        self.claims: dict[str | None, Claim] = {}
        self._calls: list[tuple[str | None, Claim]] = []  # of /generate, with their session

    def claim(self, session: str | None) -> bool:
        """Whether the page may start a run: one at a time. Whose run has ended deletes the claim."""
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

    async def ended(self, session: str | None) -> None:
        """Stops the run of the session, and comes back once it is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while session in self.claims and time.monotonic() < deadline:
            self.stop(session)
            await asyncio.sleep(0.02)

    def row(
        self, asked: Wish, on_stage: Stage, known: Sequence[Step] | None
    ) -> AbstractContextManager[Any]:
        """The row of steps, wherever it is written; `known` as for `Scheduler.submit`."""
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
        jobs = [asyncio.ensure_future(run.write(news.set, self._writing)) for run in runs]
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
                    await asyncio.sleep(update_seconds(len(self._writing)))
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def write(
        self, asked: Wish, claim: Claim | None = None, known: Sequence[Step] | None = ()
    ) -> AsyncIterator[Writing]:
        """One run, at each update. Raises what ends it."""
        run = Writing(asked, self.row, known)
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
