"""Heat maps: as a table with text in every cell, and as a figure for many cells."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gpt.ui.parts.plots import AGAINST, FOR, HUE, INK, plain


def _shade(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


TITLED_CELLS = 5000  # beyond this a tooltip a cell would make the page too heavy
MASKED = "#a6abb5"
# From the panel's own colour, so that nothing is what glows least on light and on dark pages. Never
# so strong that the page's ink, which assets/style.css gives the text of cells, loses its contrast.
PROBABILITY_SCALE = [[0, _shade(HUE, 0)], [1, _shade(HUE, 0.7)]]
SIGNED_SCALE = [
    [0, _shade(AGAINST, 0.55)], [0.5, _shade(INK, 0)], [1, _shade(FOR, 0.55)]
]  # fmt: skip
CELL_TEXT_COLUMNS = 16  # more columns than this leave no room for text in the cells
CELL = 40  # px, the largest side of a square cell


def heat_table(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    shades: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    titles: Sequence[Sequence[str]],
    selected: int | None = None,
) -> str:
    """HTML of rows x columns cells shaded from 0 (the panel) to 1 (full hue), all text escaped.

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


def heat_map(
    z: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    axes: tuple[str, str],
    unit: str,
    *,
    signed: bool = False,
    masked: np.ndarray | None = None,
    top: float | None = None,
) -> go.Figure:
    """A figure of z (rows, columns): the panel to one hue from 0 to `top`, or diverging about 0.

    Cells where `masked` is True are grey. `axes` names rows and columns. Cells are square and at
    most CELL px wide as long as there is room for them.
    """
    z = np.asarray(z, dtype=np.float32)
    shown = z if masked is None else np.where(masked, np.nan, z)
    high = top if top is not None else float(np.nanmax(np.abs(shown), initial=0.0)) or 1.0
    figure = go.Figure()
    if masked is not None:
        figure.add_trace(_masked_cells(masked))
    figure.add_heatmap(
        z=shown,
        zmin=-high if signed else 0,
        zmax=high,
        colorscale=SIGNED_SCALE if signed else PROBABILITY_SCALE,
        texttemplate="%{z:.2f}" if len(columns) <= CELL_TEXT_COLUMNS else None,
        textfont={"size": 10},
        hovertemplate=f"{axes[0]} %{{y}}, {axes[1]} %{{x}}: %{{z:.4g}}<extra></extra>",
        hoverongaps=False,
        colorbar={"title": {"text": unit, "side": "right"}, "thickness": 10},
    )
    figure.update_layout(height=130 + min(CELL, 640 / len(rows)) * len(rows), margin={"b": 90})
    figure.update_yaxes(autorange="reversed", **_ticks(rows, axes[0]))
    square = {"scaleanchor": "y", "constrain": "domain"}
    return figure.update_xaxes(tickangle=-50, **square, **_ticks(columns, axes[1]))


def _ticks(names: Sequence[str], title: str) -> dict[str, Any]:
    """An axis with a name for each cell, thinned where they would overlap."""
    at = list(range(0, len(names), -(-len(names) // 24)))
    return {
        "tickvals": at,
        "ticktext": [plain(names[i]) for i in at],
        "tickfont": {"family": "monospace", "size": 11},
        "title": title,
        "showgrid": False,
        "zeroline": False,
    }


def _masked_cells(masked: np.ndarray) -> go.Heatmap:
    """Grey cells, the others left to what lies on top."""
    return go.Heatmap(
        z=np.where(masked, 1.0, np.nan).astype(np.float32),
        colorscale=[[0, MASKED], [1, MASKED]],
        showscale=False,
        hovertemplate="row %{y}, column %{x}: masked<extra></extra>",
    )


def _mark(at: int, selected: int | None) -> str:
    return ' class="here"' if at == selected else ""
