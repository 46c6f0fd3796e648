"""Where the system puts our numbers: which freed memory stays ours, and how large its pages are.

All of it is for speed, and does nothing where the system or its C library cannot do it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt, of its malloc.h
_KEPT_BYTES, _LARGE_BYTES = 256 * 2**20, 32 * 2**20
_MADV_COLLAPSE = 25  # Linux 6.1, uapi/asm-generic/mman-common.h
_HUGE_PAGE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")  # bytes, often 2 MiB
_OURS = np.uint64(1 << 63 | 1 << 56)  # of a page: in memory, and mapped by nobody else
_AREAS, _PAGES = Path("/proc/self/maps"), Path("/proc/self/pagemap")


def keep_freed_memory() -> bool:
    """Whether the C library (glibc) took it: the memory of tensors just freed serves the next.

    Otherwise each prompt's tensors go back to the system, and their pages are made anew for the
    next: a tenth of the time. Up to 256 MiB at the end of each of its heaps stay; what is larger
    than 32 MiB, as a head is, goes back as before. Whoever set a MALLOC_ variable has chosen.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(
            mallopt(name, value)
            for name, value in ((_TRIM_THRESHOLD, _KEPT_BYTES), (_MMAP_THRESHOLD, _LARGE_BYTES))
        )
    return False


def return_freed_memory() -> None:
    """What was freed goes back to the system, also from between what is in use (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def use_huge_pages() -> int:
    """About how many bytes of this process lie in huge pages now, 0 where Linux (6.1) makes none.

    For each page that it reads, a processor first reads where it lies; in pages of 2 MiB instead
    of 4 KiB a token of a model larger than its caches takes less time. All memory of the process
    that is in use is moved, so it does not grow; it is asked for by name, which Linux does even
    where it makes no huge pages of itself.
    Source: Linux, madvise(2), MADV_COLLAPSE, and pagemap.rst.
    """
    moved = 0
    with contextlib.suppress(OSError, AttributeError, TypeError, ValueError, MemoryError):
        madvise = ctypes.CDLL(None).madvise
        for start, end in list(_full_areas(int(_HUGE_PAGE.read_text()))):
            length = end - start
            failed = madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_COLLAPSE)
            moved += 0 if failed else length
    return moved


def _full_areas(huge: int) -> Iterator[tuple[int, int]]:
    """Start and end of what huge pages could hold: all that lies there is ours and in memory."""
    n_pages = huge // mmap.PAGESIZE
    for line in _AREAS.read_text().splitlines():
        addresses, access, _, _, inode, *_ = line.split()
        first, last = (int(address, 16) for address in addresses.split("-"))
        first, last = -(-first // huge), last // huge  # in huge pages
        if access != "rw-p" or inode != "0" or last <= first:
            continue
        count, skipped = (last - first) * n_pages, first * n_pages * 8  # 8 bytes describe a page
        entries = np.fromfile(_PAGES, np.uint64, count, offset=skipped)
        full = (entries & _OURS == _OURS).reshape(-1, n_pages).all(axis=1)
        edges = np.flatnonzero(np.diff(full.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        yield from map(tuple, ((edges + first) * huge).tolist())
