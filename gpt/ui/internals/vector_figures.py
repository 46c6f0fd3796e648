"""Figures of single vectors: strips, histograms, and the activation with points on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gpt.ui.parts.heat import SIGNED_SCALE
from gpt.ui.parts.numbers import significant
from gpt.ui.parts.plots import HUE, PARTS, plain
from gpt.ui.parts.table import Column, csv_link, table_html


def activation_curve(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    points: tuple[Sequence[float], Sequence[float]],
    points_name: str,
) -> go.Figure:
    """Named curves over one axis and this run's points on them."""
    figure = go.Figure()
    dashes: list[Any] = ["solid", "dash"]
    for (name, (x, y)), dash, colour in zip(curves.items(), dashes, (HUE, PARTS[1]), strict=False):
        figure.add_scatter(
            x=list(x), y=list(y), mode="lines", name=name, line={"dash": dash, "color": colour}
        )
    figure.add_scatter(
        x=list(points[0]),
        y=list(points[1]),
        mode="markers",
        name=points_name,
        marker={"color": PARTS[5], "size": 5, "opacity": 0.45},
        hovertemplate="in %{x:.3g}, out %{y:.3g}<extra></extra>",
    )
    figure.update_layout(height=340, showlegend=True)
    figure.update_xaxes(title="before the activation")
    return figure.update_yaxes(title="after")


def strip(values: np.ndarray, rows: Sequence[str]) -> go.Figure:
    """Rows of numbers as a signed heat strip; NaN cells stay empty."""
    values = np.asarray(values, dtype=np.float32)
    high = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-high,
            zmax=high,
            colorscale=SIGNED_SCALE,
            hovertemplate="%{y}, number %{x}: %{z:.4g}<extra></extra>",
            hoverongaps=False,
            colorbar={"thickness": 10, "nticks": 3},
        )
    )
    figure.update_layout(height=max(190, min(560, 100 + 24 * len(rows))))
    every = -(-len(rows) // 24)
    at = list(range(0, len(rows), every))
    figure.update_yaxes(
        tickvals=at,
        ticktext=[plain(rows[i]) for i in at],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        tickfont={"family": "monospace", "size": 11},
    )
    return figure.update_xaxes(title="number", showgrid=False, zeroline=False)


def histogram_pair(
    first: np.ndarray, second: np.ndarray, names: tuple[str, str], bins: int = 40
) -> go.Figure:
    """How the numbers of two rows are spread, over the same bins."""
    edges = np.histogram_bin_edges(np.concatenate([first, second]), bins)
    middle = ((edges[:-1] + edges[1:]) / 2).tolist()
    figure = go.Figure()
    for name, values, colour in ((names[0], first, PARTS[1]), (names[1], second, HUE)):
        counts = np.histogram(values, edges)[0]
        figure.add_bar(
            x=middle,
            y=counts.tolist(),
            name=plain(name),
            marker={"color": colour},
            opacity=0.65,
            hovertemplate="about %{x:.3g}: %{y} numbers<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(height=300, barmode="overlay", showlegend=True)
    figure.update_xaxes(title="value")
    return figure.update_yaxes(title="how many of the row's numbers")


def largest_numbers(name: str, rows: Sequence[str], values: np.ndarray) -> str:
    """The largest of the numbers (rows, d) as a table, all of them as CSV; HTML."""
    columns = [Column("dimension"), *[Column(row, lambda v: significant(v, 4)) for row in rows]]
    every = [(i, *[float(v) for v in values[:, i]]) for i in range(values.shape[1])]
    largest = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:8]
    shown = [every[i] for i in largest]
    caption = f"The 8 largest dimensions of {name}"
    return table_html(columns, shown, caption) + csv_link(
        name, [column.name for column in columns], every
    )
