"""The pass as a table: every recorded tensor, and which of them share memory."""

from __future__ import annotations

from gpt.internals.run import Run
from gpt.trace import Entry


def shape_rows(run: Run) -> list[tuple[Entry, str | None]]:
    """Each recorded tensor in the order of computation, with the name of an earlier one or None.

    The earlier one is the same tensor: it has the same memory and shape.
    """
    rows = []
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for entry in run.trace.entries.values():
        key = (entry.value.data_ptr(), tuple(entry.value.shape))
        rows.append((entry, first.get(key)))
        first.setdefault(key, entry.name)
    return rows
