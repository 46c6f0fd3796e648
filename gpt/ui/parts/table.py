"""Rows of raw values as an HTML table, and the same rows as CSV: one table for the whole page."""

import base64
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from gpt.ui.parts.numbers import significant

Cells = Sequence[Any]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so


def shown(value: Any) -> str:
    """A raw value as text: whole numbers with separators, others to three figures, None empty."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else significant(value)


@dataclass(frozen=True)
class Column:
    """A heading, and how the column's raw values are shown.

    `show` is not asked about a text or None: a text stands as it is, None is an empty cell.
    `kind` is number (right-aligned), text or code.
    """

    name: str
    show: Callable[[Any], str] = shown
    kind: str = "number"

    def text(self, value: Any) -> str:
        return shown(value) if value is None or isinstance(value, str) else self.show(value)


code_column = partial(Column, kind="code")


def table_html(
    columns: Sequence[Column | str],
    rows: Sequence[Cells],
    caption: str,
    *,
    csv_name: str = "",
    csv_rows: Sequence[Cells] | None = None,
    kinds: Mapping[int, str] | None = None,
) -> str:
    """A table that scrolls inside its own box; every text is escaped.

    A column that is a name holds texts. `kinds` sets rows apart by index: struck, marked, group,
    total or differs (classes of assets/style.css). With `csv_name`, a link carries the raw rows
    inside the page itself, or `csv_rows` if these are more.
    """
    columns = [Column(c, kind="text") if isinstance(c, str) else c for c in columns]
    head = "".join(
        f'<th scope="col" class="{column.kind}">{escape(column.name)}</th>' for column in columns
    )
    body = []
    for index, row in enumerate(rows):
        cells = "".join(
            f'<td class="{column.kind}"><bdi>{escape(column.text(value))}</bdi></td>'
            for column, value in zip(columns, row, strict=True)
        )
        kind = f' class="{kinds[index]}"' if kinds and index in kinds else ""
        body.append(f"<tr{kind}>{cells}</tr>")
    names = [column.name for column in columns]
    link = csv_link(csv_name, names, csv_rows or rows) if csv_name else ""
    return (
        f'<div class="numbers" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{link}"
    )


def csv_link(name: str, headers: Sequence[str], rows: Sequence[Cells]) -> str:
    """A download link that carries the rows itself, so that no file lies on the server."""
    data = base64.b64encode(csv_text(headers, rows).encode()).decode()
    return (
        f'<a class="csv" download="{escape(name)}.csv" aria-label="Download {escape(name)}.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{data}">Download CSV</a>'
    )


def csv_text(headers: Sequence[str], rows: Sequence[Cells]) -> str:
    """RFC 4180 text: a header line and a line a row; numbers as they are, in full precision.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_inert(name) for name in headers])
    writer.writerows([_inert(value) for value in row] for row in rows)
    return out.getvalue()


def _inert(value: Any) -> Any:
    risky = isinstance(value, str) and value.startswith(FORMULA_STARTS)
    return f"'{value}" if risky else value
