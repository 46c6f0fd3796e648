"""A row of the scheduler, and the visitor's side of it: steps are taken as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gpt.cache import KVCache
from gpt.generate import Row, Step
from gpt.serving.kept import Kept

if TYPE_CHECKING:
    from gpt.serving.scheduler import Scheduler


class Handover:
    """Steps that were made and that the visitor has not taken; neither side needs a lock for it."""

    started: float | None = None
    over = False  # nothing will be appended
    closed = False  # by the visitor
    error: BaseException | None = None
    wake: Callable[[], Any] | None = None  # set while the visitor waits

    def __init__(self) -> None:
        self.steps: deque[Step] = deque()

    def tell(self) -> None:
        """Wakes the visitor, if it waits."""
        wake = self.wake  # only the visitor's side sets it: no wake-up is lost
        if wake is not None:
            wake()

    def has_ended(self) -> bool:
        return self.over or self.closed

    def has_news(self) -> bool:
        """Whether the visitor need not wait."""
        return self.has_ended() or bool(self.steps)


class ScheduledRow(Row, Handover):
    """A visitor's row, whose steps the engine thread appends."""

    cache: KVCache | None = None
    n_bytes = 0  # of its full cache
    reading: Iterator[bool] | None = None  # of a prompt, or a window that moved; None: it writes
    kept: Kept | None = None  # where its keys and values go when it ends
    known: Sequence[Step] = ()  # its first steps, until it begins

    def __init__(self, *given: Any, **more: Any) -> None:
        Row.__init__(self, *given, **more)
        Handover.__init__(self)
        self.n_prompt = len(self.window)

    def put(self, step: Step | BaseException) -> None:
        """Hands a step, or the error that ends the row, to the visitor."""
        if isinstance(step, BaseException):
            self.error = step
        else:
            self.steps.append(step)
        if self.stop is not None or self.error is not None:
            self.leave()
            self.over = True
        self.tell()

    def leave(self) -> None:
        """Lets go of its keys and values, or hands them on."""
        if self.kept and self.cache and not self.reading and self.error is None:
            self.kept.keep(self.window[: self.cache.length], self.n_prompt, self.cache)
        self.cache = self.reading = None

    def go_on(self) -> bool:
        """Begins after the steps that are known, where that gives the same bits as writing them.

        So it does if their keys and values were kept, and past the context, whose newest window is
        read anew for each token. Whether there is nothing to read.
        """
        known, self.known = self.known, ()
        ids = [*self.window, *(step.token_id for step in known)]
        moved = len(ids) > self.context_length
        if not moved:
            if not (self.kept and self.kept.take(ids[:-1], self.n_prompt, self.cache)):
                return False
            self.reading = None
        for step in known:
            self.uniform()
            self.append(step.token_id)
            self.put(step)
        return self.reading is None


class Run:
    """A visitor's asynchronous iterator of steps; closing it frees its row."""

    def __init__(self, row: Handover, scheduler: Scheduler | None = None) -> None:
        self._row = row
        self._scheduler = scheduler  # keeps it, and its model, meanwhile

    def take(self) -> list[Step]:
        """The steps that are there and were not taken yet, without waiting."""
        steps = self._row.steps
        return [] if self._row.closed else [steps.popleft() for _ in range(len(steps))]

    @property
    def place(self) -> int:
        """The place in the waiting line, 1 is next; 0 once it runs or is over."""
        scheduler = self._scheduler
        return 0 if scheduler is None else scheduler.place(self._row)

    @property
    def started(self) -> float | None:
        """When it left the waiting line, by time.perf_counter()."""
        return self._row.started

    @property
    def over(self) -> bool:
        """Whether the last step was made, or an error ended the run, or it was closed."""
        return self._row.has_ended()

    def close(self) -> None:
        """Frees the row before the next step; nothing more comes."""
        self._row.closed = True
        self._row.steps.clear()
        self._scheduler = None
        self._row.tell()

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Step:
        while True:
            over = self.over  # asked first: the last step is appended before it is set
            if self._row.steps and not self._row.closed:
                return self._row.steps.popleft()
            if over:
                error, self._row.error = self._row.error, None
                self.close()
                raise error or StopAsyncIteration
            await self.ready()

    async def ready(self, timeout_seconds: float | None = None) -> bool:
        """True once there is a step, the end or an error; False if the time is over before."""
        await self._until(self._row.has_news, timeout_seconds)
        return self._row.has_news()

    async def ended(self, timeout_seconds: float) -> None:
        """Comes back once the last step is there, or the time is over."""
        await self._until(self._row.has_ended, timeout_seconds)

    async def _until(self, holds: Callable[[], bool], timeout_seconds: float | None) -> None:
        loop, row = asyncio.get_running_loop(), self._row
        news = loop.create_future()

        def tell() -> None:
            if not news.done():
                news.set_result(None)

        def wake() -> None:  # does not hold the run: a dropped one is closed at once
            try:
                if holds() or loop.is_closed():
                    loop.call_soon_threadsafe(tell)
            except RuntimeError:  # that loop has ended, and the visitor with it
                row.closed = True

        row.wake = wake
        try:
            if not holds():  # asked after `wake` is set: no step is missed
                await asyncio.wait([news], timeout=timeout_seconds)
        finally:
            if row.wake is wake:
                row.wake = None

    def __del__(self) -> None:
        self._row.closed = True
