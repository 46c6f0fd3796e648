"""A heat map that is a table: text in every cell, labels that stay in view while it scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

TITLED_CELLS = 5000  # beyond this a tooltip a cell would make the page too heavy


def heat_table(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    shades: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    titles: Sequence[Sequence[str]],
    selected: int | None = None,
) -> str:
    """HTML of rows x columns cells shaded from 0 (white) to 1 (full hue), all text escaped.

    `selected` is the column that stands out. The first row and column stay while it scrolls.
    """
    titled = len(rows) * len(columns) <= TITLED_CELLS
    head = "".join(
        f'<th scope="col"{_mark(at, selected)}><bdi>{escape(name)}</bdi></th>'
        for at, name in enumerate(columns)
    )
    body = []
    for name, row_shades, row_texts, row_titles in zip(rows, shades, texts, titles, strict=True):
        cells = []
        for at, (shade, text) in enumerate(zip(row_shades, row_texts, strict=True)):
            title = f' title="{escape(row_titles[at])}"' if titled else ""
            cells.append(
                f'<td style="--s:{min(max(shade, 0), 1):.2f}"{_mark(at, selected)}{title}>'
                f"{escape(text)}</td>"
            )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="numbers heat" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _mark(at: int, selected: int | None) -> str:
    return ' class="here"' if at == selected else ""
