"""The runs that go on, of all visitors: one for a page at a time, by the session that asked."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from gpt.checkpoints.sources import is_kept
from gpt.serving.registry import Registry
from gpt.ui.generation.borrowed_gpu import borrowed_row, steps_on_gpu
from gpt.ui.generation.run import (
    Stage,
    Wish,
    Writing,
    cluster_row,
    local_row,
    update_seconds,
    wish,
)
from gpt.ui.generation.settings import sampling_options

LOST_SECONDS = 10  # after which a claim whose run has not begun is no claim: its page has gone
PATIENCE_SECONDS = 5  # for a stopped run to end


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

    async def ended(self, session: str) -> None:
        """Stops the run of the session, and comes back once it is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while session in self.claims and time.monotonic() < deadline:
            self.stop(session)
            await asyncio.sleep(0.02)

    def begin_row(self, asked: Wish, on_stage: Stage) -> AbstractContextManager[Any]:
        """The row of steps, wherever it is written."""
        if self._cluster is not None and not is_kept(asked.source):
            return cluster_row(self._cluster, asked)
        if self._on_gpu and asked.device == "cuda":
            return borrowed_row(self._on_gpu, asked, on_stage)
        return local_row(self.registry, asked, on_stage)

    async def follow(self, runs: Sequence[Writing], session: str) -> AsyncIterator[None]:
        """Comes by whenever the page should show one of `runs` again; they go on together."""
        news = asyncio.Event()

        async def read(run: Writing) -> None:
            try:
                async with aclosing(run.updates(self._writing)) as updates:
                    async for _ in updates:
                        news.set()
            except Exception:
                if not run.written.steps:
                    self.failed_to_load[session] = run.asked.source
                raise
            finally:
                news.set()

        self._of[session] += runs
        jobs = [asyncio.ensure_future(read(run)) for run in runs]
        try:
            while not all(job.done() for job in jobs):
                await news.wait()
                news.clear()
                for job in jobs:
                    if job.done():
                        job.result()
                yield
                if len(runs) > 1:
                    await asyncio.sleep(update_seconds(len(self._writing)))
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            self._of[session] = [run for run in self._of[session] if run not in runs]
            if not self._of[session]:
                del self._of[session]

    async def write(
        self,
        prompt: Any,
        values: Mapping[str, Any],
        source: str,
        device: str,
        precision: str,
        request: gr.Request | None,
        steering: tuple[tuple[int, int], ...] = (),
    ) -> AsyncIterator[Writing]:
        """The run that goes on, at each update. Raises ValueError if it cannot be had."""
        options = sampling_options(values, steering)
        asked = await asyncio.to_thread(
            wish, self.registry, prompt, options, source, device, precision
        )
        run = Writing(asked, self.begin_row)
        session = (request.session_hash if request else "") or ""
        async with aclosing(self.follow([run], session)) as updates:
            async for _ in updates:
                yield run
