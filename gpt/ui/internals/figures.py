"""Figures of the Internals tab: arrays to heat maps, signed and paired bars, and curves."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from gpt.ui.parts import heat as parts_heat
from gpt.ui.parts.bars import bars, dots
from gpt.ui.parts.plots import AGAINST, FOR, HUE, MUTED, PARTS, plain, style

# Older names of what gpt/ui/parts draws now.
MASKED, NEGATIVE, POSITIVE = parts_heat.MASKED, AGAINST, FOR
SIGNED_SCALE = parts_heat.SIGNED_SCALE
heat = parts_heat.heat_map


def ranked_bars(
    labels: Sequence[str], values: Sequence[float], texts: Sequence[str], axis: str, tail: bool
) -> go.Figure:
    return bars(labels, {"": values}, axis, texts=texts, tail=tail)


def signed_bars(labels: Sequence[str], values: Sequence[float], axis: str) -> go.Figure:
    return bars(labels, {"": values}, axis, signed=True)


def paired_bars(
    labels: Sequence[str],
    first: Sequence[float],
    second: Sequence[float],
    names: tuple[str, str],
    axis: str,
) -> go.Figure:
    return bars(labels, dict(zip(names, (first, second), strict=True)), axis)


def paired_dots(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float], names: tuple[str, str]
) -> go.Figure:
    return dots(labels, dict(zip(names, (first, second), strict=True)))


def with_legend(figure: go.Figure) -> go.Figure:
    """`figure` with its names in a row above the plot."""
    return figure.update_layout(showlegend=True)


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
            text=plain(label) if width > 0.06 else "",
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            customdata=[plain(label)],
            hovertemplate="%{customdata}: %{x:.4g}<extra></extra>",
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
