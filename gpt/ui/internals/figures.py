"""Figures of the Internals tab: arrays to heat maps, signed and paired bars, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from gpt.ui.parts.plots import HUE, INK, MUTED, PARTS, style

MASKED = "#a6abb5"
NEGATIVE, POSITIVE = "#b2182b", "#2166ac"
# Opaque, so that the text in a cell contrasts with its cell on light and dark pages alike.
PROBABILITY_SCALE = [[0, "#ffffff"], [1, HUE]]
SIGNED_SCALE = [[0, NEGATIVE], [0.5, "#f7f7f7"], [1, POSITIVE]]
CELL_TEXT_COLUMNS = 16  # more columns than this leave no room for text in the cells


def heat(
    z: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    axes: tuple[str, str],
    unit: str,
    signed: bool = False,
    masked: np.ndarray | None = None,
    top: float | None = None,
) -> go.Figure:
    """A heat map of z (rows, columns): white to one hue from 0 to `top`, or diverging about 0.

    Cells where `masked` is True are grey and say so. `axes` names rows and columns.
    """
    z = np.asarray(z, dtype=np.float32)
    shown = z if masked is None else np.where(masked, np.nan, z)
    largest = float(np.nanmax(np.abs(shown), initial=0.0)) or 1.0
    high = top if top is not None else largest
    numbers = len(columns) <= CELL_TEXT_COLUMNS
    labels = [[escape(r) for r in rows], [escape(c) for c in columns]]
    figure = go.Figure()
    if masked is not None:
        figure.add_trace(_masked_cells(masked))
    figure.add_heatmap(
        z=shown,
        zmin=-high if signed else 0,
        zmax=high,
        colorscale=SIGNED_SCALE if signed else PROBABILITY_SCALE,
        texttemplate="%{z:.2f}" if numbers else None,
        textfont={"size": 10},
        hovertemplate=f"{axes[0]} %{{y}}, {axes[1]} %{{x}}: %{{z:.4g}}<extra></extra>",
        hoverongaps=False,
        colorbar={"title": {"text": unit, "side": "right"}, "thickness": 10},
    )
    style(figure, height=max(260, min(640, 130 + 26 * len(rows))), left=110)
    _ticks(figure, labels, axes)
    return figure


def _masked_cells(masked: np.ndarray) -> go.Heatmap:
    """Grey cells that say "masked", the others left to what lies on top."""
    return go.Heatmap(
        z=np.where(masked, 1.0, np.nan).astype(np.float32),
        colorscale=[[0, MASKED], [1, MASKED]],
        showscale=False,
        texttemplate="masked" if masked.shape[1] <= 8 else None,
        hovertemplate="row %{y}, column %{x}: masked<extra></extra>",
        textfont={"size": 10, "color": "#333"},
    )


def _ticks(figure: go.Figure, labels: list[list[str]], axes: tuple[str, str]) -> None:
    """Token labels at whole positions, thinned where they would overlap."""
    for update, names, most, axis in (
        (figure.update_yaxes, labels[0], 20, axes[0]),
        (figure.update_xaxes, labels[1], 16, axes[1]),
    ):
        every = -(-len(names) // most)
        at = list(range(0, len(names), every))
        update(
            tickvals=at,
            ticktext=[names[i] for i in at],
            tickfont={"family": "monospace", "size": 11},
            title=axis,
            showgrid=False,
            zeroline=False,
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(side="bottom", tickangle=-50)
    figure.update_layout(margin={"b": 90, "r": 8})


def signed_bars(labels: Sequence[str], values: Sequence[float], axis: str) -> go.Figure:
    """Horizontal bars about 0, in the given order, the number at the end of each."""
    positions = list(range(len(labels)))
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=positions,
            orientation="h",
            text=[f"{value:+.3g}".replace("-", "−") for value in values],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [POSITIVE if value >= 0 else NEGATIVE for value in values]},
            customdata=[escape(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.4g}<extra></extra>",
        )
    )
    return _horizontal(figure, labels, values, axis)


def paired_bars(
    labels: Sequence[str],
    first: Sequence[float],
    second: Sequence[float],
    names: tuple[str, str],
    axis: str,
) -> go.Figure:
    """Two horizontal bars a label, told apart by colour, position and legend."""
    figure = go.Figure()
    for name, values, colour in ((names[0], first, HUE), (names[1], second, PARTS[1])):
        figure.add_bar(
            x=list(values),
            y=list(range(len(labels))),
            orientation="h",
            name=escape(name),
            marker={"color": colour},
            customdata=[escape(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.4g}<extra>%{fullData.name}</extra>",
        )
    _horizontal(figure, labels, [*first, *second], axis, row_height=34)
    return with_legend(figure).update_layout(bargap=0.25)


def paired_dots(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float], names: tuple[str, str]
) -> go.Figure:
    """Two probabilities a label as dots on a log axis, for distributions of unlike sizes."""
    figure = go.Figure()
    for name, values, colour, symbol in (
        (names[0], first, HUE, "circle"),
        (names[1], second, PARTS[1], "diamond"),
    ):
        figure.add_scatter(
            x=[max(value, 1e-12) for value in values],
            y=list(range(len(labels))),
            mode="markers",
            name=escape(name),
            marker={"color": colour, "symbol": symbol, "size": 11},
            customdata=[escape(label) for label in labels],
            hovertemplate="%{customdata}: %{x:.3g}<extra>%{fullData.name}</extra>",
        )
    _horizontal(figure, labels, [], "probability, log scale")
    powers = list(range(-12, 1))
    ticks = ["1", "10 %", "1 %", "0.1 %", "0.01 %"]
    figure.update_xaxes(
        type="log",
        autorange=True,
        range=None,
        tickvals=[10.0**power for power in powers],
        ticktext=[ticks[-p] if -p < len(ticks) else f"1 in 10<sup>{-p}</sup>" for p in powers],
    )
    return with_legend(figure)


def with_legend(figure: go.Figure) -> go.Figure:
    """`figure` with its names in a row above the plot."""
    return figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        margin={"t": 40},
    )


def _horizontal(
    figure: go.Figure, labels: Sequence[str], values: Sequence[float], axis: str, row_height=24
) -> go.Figure:
    style(figure, height=80 + row_height * len(labels), left=150)
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[escape(label) for label in labels],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        tickfont={"family": "monospace"},
    )
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.18 * (high - low or 1.0)
    figure.update_xaxes(
        title=axis, range=[low - (room if low < 0 else 0), high + room], zerolinecolor=INK
    )
    return figure


def cumulative_bar(segments: Sequence[tuple[str, float, bool]], uniform: float | None) -> go.Figure:
    """One bar from 0 to 1 cut into (label, width, own) segments, and where a number falls on it.

    Segments that stand for one token (`own`) take the colours in turn, the others are grey.
    """
    figure = go.Figure()
    colours = [HUE, "#8fb5ea"]
    turn = 0
    for label, width, own in segments:
        figure.add_bar(
            x=[width],
            y=[0],
            orientation="h",
            width=0.5,
            marker={"color": colours[turn % 2] if own else MUTED},
            text=escape(label) if width > 0.06 else "",
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            hovertemplate=f"{escape(label)}: {width:.4g}<extra></extra>",
        )
        turn += own
    style(figure, height=190)
    figure.update_layout(barmode="stack", margin={"l": 16, "t": 70})
    figure.update_yaxes(visible=False, range=[-0.4, 0.5])
    figure.update_xaxes(title="cumulative probability, tokens in id order", range=[0, 1.0001])
    if uniform is not None:
        figure.add_vline(x=uniform, line={"color": PARTS[5], "width": 3})
        figure.add_annotation(
            x=uniform,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=f"u = {uniform:.4f}",
            showarrow=False,
            font={"color": PARTS[5], "size": 13},
        )
    return figure
