"""Continuous batching: many visitors' sequences are rows of one batch on one engine thread.

Rows join and leave between two steps. A turn is some blocks of prefill, which take about as long
as a decode step, or up to MOST_READING where more wait for their first token than write, and then
a decode step of all rows that write.
What a row computes depends on that row alone: its tokens are the same in any company.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch

from gpt.accounting.memory import kv_cache
from gpt.cache import KVCache
from gpt.checkpoints import free_bytes
from gpt.generate import N_CANDIDATES, Row, Step, next_steps, read, read_in_blocks
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions
from gpt.serving.all_cores import take_turns
from gpt.serving.kept import Kept, kept_of

MAX_ROWS = 64
PREFILL_CHUNK = 64  # tokens; one block over as many takes about as long as a decode step
MOST_READING = 0.2  # seconds of a turn while others write, who are read four times a second
_MEMORY_SHARE = 4  # keys and values may take a quarter of what is free and not promised to others


class _Visit(Row):
    """A visitor's row: its cache and unread tokens, and the steps that the visitor has not taken.

    The engine thread appends steps and the visitor takes them; neither needs a lock for it.
    """

    cache: KVCache | None = None
    n_bytes = 0  # of its full cache
    started: float | None = None
    reads = True  # a prompt, or a window that moved, before it writes on
    chunk: Iterator[torch.Tensor | None] | None = None  # the forward pass that it is in
    over = False  # nothing will be appended
    closed = False  # by the visitor
    error: BaseException | None = None
    wake: Callable[[], Any] | None = None  # set while the visitor waits
    kept: Kept | None = None  # where its keys and values go when it ends
    known: Sequence[Step] = ()  # its first steps, until it begins

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.n_prompt = len(self.window)
        self.unread = self.window  # of prompt or window; else the newest token
        self.steps: deque[Step] = deque()

    def put(self, step: Step | BaseException) -> None:
        """Hands a step, or the error that ends the row, to the visitor."""
        if isinstance(step, BaseException):
            self.error = step
        else:
            self.steps.append(step)
        if self.stop is not None or self.error is not None:
            self.leave()
            self.over = True
        wake = self.wake  # only the visitor's side sets it: no wake-up is lost
        if wake is not None:
            wake()

    def leave(self) -> None:
        """Lets go of its keys and values, or hands them on."""
        if self.kept and self.cache and not self.reads and self.error is None:
            self.kept.keep(self.window[: self.cache.length], self.n_prompt, self.cache)
        self.cache = self.chunk = None

    def go_on(self, cache: KVCache) -> None:
        """Begins after the steps that are known, where that gives the same bits as writing them.

        So it does if their keys and values were kept, and past the context, whose newest window is
        read anew for each token.
        """
        known, self.known = self.known, ()
        ids = [*self.window, *(step.token_id for step in known)]
        moved = len(ids) > self.context_length
        if moved or (self.kept and self.kept.take(ids[:-1], self.n_prompt, cache)):
            self.reads = moved
            self.cache = None if moved else cache
            for step in known:
                self.uniform()
                self.append(step.token_id)
                self.put(step)
            self.unread = self.window if moved else ids[-1:]


class Run:
    """A visitor's iterator of steps, plain and asynchronous; closing it frees its row."""

    def __init__(self, visit: _Visit, scheduler: Scheduler) -> None:
        self._visit = visit
        self._scheduler: Scheduler | None = scheduler  # keeps it, and its model, meanwhile

    def take(self) -> list[Step]:
        """The steps that are there and were not taken yet, without waiting."""
        steps = self._visit.steps
        return [] if self._visit.closed else [steps.popleft() for _ in range(len(steps))]

    @property
    def place(self) -> int:
        """The place in the waiting line, 1 is next; 0 once it runs or is over."""
        scheduler = self._scheduler
        return 0 if scheduler is None else scheduler.place(self._visit)

    @property
    def started(self) -> float | None:
        """When it left the waiting line, by time.perf_counter()."""
        return self._visit.started

    @property
    def over(self) -> bool:
        """Whether the last step was made, or an error ended the run, or it was closed."""
        return self._visit.over or self._visit.closed

    def close(self) -> None:
        """Frees the row before the next step; nothing more comes."""
        self._visit.closed = True
        self._visit.steps.clear()
        self._scheduler = None
        wake = self._visit.wake
        if wake is not None:
            wake()

    async def aclose(self) -> None:
        self.close()

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> Step:
        while (step := self._next()) is None:
            event = threading.Event()
            self._visit.wake = event.set
            if not self._is_ready():  # asked after `wake` is set: no step is missed
                event.wait()
            self._visit.wake = None
        if isinstance(step, Step):
            return step
        raise StopIteration

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Step:
        while (step := self._next()) is None:
            await self.ready()
        if isinstance(step, Step):
            return step
        raise StopAsyncIteration

    async def ready(self, timeout_seconds: float | None = None) -> bool:
        """True once there is a step, the end or an error; False if the time is over before."""
        loop, visit = asyncio.get_running_loop(), self._visit
        event = asyncio.Event()

        def wake() -> None:  # does not hold the run: a dropped one is closed at once
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop has ended, and the visitor with it
                visit.closed = True

        visit.wake = wake
        try:
            if not self._is_ready():
                await asyncio.wait_for(event.wait(), timeout_seconds)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        finally:
            if visit.wake is wake:
                visit.wake = None
        return self._is_ready()

    def _is_ready(self) -> bool:
        return self.over or bool(self._visit.steps)

    def _next(self) -> Step | bool | None:
        """The next step; None if it must be waited for, False after the last one."""
        over = self.over  # asked first: the last step is appended before it is set
        if self._visit.steps and not self._visit.closed:
            return self._visit.steps.popleft()
        if not over:
            return None
        error, self._visit.error = self._visit.error, None
        self.close()
        if error is not None:
            raise error
        return False

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._visit.closed = True


