"""A run on a GPU that is borrowed for it, as Hugging Face's ZeroGPU lends them.

The run's steps come from a process that is forked for it and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpt.accounting.memory import weight_bytes
from gpt.checkpoints import HUB_MODELS, download, tokenizer_of
from gpt.checkpoints.sources import config_of, load_model
from gpt.generate import Step, generate
from gpt.sampling import SamplingOptions
from gpt.ui.generation.run import Stage
from gpt.ui.generation.wish import Wish
from gpt.ui.parts.errors import one_line_errors

_READERS = ThreadPoolExecutor(64, thread_name_prefix="borrowed")


def gpu_seconds(source: str, precision: str, _: Any, options: SamplingOptions, *__: Any) -> int:
    """How long a GPU is borrowed for `steps_on_gpu`, 10 to 60 s: by bytes and by tokens."""
    gigabytes = weight_bytes(config_of(source), precision) / 10**9
    return min(60, math.ceil(10 + 4 * gigabytes + options.max_new_tokens / 20))


@one_line_errors  # in here: only gr.Error leaves the borrowed process with its message
def steps_on_gpu(
    source: str, precision: str, ids: Sequence[int], options: SamplingOptions, stop_id: int
) -> Iterator[Step]:
    """What the borrowed process runs. The process loads its own model and asks for no lock."""
    model = load_model(source, "cuda", precision)
    text_of = tokenizer_of(source).stream().push if options.stop else None
    yield from generate(model, ids, options, stop_id=stop_id, text_of=text_of)


@contextlib.contextmanager
def borrowed_row(
    on_gpu: Callable[..., Iterator[Step]], asked: Wish, on_stage: Stage
) -> Iterator[StepsOfThread]:
    """A row of the steps of `on_gpu`, which is `steps_on_gpu` within `spaces.GPU`.

    A model of the Hub is downloaded before: a visitor's seconds on a GPU are few.
    """
    if asked.source in HUB_MODELS:
        download(asked.source, on_stage)
    stop_id = asked.tokenizer.end_of_text_id
    steps = on_gpu(asked.source, asked.precision, asked.ids, asked.options, stop_id)
    with contextlib.closing(StepsOfThread(steps)) as row:
        yield row


class StepsOfThread:
    """The steps of a plain iterator, read by a thread of its own; as the scheduler's Run."""

    place = 0

    def __init__(self, steps: Iterator[Step]) -> None:
        self.started = time.perf_counter()
        self._steps = steps
        self._arrived: deque[Step] = deque()
        self._closed = False
        self._news = threading.Condition()
        # spaces asks the event's context who the visitor is.
        self._job = _READERS.submit(contextvars.copy_context().run, self._read)
        self._job.add_done_callback(self._tell)

    def _read(self) -> None:
        with contextlib.closing(self._steps):  # type: ignore[type-var]  # a generator
            for step in self._steps:
                if self._closed:
                    return
                self._arrived.append(step)
                self._tell()

    def _tell(self, *_: Any) -> None:
        with self._news:
            self._news.notify_all()

    def take(self) -> list[Step]:
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    async def ready(self, timeout_seconds: float) -> bool:
        def look() -> bool:
            with self._news:
                return self._news.wait_for(
                    lambda: self._arrived or self._job.done(), timeout_seconds
                )

        return bool(await asyncio.to_thread(look))

    async def __anext__(self) -> Step:
        while not await self.ready(1.0):
            pass
        if self._arrived:
            return self._arrived.popleft()
        self._job.result()  # raises what ended it
        raise StopAsyncIteration

    def close(self) -> None:
        self._closed = True
