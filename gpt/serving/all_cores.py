"""All cores for one computation at a time: a thread of its own for whatever takes long.

torch shares work on the CPU among OpenMP threads, and every Python thread that ever computed
keeps a team of them. With more of those than cores, each waits asleep for its team, at every
product: a token then takes half as long again. A web server moves a visitor from thread to
thread, so one thread has all cores here, and all others compute on one core, without a team.

The thread does jobs in the order of asking. Between two jobs every scheduler has one turn, so
texts go on while the results of many others are awaited.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import ParamSpec, Protocol, TypeVar

import torch

from gpt.engine.machine import usable_cores

P = ParamSpec("P")
T = TypeVar("T")
_END = object()


class TurnTaker(Protocol):
    """What goes on a turn at a time, as a scheduler does."""

    def turn(self) -> bool:
        """Computes a little; whether there is more to do."""

    def abandon(self, error: ValueError) -> None:
        """Told once the thread has died: there will be no other turn."""


class _Thread:
    """One thread, begun at the first need and again if it dies; asleep while nothing is to do."""

    def __init__(self) -> None:
        self.cores: int | None = None  # None: as torch has it
        self._jobs: deque[tuple[Future, Callable[[], object]]] = deque()
        self._takers: list[TurnTaker] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ends = False

    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def do(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            self._begin()
            self._jobs.append((future, work))
            self._changed.notify()
        return future

    def take_turns(self, taker: TurnTaker) -> None:
        with self._changed:
            self._begin()
            self._takers.append(taker)
            self._changed.notify()

    def end(self) -> None:
        """Lets it finish what it computes now: torch aborts the process if killed in between."""
        with self._changed:
            self._ends = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _begin(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="all-cores", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self.cores is not None:
            torch.set_num_threads(1)  # of this thread and of those that do not exist yet

    def _run(self, ready: threading.Event) -> None:
        try:
            if self.cores is not None:
                torch.set_num_threads(self.cores)
                torch.get_num_threads()  # a thread takes its number when it first asks
            ready.set()
            while not self._ends:
                self._round()
            self._give_up(SystemExit())
        except BaseException as error:
            self._give_up(error)
            raise  # into the log

    def _round(self) -> None:
        """A job, if there is one, and a turn of everybody who takes turns."""
        with self._changed:
            while not (self._jobs or self._takers or self._ends):
                self._changed.wait()
            job = self._jobs.popleft() if self._jobs else None
        if job is not None:
            future, work = job
            try:
                future.set_result(work())
            except BaseException as error:  # the caller's to handle
                future.set_exception(error)
        self.turns()

    def turns(self) -> None:
        for taker in tuple(self._takers):
            if not taker.turn():
                with self._changed:
                    self._takers.remove(taker)

    def _give_up(self, error: BaseException) -> None:
        told = ValueError(f"the engine stopped ({type(error).__name__}): run it once more.")
        with self._changed:
            jobs, self._jobs = self._jobs, deque()
            takers, self._takers = self._takers, []
            self._thread = None
        for future, _ in jobs:
            future.set_exception(told)
        for taker in takers:
            taker.abandon(told)


_thread = _Thread()
atexit.register(lambda: _thread.end())


def start() -> None:
    """From now on `on_all_cores` has all cores, and every new thread one."""
    if _thread.cores is None:
        _thread.cores = usable_cores()
        on_all_cores(torch.set_num_threads, _thread.cores)  # if it was there before
        torch.set_num_threads(1)


def on_all_cores(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)` on the thread that has all cores, in the order of asking; what it raises too.

    Until `start` the caller's own thread computes. Never for what waits for a lock, a file or
    the network: everybody would wait for it.
    """
    if _thread.cores is None or _thread.is_current():
        return work(*args, **kwargs)
    return _thread.do(lambda: work(*args, **kwargs)).result()


def each_on_all_cores(items: Iterator[T]) -> Iterator[T]:
    """`items`, each one computed there: between two of them others have their turn."""
    while (item := on_all_cores(next, items, _END)) is not _END:
        yield item


def take_turns(taker: TurnTaker) -> None:
    """`taker` has turns on that thread, begun if need be, until one of them returns False."""
    _thread.take_turns(taker)


def give_way() -> None:
    """Within a job on that thread that takes long: a turn for everybody who takes turns."""
    if _thread.is_current():
        _thread.turns()


def texts_are_written() -> bool:
    """Whether anybody takes turns now: who computes for long leaves them most of the time."""
    return bool(_thread._takers)


def _forget() -> None:
    """A forked process, as ZeroGPU makes for each run, has no such thread, and stale locks."""
    global _thread
    _thread = _Thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
