"""A text that is being written, as its visitor has it: steps are taken as they come."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gpt.cache import KVCache
from gpt.generate import Row, Step
from gpt.model import GPTModel
from gpt.serving import kept


class StepStream:
    """A visitor's asynchronous iterator of steps, to be closed by whoever has it.

    Who writes them calls `put` and `end`, in any thread; neither side needs a lock for it.
    """

    place = 0  # in the waiting line, 1 is next; 0 once it runs or is over
    started: float | None = None  # when it left the waiting line, by time.perf_counter()
    over = False  # the last step was made, or an error ended the run, or it was closed
    _closed = False
    _error: BaseException | None = None

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()  # that were made and not taken
        self._wake: Callable[[], None] = lambda: None  # set by the visitor's side, who waits

    def put(self, *steps: Step) -> None:
        """Hands steps to the visitor."""
        self._steps += steps
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """Tells the visitor that no other step comes, and what ended the run."""
        self._error = error
        self.over = True
        self._wake()

    def close(self) -> None:
        """Frees the row before the next step; nothing more comes."""
        self._closed = self.over = True
        self._steps.clear()
        self._wake()

    def take(self) -> list[Step]:
        """The steps that are there and were not taken yet, without waiting."""
        steps = self._steps
        return [] if self._closed else [steps.popleft() for _ in range(len(steps))]

    def __aiter__(self) -> "StepStream":
        return self

    async def __anext__(self) -> Step:
        while True:
            over = self.over  # asked first: the last step is appended before it is set
            if self._steps and not self._closed:
                return self._steps.popleft()
            if over:
                error, self._error = self._error, None
                self.close()
                raise error or StopAsyncIteration
            await self.ready()

    async def ready(self, timeout_seconds: float | None = None) -> bool:
        """True once there is a step, the end or an error; False if the time is over before."""
        return await self._until(lambda: self.over or bool(self._steps), timeout_seconds)

    async def ended(self, timeout_seconds: float) -> None:
        """Comes back once the last step is there, or the time is over."""
        await self._until(lambda: self.over, timeout_seconds)

    async def _until(self, holds: Callable[[], bool], timeout_seconds: float | None) -> bool:
        loop = asyncio.get_running_loop()
        news = loop.create_future()

        def wake() -> None:
            try:
                if holds() or loop.is_closed():
                    loop.call_soon_threadsafe(news.cancel)  # ends the wait, however often
            except RuntimeError:  # that loop has ended, and the visitor with it
                self.over = True

        self._wake = wake
        try:
            if not holds():  # asked after `wake` is set: no step is missed
                await asyncio.wait([news], timeout=timeout_seconds)
        finally:
            if self._wake is wake:
                self._wake = lambda: None
        return holds()


class ScheduledRow(Row, StepStream):
    """A row of a scheduler, on whose thread the steps are made."""

    cache: KVCache | None = None
    n_bytes = 0  # of its full cache
    reading: Iterator[bool] | None = None  # of a prompt, or a window that moved; None: it writes
    kept_of: GPTModel | None = None  # whose kept texts it goes on with, and is one of at its end
    known: Sequence[Step] = ()  # its first steps, until it begins; none without `kept_of`

    def __init__(self, *given: Any, **more: Any) -> None:
        Row.__init__(self, *given, **more)
        StepStream.__init__(self)
        self.n_prompt = len(self.window)

    def hand_over(self, step: Step | BaseException) -> None:
        """Gives the visitor a step, or the error that ends the row."""
        if isinstance(step, BaseException):
            self.cache = None  # is not kept
            self.leave()
            self.end(step)
        else:
            self.put(step)
            if self.stop is not None:
                self.leave()
                self.end()

    def leave(self) -> None:
        """Lets go of the model, and of its keys and values or hands them on."""
        if self.kept_of and self.cache and not self.reading:
            kept.keep(self.kept_of, self.window[: self.cache.length], self.n_prompt, self.cache)
        self.cache = self.reading = self.kept_of = None

    def go_on(self) -> bool:
        """Begins after the steps that are known, where that gives the same bits as writing them.

        So it does if their keys and values were kept, and past the context, whose newest window is
        read anew for each token. Whether there is nothing to read.
        """
        known, self.known = self.known, ()
        ids = [*self.window, *(step.token_id for step in known)]
        if len(ids) <= self.context_length:
            if not kept.take(self.kept_of, ids[:-1], self.n_prompt, self.cache):
                return False
            self.reading = None
        for step in known:
            self.uniform()
            self.append(step.token_id)
            self.hand_over(step)
        return self.reading is None
