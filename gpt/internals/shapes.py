"""The pass as a table: every recorded tensor with its size and the line that computed it."""

from __future__ import annotations

from dataclasses import dataclass

from gpt.internals.run import Run


@dataclass(frozen=True)
class ShapeRow:
    """One step of the pass."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    file: str
    line: int
    same_as: str | None  # an earlier step with the same tensor, which takes no memory of its own


def shape_rows(run: Run) -> list[ShapeRow]:
    """A row a recorded tensor, in the order of computation.

    File and line are those of the code that recorded the value.
    """
    rows = []
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for entry in run.trace.entries.values():
        value = entry.value
        key = (value.data_ptr(), tuple(value.shape))
        rows.append(
            ShapeRow(
                name=entry.name,
                shape=tuple(value.shape),
                dtype=str(value.dtype).removeprefix("torch."),
                n_bytes=value.nbytes,
                file=entry.file,
                line=entry.line,
                same_as=first.get(key),
            )
        )
        first.setdefault(key, entry.name)
    return rows
