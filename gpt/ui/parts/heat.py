"""Heat maps: as a table with text in every cell, as a picture for many cells, as strips."""

from collections.abc import Sequence
from html import escape

import numpy as np
from plotly.utils import image_array_to_data_uri

from gpt.ui.parts.colours import AGAINST, FOR, HUE
from gpt.ui.parts.numbers import significant

TITLED_CELLS = 5000  # beyond this a tooltip a cell would make the page too heavy
HUE_RGB, FOR_RGB, AGAINST_RGB = (tuple(bytes.fromhex(colour[1:])) for colour in (HUE, FOR, AGAINST))


def heat_table(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    shades: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    selected: int | None = None,
    more: Sequence[Sequence[str]] | None = None,
) -> str:
    """HTML of rows x columns cells shaded from 0 (the panel) to 1 (full hue), all text escaped.

    Negative shades, down to -1, are red. A cell's tooltip names row, column and text, and `more`.
    `selected` is the column that stands out. The first row and column stay while it scrolls.
    """
    titled = len(rows) * len(columns) <= TITLED_CELLS
    head = "".join(
        f'<th scope="col"{_mark(at, selected)}><bdi>{escape(name)}</bdi></th>'
        for at, name in enumerate(columns)
    )
    body = []
    for y, (name, row_shades, row_texts) in enumerate(zip(rows, shades, texts, strict=True)):
        cells = []
        for at, (shade, text) in enumerate(zip(row_shades, row_texts, strict=True)):
            told = f"{name}, {columns[at]}: {text}" + (f", {more[y][at]}" if more else "")
            title = f' title="{escape(told)}"' if titled else ""
            cells.append(
                f'<td style="--s:{min(abs(shade), 1):.2f}"{_mark(at, selected, shade < 0)}{title}>'
                f"{escape(text)}</td>"
            )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="numbers heat" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def picture(values: np.ndarray, *, signed: bool = False) -> str:
    """Rows of numbers (rows, columns) as a PNG data URI, a pixel a cell, clear where they are 0.

    So the panel's own colour is the 0, in light and dark. Full colour is the largest size, blue
    positive and red negative, or 1 for shares from 0 to 1, which are shaded by their square root,
    so that weak ones are seen. NaN cells are clear.
    """
    values = np.nan_to_num(np.asarray(values, dtype=np.float64))
    high = float(np.abs(values).max(initial=0.0)) or 1.0
    strength = np.abs(values) / high if signed else np.sqrt(np.clip(values, 0, 1))
    pixels = np.empty((*values.shape, 4))
    pixels[..., :3] = np.where(values[..., None] < 0, AGAINST_RGB, FOR_RGB if signed else HUE_RGB)
    pixels[..., 3] = 255 * strength
    return image_array_to_data_uri(pixels.round().astype(np.uint8), compression=6)


def strips(values: np.ndarray, rows: Sequence[str], caption: str, legend: str = "") -> str:
    """Rows of numbers as signed strips on one scale, a colour a number; HTML."""
    names = "".join(f'<bdi title="{escape(row)}">{escape(row)}</bdi>' for row in rows)
    high = significant(float(np.nanmax(np.abs(values), initial=0.0)))
    legend = legend or f"−{high} to {high}; {values.shape[1]:,} numbers from left to right."
    return (
        f'<div class="strips" style="--rows:{len(rows)}"><div class="names">{names}</div>'
        f'<img src="{picture(values, signed=True)}" alt="{escape(caption)}"></div>'
        f'<p class="legend"><span class="ramp signed"></span> {legend}</p>'
    )


def _mark(at: int, selected: int | None, negative: bool = False) -> str:
    classes = [name for name, so in (("here", at == selected), ("against", negative)) if so]
    return f' class="{" ".join(classes)}"' if classes else ""
