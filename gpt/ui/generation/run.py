"""A run from the visitor's wish to its last token: checked, loaded, in line, written, stopped.

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
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.precision_record import default_precision
from gpt.engine import check_precision
from gpt.engine.machine import usable_device
from gpt.generate import Step, context_notes
from gpt.sampling import SamplingOptions
from gpt.serving.cluster import ClusterRow
from gpt.serving.registry import Registry
from gpt.serving.scheduler import scheduler_for
from gpt.tokenizer import Tokenizer
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.settings import AUTO

MAX_PROMPT_CHARACTERS = 50_000
STEERED = "Steered:"
MAX_WAITING = 200  # behind the rows of a scheduler
LOOK_SECONDS = 0.25  # how often a run that waits looks at what for
Stage = Callable[[float, str], None]
_LOADERS = ThreadPoolExecutor(64, thread_name_prefix="loader")  # for waiting, mostly


@dataclass(frozen=True)
class Wish:
    """What a run is asked for, checked before anything is loaded or a GPU is borrowed."""

    source: str
    device: str
    precision: str
    options: SamplingOptions  # with a seed
    ids: tuple[int, ...]
    tokenizer: Tokenizer
    notes: tuple[str, ...] = ()  # what the visitor should know before the first token
    drawn: bool = False  # the seed, because none was asked for

    @property
    def where(self) -> str:
        return f"{self.device}, {self.precision}"


def wish(
    registry: Registry,
    prompt: str,
    options: SamplingOptions,
    source: str,
    device: str = "cpu",
    precision: str = AUTO,
) -> Wish:
    """Raises ValueError if it cannot be had; a missing device is told in the notes instead."""
    cfg = registry.config_of(source)
    tokenizer = tokenizer_of(source)
    ids = tokenizer.encode(checked_prompt(prompt))
    device, missing = usable_device(str(device))
    precision = default_precision(source, device) if precision == AUTO else precision
    check_precision(precision, device)
    outside = [token for token in ids if token >= cfg.vocab_size]
    if outside:
        raise ValueError(
            f"this model knows {cfg.vocab_size:,} tokens, and the prompt has token "
            f"{outside[0]:,}: use another prompt or model."
        )
    notes = [missing] if missing else []
    notes += context_notes(cfg, len(ids), options.max_new_tokens)
    drawn = options.seed is None
    wished = options.with_seed()
    asked = Wish(source, device, precision, wished, tuple(ids), tokenizer, tuple(notes), drawn)
    return lasting(asked, options.max_new_tokens) if options.steering else asked


def steered(asked: Wish, position: int, token_id: int) -> Wish:
    """The same run with `token_id` at `position`, and what was chosen after it left out."""
    earlier = [pair for pair in asked.options.steering if pair[0] < position]
    limit = max(asked.options.max_new_tokens, position + 1)
    chosen = (*earlier, (position, token_id))
    return lasting(replace(asked, options=replace(asked.options, steering=chosen)), limit)


def lasting(asked: Wish, tokens: int) -> Wish:
    """The same run to so many new tokens, with what should be known about it."""
    options = replace(asked.options, max_new_tokens=tokens)
    notes = tuple(note for note in asked.notes if not note.startswith(STEERED))
    if options.steering:
        places = "1 token" if len(options.steering) == 1 else f"{len(options.steering)} tokens"
        notes += (f"{STEERED} you chose {places}; all others are drawn with seed {options.seed}.",)
    return replace(asked, options=options, notes=notes)


def checked_prompt(prompt: Any) -> str:
    """`prompt` itself. Raises ValueError if it is no text, empty, or longer than accepted."""
    if not isinstance(prompt, str):
        raise ValueError(f"The prompt is a {type(prompt).__name__}: use text.")
    if not prompt:
        raise ValueError("The prompt is empty: write at least one character.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError(
            f"The prompt has {len(prompt):,} characters: "
            f"use at most {MAX_PROMPT_CHARACTERS:,}, of which the newest tokens are read."
        )
    return prompt


class Writing:
    """One run as the page sees it: what is written, what it waits for, and its end by Stop.

    Made in the event loop that reads `updates`. `begin` gives a row of steps, as
    `Scheduler.submit` does, in a context that keeps what the row needs; entering it may block.
    `known` are its first steps, shown at once and then written again: the same keys and values give
    the same tokens. At most `most` steps are shown.
    """

    def __init__(
        self,
        asked: Wish,
        begin: Callable[[Wish, Stage], AbstractContextManager],
        known: Sequence[Step] = (),
        most: int | None = None,
    ) -> None:
        self.asked = asked
        limit = asked.options.max_new_tokens if most is None else 0
        self.written = Continuation(asked.tokenizer, limit, asked.where, asked.notes, most)
        for step in known:
            self.written.add(0.0, step)
        self._again = len(known)  # steps that will come and are there already
        self.stage = "Starting …"  # what it waits for; empty while it writes
        self.stopped = False
        self._context = begin(asked, self._on_stage)
        self._left = False
        self._loop = asyncio.get_running_loop()
        self._sleeps: asyncio.Future[None] = self._loop.create_future()

    def stop(self) -> None:
        """Ends the run at what is written, from within the event loop."""
        self.stopped = True
        self._wake()

    async def updates(self, writing: set[Writing]) -> AsyncIterator[None]:
        """Comes by whenever the page should show `written` or `stage` again.

        The first token is shown at once, the others together at intervals that grow with the
        number of runs in `writing`. Raises what ends the run, and ValueError if the line is full.
        """
        event = contextvars.copy_context()  # who borrows a GPU is asked of it
        job: Future[Any] = _LOADERS.submit(event.run, self._context.__enter__)
        job.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._wake))
        try:
            yield
            while not job.done() and not self.stopped:
                await self._sleep(LOOK_SECONDS)
                yield
            if not self.stopped:
                writing.add(self)
                async for _ in self._read(job.result(), writing):
                    yield
            if self.stopped:
                self.stage = ""
                self.written.stop()
                yield
        finally:
            self._left = True
            writing.discard(self)
            job.cancel()
            job.add_done_callback(self._leave)

    async def _read(self, row: Any, writing: set[Writing]) -> AsyncIterator[None]:
        """Moves steps from the row to what is written."""
        with contextlib.closing(row):
            while not self.stopped and not await row.ready(LOOK_SECONDS):
                self.stage = f"Waiting to write: place {row.place} …" if row.place else "Reading …"
                yield
            self.stage = ""
            while not self.stopped:
                step = await anext(row, None)
                if step is None:
                    return
                self._add([step, *row.take()], row.started)
                yield
                if self.written.ended:
                    return
                await self._sleep(update_seconds(len(writing)))
                while not self.stopped and not await row.ready(LOOK_SECONDS):
                    pass

    def _add(self, steps: list[Step], started: float | None) -> None:
        now = time.perf_counter()
        known, self._again = min(self._again, len(steps)), max(0, self._again - len(steps))
        for step in steps[known:]:
            self.written.add(now - (started or now), step)

    async def _sleep(self, seconds: float) -> None:
        """Until the time is over or `_wake` is called; at a tenth of the cost of asyncio.wait."""
        if self.stopped:
            return
        self._sleeps = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake)
        try:
            await self._sleeps
        finally:
            timer.cancel()

    def _wake(self, *_: Any) -> None:
        if not self._sleeps.done():
            self._sleeps.set_result(None)

    def _on_stage(self, fraction: float, text: str) -> None:
        if self._left:
            raise Left  # in the thread that loads: nobody wants the model any more
        self.stage = f"{text[:1].upper()}{text[1:]} … {100 * fraction:.0f} %"

    def _leave(self, job: Future[Any]) -> None:
        if not job.cancelled() and job.exception() is None:
            self._context.__exit__(None, None, None)


class Left(Exception):
    """Ends the loading of a model for a run that has ended."""


@contextlib.contextmanager
def local_row(registry: Registry, asked: Wish, on_stage: Stage) -> Iterator[Any]:
    """A row of the scheduler of a borrowed model. Raises ValueError if too many wait already."""
    with registry.borrow(asked.source, asked.device, asked.precision, on_stage) as model:
        scheduler = scheduler_for(model)
        if scheduler.waiting >= MAX_WAITING:
            raise ValueError(f"{MAX_WAITING} others are waiting to write: try again in a minute.")
        tokenizer = asked.tokenizer
        with scheduler.submit(
            asked.ids, asked.options, tokenizer.end_of_text_id, text_of=tokenizer.stream().push
        ) as row:
            yield row


def cluster_row(cluster: Any, asked: Wish) -> AbstractContextManager[ClusterRow]:
    """A row of a replica, of which `cluster` is the handle."""
    key = (asked.source, asked.device, asked.precision)
    stop_id = asked.tokenizer.end_of_text_id
    return contextlib.nullcontext(ClusterRow(cluster, key, asked.ids, asked.options, stop_id))


def update_seconds(writing: int) -> float:
    """Between two updates of one page when so many write: their sum takes the engine's time."""
    return min(0.25, max(0.06, 0.008 * writing))
