"""Figures of single vectors: histograms, tables, and the activation with points on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import torch

from gpt.model import GELU
from gpt.ui.parts.colours import HUE, PARTS
from gpt.ui.parts.numbers import four
from gpt.ui.parts.table import Column, table_html

_BUTTONS = ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale", "resetscale"]
_GRID = "rgba(128,134,149,0.25)"
_AXIS: dict[str, Any] = {"gridcolor": _GRID, "zerolinecolor": _GRID, "fixedrange": True}
# One look for both plotly figures. There is no `title` in it: gradio's PlotlyPlot takes 100 px from
# the top of every figure that has that key.
plotly.io.templates["gpt"] = go.layout.Template(
    layout={
        "margin": {"l": 16, "r": 24, "t": 36, "b": 44},  # at the top is room for gradio's label
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        # Mid-grey for axes: legible on white and on near-black.
        "font": {"color": "#7b8290", "size": 12},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        "hoverlabel": {"namelength": -1},
        "modebar": {"remove": _BUTTONS},
        "xaxis": _AXIS,
        "yaxis": {**_AXIS, "automargin": True},
    }
)
plotly.io.templates.default = "gpt"


def activation_curve(before: torch.Tensor, after: torch.Tensor) -> go.Figure:
    """GELU and ReLU, as far as the numbers before go, and the neurons of one token on them."""
    span = max(4.0, min(before.abs().max().item(), 12.0))
    grid = torch.linspace(-span, span, 121)
    figure, x, relu = go.Figure(), grid.tolist(), grid.clamp(min=0).tolist()
    figure.add_scatter(x=x, y=GELU()(grid).tolist(), mode="lines", name="GELU", line_color=HUE)
    dashed = {"dash": "dash", "color": PARTS[1]}
    figure.add_scatter(x=x, y=relu, mode="lines", name="ReLU", line=dashed)
    figure.add_scatter(
        x=before.tolist(),
        y=after.tolist(),
        mode="markers",
        name="this token's neurons",
        marker={"color": PARTS[5], "size": 5, "opacity": 0.45},
        hovertemplate="in %{x:.3g}, out %{y:.3g}<extra></extra>",
    )
    axes = {"xaxis_title": "before the activation", "yaxis_title": "after"}
    return figure.update_layout(height=170, showlegend=True, **axes)


def histogram_pair(before: np.ndarray, after: np.ndarray) -> go.Figure:
    """How the numbers of two rows are spread, over the same bins."""
    edges = np.histogram_bin_edges(np.concatenate([before, after]), bins=40)
    middle = ((edges[:-1] + edges[1:]) / 2).tolist()
    figure = go.Figure()
    for name, values, colour in (("before", before, PARTS[1]), ("after", after, HUE)):
        counts = np.histogram(values, edges)[0]
        figure.add_bar(
            x=middle,
            y=counts.tolist(),
            name=name,
            marker={"color": colour},
            opacity=0.65,
            hovertemplate="about %{x:.3g}: %{y} numbers<extra>%{fullData.name}</extra>",
        )
    axes = {"xaxis_title": "value", "yaxis_title": "numbers"}
    return figure.update_layout(height=170, barmode="overlay", showlegend=True, **axes)


def largest_numbers(name: str, rows: Sequence[str], values: np.ndarray) -> str:
    """The largest of the numbers (rows, d) as a table, all of them as CSV; HTML."""
    columns = [Column("dimension"), *[Column(row, four) for row in rows]]
    every = [(i, *column) for i, column in enumerate(values.T.tolist())]
    largest = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:8]
    shown = [every[i] for i in largest]
    caption = f"The 8 largest dimensions of {name}"
    return table_html(columns, shown, caption, csv_name=name, csv_rows=every)
