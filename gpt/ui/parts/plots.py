"""Arrays to plotly figures: one look for every plot, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

INK = "#808695"  # mid-grey: legible on white and on near-black
GRID = "rgba(128,134,149,0.25)"
HUE = "#3b7dd8"  # probability, one hue in every tab
MUTED = "rgba(128,134,149,0.55)"  # the tail: everything that has no bar of its own
# Seven that stay apart for colour-blind readers. Source: Okabe and Ito 2008.
PARTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def style(figure: go.Figure, height: int, left: int = 60, title: str = "") -> go.Figure:
    """`figure` with the house's margins, fonts, grid and transparent background."""
    figure.update_layout(
        height=height,
        margin={"l": left, "r": 16, "t": 40 if title else 12, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12},
        title={"text": title, "x": 0, "font": {"size": 13}} if title else None,
        showlegend=False,
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, fixedrange=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, fixedrange=True)
    return figure


def ranked_bars(
    labels: Sequence[str], values: Sequence[float], texts: Sequence[str], axis: str, tail: bool
) -> go.Figure:
    """Horizontal bars, best on top, the number at the end of each; the last one is the tail.

    Bars sit at whole positions, since equal labels would merge on a category axis.
    """
    positions = list(range(len(labels)))
    colours = [HUE] * len(labels)
    if tail and colours:
        colours[-1] = MUTED
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=positions,
            orientation="h",
            text=list(texts),
            textposition="outside",
            cliponaxis=False,
            marker={"color": colours},
            hovertemplate="%{customdata}: %{text}<extra></extra>",
            customdata=[escape(label) for label in labels],
        )
    )
    style(figure, height=60 + 24 * len(labels), left=140)
    figure.update_yaxes(
        tickvals=positions,
        ticktext=[escape(label) for label in labels],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        tickfont={"family": "monospace"},
    )
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.25 * (high - low or 1.0)  # for the numbers at the ends of the bars
    figure.update_xaxes(title=axis, range=[low - (room if low < 0 else 0), high + room])
    return figure
