"""Rows of numbers as an HTML table that scrolls inside its own box and downloads as CSV."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import csv_link, csv_text

__all__ = ["csv_link", "csv_text", "formula", "say", "table_html"]

Cell = str | float | int | None


def table_html(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    csv_name: str = "",
    csv_headers: Sequence[str] | None = None,
    csv_rows: Sequence[Sequence[Cell]] | None = None,
    struck: Collection[int] = (),
    text_columns: Collection[int] = (),
    marked: Collection[int] = (),
) -> str:
    """A table with every cell escaped; rows in `struck` are crossed out, `marked` ones stand out.

    Columns are numbers, right-aligned, unless in `text_columns`. With `csv_name`, a link carries
    `csv_rows` (full precision; the shown cells if None) inside the page itself.
    """
    head = "".join(
        f'<th scope="col"{_left(i, text_columns)}>{escape(h)}</th>' for i, h in enumerate(headers)
    )
    body = []
    for index, row in enumerate(rows):
        style = " ".join(
            name for name, where in (("struck", struck), ("marked", marked)) if index in where
        )
        cells = "".join(
            f"<td{_left(i, text_columns)}><bdi>{escape(cell)}</bdi></td>"
            for i, cell in enumerate(row)
        )
        body.append(f'<tr class="{style}">{cells}</tr>' if style else f"<tr>{cells}</tr>")
    link = ""
    if csv_name:
        link = csv_link(csv_name, csv_headers or headers, rows if csv_rows is None else csv_rows)
    return (
        f'<div class="numbers" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{link}"
    )


def _left(column: int, text_columns: Collection[int]) -> str:
    return ' class="text"' if column in text_columns else ""