class Scheduler:
    """Continues many sequences with one model, on the thread of `gpt.serving.all_cores`.

    A prompt is read in chunks of `prefill_chunk` tokens, a block between two steps of others.
    At most `max_rows` run at once, whose keys and values take at most `cache_bytes` (by default a
    quarter of what is free and no other scheduler's); one that needs more by itself runs alone.
    The others wait in line.
    """

    def __init__(
        self,
        model: GPTModel,
        max_rows: int = MAX_ROWS,
        prefill_chunk: int = PREFILL_CHUNK,
        cache_bytes: int | None = None,
    ) -> None:
        if max_rows < 1 or prefill_chunk < 1:
            raise ValueError(
                f"max_rows is {max_rows}, prefill_chunk {prefill_chunk}: use at least 1."
            )
        model.new_cache(1)  # a FastModel compiles its step now, not in a turn that others wait for
        self.model = model
        self.max_rows = max_rows
        self.prefill_chunk = prefill_chunk
        if cache_bytes is None:
            free = free_bytes(model.pos_emb.weight.device)
            others = sum(scheduler.cache_bytes for scheduler in list(_schedulers.values()))
            cache_bytes = max(0, (8 * 2**30 if free is None else free) - others) // _MEMORY_SHARE
        self.cache_bytes = cache_bytes
        self._waiting: deque[_Visit] = deque()
        self._running: deque[_Visit] = deque()  # the one that reads next comes first
        self._step_seconds = 0.0  # what the last decode step took
        self._takes_turns = False
        self._lock = threading.Lock()

    def submit(
        self,
        ids: Sequence[int] | torch.Tensor,
        options: SamplingOptions,
        stop_id: int | None = None,
        n_candidates: int = N_CANDIDATES,
        text_of: Callable[[int], str] | None = None,
        known: Sequence[Step] | None = None,
    ) -> Run:
        """The steps that continue `ids`, as `generate` makes them; from any thread, at once.

        `known` are its first steps, where a run of the same seed and options has made them. With
        it, even empty, keys and values are kept at the end for a run that goes on.
        Raises ValueError as `generate` does; what goes wrong later is raised by the run itself.
        """
        visit = _Visit(self.model, ids, options, stop_id, n_candidates, text_of)
        visit.n_bytes = self._bytes_of(visit.capacity)
        if known is not None:
            visit.kept = kept_of(self.model)
            # The last one at the most is made again: it may end the run.
            visit.known = known[: options.max_new_tokens - 1]
        with self._lock:
            if not self._takes_turns:
                take_turns(self)  # which may raise: no thread can begin
            self._takes_turns = True
            self._waiting.append(visit)
        return Run(visit, self)

    @property
    def running(self) -> int:
        """Rows that have begun and not ended."""
        return sum(not (visit.over or visit.closed) for visit in tuple(self._running))

    @property
    def waiting(self) -> int:
        """Rows in the waiting line."""
        return sum(not visit.closed for visit in tuple(self._waiting))

    def place(self, visit: _Visit) -> int:
        """Of one in the waiting line, from 1; else 0."""
        with self._lock:
            line = [waiting for waiting in self._waiting if not waiting.closed]
        return line.index(visit) + 1 if visit in line else 0

    def turn(self) -> bool:
        """Some blocks of prefill, a step of all that write; whether any row is left."""
        with self._lock:
            self._let_in()
            reading = deque(visit for visit in self._running if visit.reads)
            writing = [visit for visit in self._running if not visit.reads]
            self._takes_turns = goes_on = bool(self._running)
        self._read(reading, self._reading_seconds(len(reading), len(writing)))
        if writing:
            self._write(writing)
        return goes_on

    def abandon(self, error: ValueError) -> None:
        """Ends every row with `error`: the thread has died."""
        with self._lock:
            visits = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
            self._takes_turns = False
        for visit in visits:
            visit.put(ValueError(str(error)))

    def _let_in(self) -> None:
        """Drops the rows that are over and lets others in, in the order of their coming."""
        for line in (self._running, self._waiting):
            for visit in [visit for visit in line if visit.over or visit.closed]:
                line.remove(visit)
                visit.leave()
        used = sum(visit.n_bytes for visit in self._running)
        while self._waiting and len(self._running) < self.max_rows:
            used += self._waiting[0].n_bytes
            if used > self.cache_bytes and self._running:
                break
            visit = self._waiting.popleft()
            visit.started = time.perf_counter()
            self._running.append(visit)

    def _reading_seconds(self, readers: int, writers: int) -> float:
        """As long as a step, and longer where more wait for their first token than write."""
        if not writers:
            return 0.0
        return max(self._step_seconds, min(self._step_seconds * readers / writers, MOST_READING))

    def _read(self, reading: deque[_Visit], seconds: float) -> None:
        """Reads for about so long, at least one block; a chunk of one row, then of the next row."""
        started = before = time.perf_counter()
        while reading:
            if self._read_block(reading[0]):
                with self._lock:  # in the next turn too it comes after the others
                    self._running.remove(reading[0])
                    self._running.append(reading.popleft())
            now = time.perf_counter()
            if now - started + (now - before) > seconds:
                return
            before = now

    @torch.inference_mode()
    def _read_block(self, visit: _Visit) -> bool:
        """One more block of the row's chunk; whether that was the last."""
        try:
            if visit.known:  # only now: a row that waits holds no keys and values
                visit.go_on(self.model.new_cache(visit.capacity))
                if visit.over or not visit.reads:
                    return True
            if visit.chunk is None:
                visit.chunk = self._chunk(visit)
            if next(visit.chunk, "end") is None:
                return False
            visit.chunk = None
        except Exception as error:
            visit.put(error)
        return True

    def _chunk(self, visit: _Visit) -> Iterator[None]:
        """The model's forward pass over the next tokens of a row, a block at a time.

        The number of tokens depends on this row alone, since kernels round by it. Only the last
        chunk needs the output head.
        """
        ids, later = visit.unread[: self.prefill_chunk], visit.unread[self.prefill_chunk :]
        if visit.cache is None:
            visit.cache = self.model.new_cache(visit.capacity)
        for logits in read_in_blocks(self.model, ids, visit.cache, predicts=not later):
            if logits is None:
                yield
            else:
                self._step(logits, [visit])
        if later:
            visit.unread = later

    def _write(self, visits: list[_Visit]) -> None:
        started = time.perf_counter()
        try:
            self._step(self._decode(visits), visits)
        except Exception as error:
            for visit in visits:
                failure = RuntimeError("a decode step failed")
                failure.__cause__ = error
                visit.put(failure)
        self._step_seconds = time.perf_counter() - started

    @torch.inference_mode()
    def _decode(self, visits: list[_Visit]) -> torch.Tensor:
        """Logits (rows, vocab) after each row's newest token, each the same as of it alone."""
        decode_rows = getattr(self.model, "decode_rows", None)
        if decode_rows is not None:
            return decode_rows([v.unread[0] for v in visits], [v.cache for v in visits])
        return torch.cat([read(self.model, visit.unread, visit.cache) for visit in visits])

    def _step(self, logits: torch.Tensor, visits: list[_Visit]) -> None:
        for visit, step in zip(visits, next_steps(logits, visits), strict=True):
            visit.unread, visit.reads = visit.window[-1:], False
            if visit.cache is not None and visit.cache.length == visit.context_length:
                # Every position has moved: the window is read anew, as in the book.
                visit.cache, visit.unread, visit.reads = None, visit.window, True
            visit.put(step)

    def _bytes_of(self, capacity: int) -> int:
        kept = self.model.pos_emb.weight.dtype  # as keys and values are
        precision = "float32" if kept is torch.float32 else "float16"
        return int(kv_cache(self.model.cfg, 1, capacity, precision).value)


_schedulers: WeakValueDictionary[int, Scheduler] = WeakValueDictionary()
_lock = threading.Lock()


def scheduler_for(model: GPTModel) -> Scheduler:
    """The one scheduler of `model`, made at need; it lives as long as a run of it is held.

    The first time a model may take a second: ask for it where the model is borrowed.
    """
    with _lock:
        scheduler = _schedulers.get(id(model))  # it holds the model, so the number is its own
    if scheduler is None:
        new = Scheduler(model)
        with _lock:
            scheduler = _schedulers.setdefault(id(model), new)
    return scheduler


def _forget() -> None:
    """A forked process has no thread that would serve these, and perhaps a lock that is held."""
    global _schedulers, _lock
    _schedulers, _lock = WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
