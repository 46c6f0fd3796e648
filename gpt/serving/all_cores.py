"""All cores for one computation at a time: a thread of its own for whatever takes long.

torch shares work on the CPU among OpenMP threads, and every Python thread that ever computed
keeps a team of them. With more of those than cores, each waits asleep for its team, at every
product: a token then takes half as long again. A web server moves a visitor from thread to
thread, so one thread has all cores here, and all others compute on one core, without a team.

The thread does jobs in the order of asking. Between two jobs every scheduler has one turn, so
texts go on while the results of many others are awaited.
"""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

import torch

from gpt.engine.machine import usable_cores

P = ParamSpec("P")
T = TypeVar("T")
Turn = Callable[[], bool]  # computes a little; whether there is more to do; raises nothing
_END = object()


class _Thread:
    """One thread, begun at the first need; asleep while nothing is to do."""

    def __init__(self) -> None:
        self.started = False  # else whoever asks computes
        self.takers: list[Turn] = []
        self._jobs: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="all-cores", daemon=True)
        self._ends = False

    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def do(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._add(self._jobs, (future, work))
        return future

    def take_turns(self, turn: Turn) -> None:
        self._add(self.takers, turn)

    def _add(self, to: deque[Any] | list[Any], what: Any) -> None:
        with self._changed:
            if self._thread.ident is None:
                self._thread.start()
            to.append(what)
            self._changed.notify()

    def end(self) -> None:
        """Lets it finish what it computes now: torch aborts the process if killed in between."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._ends:
            self._round()

    def _round(self) -> None:
        """A job, if there is one, and a turn of everybody who takes turns."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self.takers or self._ends)
            job = self._jobs.popleft() if self._jobs else None
        if job is not None:
            future, work = job
            try:
                future.set_result(work())
            except BaseException as error:  # the caller's to handle
                future.set_exception(error)
        self.turns()

    def turns(self) -> None:
        for turn in tuple(self.takers):
            if not turn():
                self.takers.remove(turn)


_thread = _Thread()
atexit.register(_thread.end)


def start() -> None:
    """From now on `on_all_cores` has all cores, and every new thread one."""
    if not _thread.started:
        _thread.started = True
        on_all_cores(torch.set_num_threads, usable_cores())
        on_all_cores(torch.get_num_threads)  # a thread takes its number when it first asks
        torch.set_num_threads(1)  # of this thread and of those that do not exist yet


def on_all_cores(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)` on the thread that has all cores, in the order of asking; what it raises too.

    Until `start` the caller's own thread computes. Never for what waits for a lock, a file or
    the network: everybody would wait for it.
    """
    if not _thread.started or _thread.is_current():
        return work(*args, **kwargs)
    return _thread.do(lambda: work(*args, **kwargs)).result()


def each_on_all_cores(items: Iterator[T]) -> Iterator[T]:
    """`items`, each one computed there: between two of them others have their turn."""
    while (item := on_all_cores(next, items, _END)) is not _END:
        yield item


def take_turns(turn: Turn) -> None:
    """`turn()` is called on that thread, begun if need be, until it is False."""
    _thread.take_turns(turn)


def give_way() -> None:
    """Within a job on that thread that takes long: a turn for everybody who takes turns."""
    if _thread.is_current():
        _thread.turns()


def texts_are_written() -> bool:
    """Whether anybody takes turns now: who computes for long leaves them most of the time."""
    return bool(_thread.takers)
