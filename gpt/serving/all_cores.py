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

_jobs: deque[Callable[[], Any]] = deque()  # each raises nothing
_takers: list[Turn] = []
_changed = threading.Condition()
_started, _ends = threading.Event(), threading.Event()


def _run() -> None:
    """A job, if there is one, and a turn of everybody who takes turns; asleep without either."""
    while not _ends.is_set():
        with _changed:
            _changed.wait_for(lambda: _jobs or _takers)
            job = _jobs.popleft() if _jobs else lambda: None
        job()
        del job  # and what it holds, before the thread sleeps
        _turns()


def _turns() -> None:
    for turn in tuple(_takers):
        if not turn():
            _takers.remove(turn)


_thread = threading.Thread(target=_run, name="all-cores", daemon=True)  # begun at the first need


def _add(to: deque[Any] | list[Any], what: Callable[[], Any]) -> None:
    with _changed:
        if _thread.ident is None:
            _thread.start()
        to.append(what)
        _changed.notify()


@atexit.register
def _end() -> None:
    """Lets it finish what it computes now: torch aborts the process if killed in between."""
    if _thread.is_alive():
        _ends.set()
        _add(_jobs, lambda: None)  # wakes it
        _thread.join(timeout=10)


def start() -> None:
    """From now on `on_all_cores` has all cores, and every new thread one."""
    if not _started.is_set():
        _started.set()
        on_all_cores(torch.set_num_threads, usable_cores())
        on_all_cores(torch.get_num_threads)  # a thread takes its number when it first asks
        torch.set_num_threads(1)  # of this thread and of those that do not exist yet


def on_all_cores(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)` on the thread that has all cores, in the order of asking; what it raises too.

    Until `start` the caller's own thread computes. Never for what waits for a lock, a file or
    the network: everybody would wait for it.
    """
    if not _started.is_set() or threading.current_thread() is _thread:
        return work(*args, **kwargs)
    return job_of(lambda: work(*args, **kwargs)).result()


def job_of(work: Callable[[], T]) -> Future[T]:
    """The result of `work()` on that thread, begun if need be, once it is there."""
    future: Future[T] = Future()

    def job() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # the caller's to handle
            future.set_exception(error)

    _add(_jobs, job)
    return future


def each_on_all_cores(items: Iterator[T]) -> Iterator[T]:
    """`items`, each one computed there: between two of them others have their turn."""
    while (item := on_all_cores(next, items, _END)) is not _END:
        yield item


def take_turns(turn: Turn) -> None:
    """`turn()` is called on that thread, begun if need be, until it is False."""
    _add(_takers, turn)


def give_way() -> None:
    """Within a job on that thread that takes long: a turn for everybody who takes turns."""
    if threading.current_thread() is _thread:
        _turns()


def texts_are_written() -> bool:
    """Whether anybody takes turns now: who computes for long leaves them most of the time."""
    return bool(_takers)
