"""One look for every plotly figure: colours, the template that carries it, text made safe."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.io

INK = "#7b8290"  # mid-grey for axes: legible on white and on near-black
GRID = "rgba(128,134,149,0.25)"
_BUTTONS = ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale", "resetscale"]
_AXIS: dict[str, Any] = {"gridcolor": GRID, "zerolinecolor": GRID, "fixedrange": True}
# Figures made after this module was imported have this look without asking for it. There is no
# `title` in it: gradio's PlotlyPlot takes 100 px from the top of every figure that has that key.
plotly.io.templates["gpt"] = go.layout.Template(
    layout={
        "margin": {"l": 16, "r": 24, "t": 36, "b": 44},  # at the top is room for gradio's label
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "showlegend": False,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        "hoverlabel": {"namelength": -1},
        "modebar": {"remove": _BUTTONS},
        "xaxis": _AXIS,
        "yaxis": {**_AXIS, "automargin": True},
    }
)
plotly.io.templates.default = "gpt"


def plain(text: str) -> str:
    """`text` for plotly, which reads tags and entities in labels but shows `&quot;` as it is."""
    return escape(text, quote=False)
