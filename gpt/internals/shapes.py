"""The pass as a table: every recorded tensor, and those that are one and the same."""

from __future__ import annotations

from gpt.internals.run import Run
from gpt.trace import Entry


def shape_rows(run: Run) -> list[tuple[Entry, str | None]]:
    """Each recorded tensor in the order of computation, and the step that had the same before.

    One that was there before takes no memory of its own.
    """
    rows = []
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for entry in run.trace.entries.values():
        key = (entry.value.data_ptr(), tuple(entry.value.shape))
        rows.append((entry, first.get(key)))
        first.setdefault(key, entry.name)
    return rows
