"""Horizontal bars and dots, a row a label: ranked, signed about 0, or one series beside another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from gpt.ui.parts.numbers import significant
from gpt.ui.parts.plots import AGAINST, FOR, HUE, INK, MUTED, PARTS, plain

COLOURS = (HUE, PARTS[1])


def bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    axis: str,
    *,
    texts: Sequence[str] | None = None,
    signed: bool = False,
    tail: bool = False,
) -> go.Figure:
    """Bars in the given order, the first on top; the names of several series form the legend.

    A single series has its number at the end of each bar: `texts`, or four figures. `signed`
    colours by sign (blue for, red against); with `tail` the last bar is grey.
    """
    figure = go.Figure()
    single = len(series) == 1
    for (name, values), colour in zip(series.items(), COLOURS, strict=False):
        colours = [colour] * len(values)
        if signed:
            colours = [FOR if value >= 0 else AGAINST for value in values]
        if tail:
            colours[-1] = MUTED
        figure.add_bar(
            x=list(values),
            y=list(range(len(labels))),
            orientation="h",
            name=plain(name),
            marker={"color": colours if single else colour},
            text=list(texts) if texts else [_number(value, signed) for value in values],
            textposition="outside" if single else "none",
            cliponaxis=False,
            customdata=[plain(label) for label in labels],
            hovertemplate="%{customdata}: %{text}<extra>%{fullData.name}</extra>",
        )
    _rows(figure, labels, axis, 24 if single else 34)
    every = [0.0, *(value for values in series.values() for value in values)]
    room = 0.25 * (max(every) - min(every) or 1.0) if single else 0  # for the numbers
    low = min(every) - (room if min(every) < 0 else 0)
    figure.update_xaxes(range=[low, max(every) + room], zerolinecolor=INK)
    return figure.update_layout(showlegend=not single, bargap=0.25)


def dots(labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> go.Figure:
    """Two probabilities a label as dots on a log axis, for distributions of unlike sizes."""
    figure = go.Figure()
    for (name, values), colour, symbol in zip(
        series.items(), COLOURS, ("circle", "diamond"), strict=True
    ):
        figure.add_scatter(
            x=[max(value, 1e-12) for value in values],
            y=list(range(len(labels))),
            mode="markers",
            name=plain(name),
            marker={"color": colour, "symbol": symbol, "size": 11},
            customdata=[plain(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.3g}<extra>%{fullData.name}</extra>",
        )
    _rows(figure, labels, "probability, log scale", 24)
    powers = list(range(-12, 1))
    ticks = ["1", "10 %", "1 %", "0.1 %", "0.01 %"]
    figure.update_xaxes(
        type="log",
        tickvals=[10.0**power for power in powers],
        ticktext=[ticks[-p] if -p < len(ticks) else f"1 in 10<sup>{-p}</sup>" for p in powers],
    )
    return figure.update_layout(showlegend=True)


def _rows(figure: go.Figure, labels: Sequence[str], axis: str, row_height: int) -> None:
    """A row a label at whole positions, since equal labels would merge on a category axis."""
    figure.update_layout(height=90 + row_height * len(labels))
    figure.update_xaxes(title=axis)
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[plain(label) for label in labels],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        tickfont={"family": "monospace"},
    )


def _number(value: float, signed: bool) -> str:
    return ("+" if signed and value > 0 else "") + significant(value, 3 if signed else 4)
