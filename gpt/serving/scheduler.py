"""Continuous batching: many visitors' sequences are rows of one batch on one engine thread.

Rows join and leave between two steps. A turn is some blocks of prefill, which take about as long
as a decode step, or up to MOST_READING where more wait for their first token than write, and then
a decode step of all rows that write.
What a row computes depends on that row alone: its tokens are the same in any company.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakValueDictionary

import torch

from gpt.accounting.memory import kv_cache
from gpt.checkpoints import free_bytes
from gpt.generate import Step, next_steps, read, read_in_blocks
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions
from gpt.serving.all_cores import take_turns
from gpt.serving.kept import MOST_BYTES
from gpt.serving.step_stream import ScheduledRow, StepStream

MAX_ROWS = 64
MOST_READING = 0.2  # seconds of a turn while others write, who are read four times a second
_MEMORY_SHARE = 4  # keys and values may take a quarter of what is free and not promised to others
_log = logging.getLogger(__name__)


class Scheduler:
    """Continues many sequences with one model, on the thread of `gpt.serving.all_cores`.

    A prompt is read in chunks of `prefill_chunk` tokens, a block between two steps of others.
    At most `max_rows` run at once, whose keys and values take at most `cache_bytes`, a quarter of
    what is free and neither another scheduler's nor for texts that have ended; one that needs more
    by itself runs alone.
    The others wait in line.
    """

    max_rows = MAX_ROWS
    prefill_chunk = 64  # one block over as many takes about as long as a decode step

    def __init__(self, model: GPTModel) -> None:
        model.new_cache(1)  # a FastModel compiles its step now, not in a turn that others wait for
        self.model = model
        free = free_bytes(model.pos_emb.weight.device)
        others = sum(scheduler.cache_bytes for scheduler in list(_schedulers.values()))
        left = (8 * 2**30 if free is None else free) - others - MOST_BYTES
        self.cache_bytes = max(0, left) // _MEMORY_SHARE
        self._waiting: deque[ScheduledRow] = deque()
        self._running: deque[ScheduledRow] = deque()  # the one that reads next comes first
        self._step_seconds = 0.0  # what the last decode step took
        self._takes_turns = False
        self._lock = threading.Lock()

    def submit(
        self,
        ids: Sequence[int] | torch.Tensor,
        options: SamplingOptions,
        stop_id: int | None = None,
        text_of: Callable[[int], str] | None = None,
        known: Sequence[Step] | None = None,
    ) -> StepStream:
        """The steps that continue `ids`, as `generate` makes them; from any thread, at once.

        `known` are its first steps, where a run of the same seed and options has made them. With
        it, even empty, keys and values are kept at the end for a run that goes on.
        Raises ValueError as `generate` does; what goes wrong later is raised by the run itself.
        """
        row = ScheduledRow(self.model, ids, options, stop_id, text_of=text_of)
        in_float32 = int(kv_cache(self.model.cfg, 1, row.capacity).value)
        # Keys and values have the type of the embeddings: half of that on a GPU in 16 bits.
        row.n_bytes = in_float32 * self.model.pos_emb.weight.dtype.itemsize // 4
        if known is not None:
            row.kept_of = self.model
            # The last one at the most is made again: it may end the run.
            row.known = known[: options.max_new_tokens - 1]
        with self._lock:
            if not self._takes_turns:
                take_turns(self.turn)  # which may raise: no thread can begin
            self._takes_turns = True
            self._waiting.append(row)
            row.place = len(self._waiting)
        return row

    @property
    def waiting(self) -> int:
        """Rows in the waiting line."""
        return sum(not row.over for row in tuple(self._waiting))

    def turn(self) -> bool:
        """Some blocks of prefill, a step of all that write; whether any row is left.

        What goes wrong between them ends every row: nobody waits for ever.
        """
        try:
            with self._lock:
                self._let_in()
                reading = deque(row for row in self._running if row.reading)
                writing = [row for row in self._running if not row.reading]
                self._takes_turns = goes_on = bool(self._running)
            self._read(reading, self._reading_seconds(len(reading), len(writing)))
            if writing:
                self._write(writing)
            return goes_on
        except BaseException as error:  # SystemExit too
            _log.exception("a turn failed")  # raises nothing itself, on a full disk either
            with self._lock:
                rows = [*self._running, *self._waiting]
                self._running.clear()
                self._waiting.clear()
                self._takes_turns = False
            told = f"the engine stopped ({type(error).__name__}): run it once more."
            for row in rows:
                if not row.over:
                    row.hand_over(ValueError(told))
            return False

    def _let_in(self) -> None:
        """Drops the rows that are over and lets others in, in the order of their coming."""
        for line in (self._running, self._waiting):
            for row in [row for row in line if row.over]:
                line.remove(row)
                row.leave()
        used = sum(row.n_bytes for row in self._running)
        while self._waiting and len(self._running) < self.max_rows:
            used += self._waiting[0].n_bytes
            if used > self.cache_bytes and self._running:
                break
            row = self._waiting.popleft()
            row.place, row.started = 0, time.perf_counter()
            row.reading = self._reading(row)
            self._running.append(row)
        for place, row in enumerate(self._waiting, start=1):
            row.place = place

    def _reading_seconds(self, readers: int, writers: int) -> float:
        """As long as a step, and longer where more wait for their first token than write."""
        if not writers:
            return 0.0
        return max(self._step_seconds, min(self._step_seconds * readers / writers, MOST_READING))

    @torch.inference_mode()
    def _read(self, reading: deque[ScheduledRow], seconds: float) -> None:
        """Reads for about so long, at least one block; a chunk of one row, then of the next row."""
        started = before = time.perf_counter()
        while reading:
            row = reading[0]
            try:
                ends_chunk = next(row.reading)
            except Exception as error:
                row.hand_over(error)
                ends_chunk = True
            if ends_chunk:
                self._running.remove(row)  # in the next turn too it comes after the others
                self._running.append(reading.popleft())
            now = time.perf_counter()
            if now - started + (now - before) > seconds:
                return
            before = now

    def _reading(self, row: ScheduledRow) -> Iterator[bool]:
        """The model's forward pass over a row's window, a block at a time, and then its first step.

        True after the last block of a chunk. The number of tokens in a chunk depends on this row
        alone, since kernels round by it. Only the last chunk needs the output head.
        """
        row.cache = self.model.new_cache(row.capacity)
        if row.known and row.go_on():
            yield True
        n = len(row.window)
        for start in range(0, n, self.prefill_chunk):
            end = min(start + self.prefill_chunk, n)
            ids = row.window[start:end]
            for logits in read_in_blocks(self.model, ids, row.cache, predicts=end == n):
                if logits is None:
                    yield False
                else:
                    self._step(logits, [row])
            yield True

    def _write(self, rows: list[ScheduledRow]) -> None:
        started = time.perf_counter()
        try:
            self._step(self._decode(rows), rows)
        except Exception as error:
            for row in rows:
                failure = RuntimeError("a decode step failed")
                failure.__cause__ = error
                row.hand_over(failure)
        self._step_seconds = time.perf_counter() - started

    @torch.inference_mode()
    def _decode(self, rows: list[ScheduledRow]) -> torch.Tensor:
        """Logits (rows, vocab) after each row's newest token, each the same as of it alone."""
        decode_rows = getattr(self.model, "decode_rows", None)
        if decode_rows is not None:
            return decode_rows([v.window[-1] for v in rows], [v.cache for v in rows])
        return torch.cat([read(self.model, row.window[-1:], row.cache) for row in rows])

    def _step(self, logits: torch.Tensor, rows: list[ScheduledRow]) -> None:
        for row, step in zip(rows, next_steps(logits, rows), strict=True):
            row.reading = None
            if row.cache.length == row.context_length:
                # Every position has moved: the window is read anew, as in the book.
                row.cache, row.reading = None, self._reading(row)
            row.hand_over(step)


_schedulers: WeakValueDictionary[int, Scheduler] = WeakValueDictionary()
_lock = threading.Lock()


def scheduler_for(model: GPTModel) -> Scheduler:
    """The one scheduler of `model`, made at need; it lives as long as a run of it goes on.

    The first time a model may take a second: ask for it where the model is borrowed.
    """
    scheduler = _schedulers.get(id(model))  # it holds the model, so the number is its own
    if scheduler is None:
        new = Scheduler(model)
        with _lock:
            scheduler = _schedulers.setdefault(id(model), new)
    return scheduler
