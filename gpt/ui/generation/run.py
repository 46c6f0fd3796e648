"""A run from its start to its last token: loaded, in line, written, stopped.

No thread waits for a visitor while text is written: the engine's thread writes everybody's, and
the page takes what has come of each a few times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from gpt.generate import Step
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.wish import Wish

LOOK_SECONDS = 0.25  # how often a run that waits looks at what for
Stage = Callable[[float, str], None]
_LOADERS = ThreadPoolExecutor(400, thread_name_prefix="loader")  # they wait, for a model mostly


def update_seconds(writing: int) -> float:
    """Between two updates of one page when so many write: their sum takes the engine's time.

    Everybody still sees at least four a second.
    """
    return min(0.22, max(0.06, 0.012 * writing))


class Writing:
    """One run as the page sees it: what is written, what it waits for, and its end by Stop.

    Made in the event loop that runs `write`. `begin` gives a row of steps, as `Scheduler.submit`
    does, in a context that keeps what the row needs; entering it may block.
    `known` are its first steps, shown at once; the row gives them too, made again where their keys
    and values are gone; None where no run will go on with this one. At most `most` are shown.
    """

    def __init__(
        self,
        asked: Wish,
        begin: Callable[[Wish, Stage, Sequence[Step] | None], AbstractContextManager],
        known: Sequence[Step] | None = (),
        most: int | None = None,
    ) -> None:
        self.asked = asked
        self.written = Continuation(asked, most)
        for step in known or ():
            self.written.add(0.0, step)
        self._again = len(known or ())  # steps that will come and are there already
        self.stage = "Starting …"  # what it waits for; empty while it writes
        self.stopped = False
        self._context = begin(asked, self._on_stage, known)
        self._left = False
        self._row: Any = None
        self._loop = asyncio.get_running_loop()
        self._loaded_or_stopped: asyncio.Future[None] = self._loop.create_future()

    def stop(self) -> None:
        """Ends the run at what is written, from within the event loop."""
        self.stopped = True
        if self._row is not None:
            self._row.close()
        self._wake()

    async def write(self, changed: Callable[[], None], writing: set[Writing]) -> None:
        """Writes to the end; calls `changed` when the page should show `written` or `stage` again.

        The first token is shown at once, the others together at intervals that grow with the
        number of runs in `writing`. Raises what ends the run, and ValueError if the line is full.
        """
        event = contextvars.copy_context()  # who borrows a GPU is asked of it
        job: Future[Any] = _LOADERS.submit(event.run, self._context.__enter__)
        job.add_done_callback(self._wake_from_its_thread)
        try:
            changed()
            while not job.done() and not self.stopped:
                await asyncio.wait([self._loaded_or_stopped], timeout=LOOK_SECONDS)
                changed()
            if not self.stopped:
                writing.add(self)
                with contextlib.closing(job.result()) as self._row:
                    await self._read(self._row, changed, writing)
            if self.stopped:
                self.stage = ""
                self.written.stop()
        finally:
            self._left = True
            writing.discard(self)
            job.cancel()
            job.add_done_callback(self._leave)

    def _wake(self) -> None:
        if not self._loaded_or_stopped.done():
            self._loaded_or_stopped.set_result(None)

    def _wake_from_its_thread(self, _: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended while the model loaded
            self._loop.call_soon_threadsafe(self._wake)

    async def _read(self, row: Any, changed: Callable[[], None], writing: set[Writing]) -> None:
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
            await row.ended(update_seconds(len(writing)))
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
