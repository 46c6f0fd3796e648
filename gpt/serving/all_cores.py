"""All cores for one computation at a time: a thread of its own for whatever takes long.

torch shares work on the CPU among OpenMP threads, and every Python thread that ever computed
keeps a team of them. With more of those than cores, each waits asleep for its team, at every
product: a token then takes half as long again. A web server moves a visitor from thread to
thread, so one thread has all cores here, and all others compute on one core, without a team.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

from gpt.engine import choose_kernels
from gpt.engine.machine import usable_cores

P = ParamSpec("P")
T = TypeVar("T")
_NAME = "all-cores"
_END = object()
_thread: ThreadPoolExecutor | None = None  # until `start`, the caller's own thread computes


def start() -> None:
    """From now on `compute` has all cores, and every new thread one."""
    global _thread
    if _thread is None:
        _thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=_NAME)
        on_all_cores(torch.set_num_threads, usable_cores())
        on_all_cores(torch.get_num_threads)  # a thread takes its number when it first asks
        on_all_cores(choose_kernels)  # for all cores, whichever thread loads the first model
        torch.set_num_threads(1)  # of this thread and of those that do not exist yet


def on_all_cores(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)` on the thread that has all cores, in the order of asking; what it raises too.

    Never for what waits for a lock, a file or the network: everybody would wait for it.
    """
    if _thread is None or threading.current_thread().name.startswith(_NAME):
        return work(*args, **kwargs)
    return _thread.submit(work, *args, **kwargs).result()


def each_on_all_cores(items: Iterator[T]) -> Iterator[T]:
    """`items`, each one computed there: between two of them others have their turn."""
    while (item := on_all_cores(next, items, _END)) is not _END:
        yield item


def _forget() -> None:
    """A forked process, as ZeroGPU makes for each run, has no such thread."""
    global _thread
    _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
