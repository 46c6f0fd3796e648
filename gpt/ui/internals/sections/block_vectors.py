"""One token's real numbers inside one block: a vector, a LayerNorm, the activation."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import torch

from gpt.internals.residual import VECTORS, Normed, read_norm, token_vector
from gpt.model import GELU, FeedForward, LayerNorm
from gpt.ui.internals.folds import Code, numbers
from gpt.ui.internals.lab import Lab, Visit, at_most
from gpt.ui.internals.section import Section, html, layer_box, plot
from gpt.ui.internals.vector_figures import (
    activation_curve,
    histogram_pair,
    largest_numbers,
    strips,
)
from gpt.ui.parts.numbers import four, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html, text_column

NORMS = {"before attention (norm1)": "norm1", "before the feed-forward (norm2)": "norm2"}


NORM_COLUMNS = (text_column("row"), *[Column(n, "{:.6f}".format) for n in ("mean", "variance")])


def vector_views(
    lab: Lab, visit: Visit, layer: Any, name: str, norm: str
) -> tuple[str, go.Figure, go.Figure, str]:
    """Strips of one vector, its numbers; the norm's rows; the activation with this run's points."""
    run, at = lab.run(visit), visit.position
    layer = at_most(layer, run.cfg.n_layers)
    name = name if name in VECTORS else VECTORS[0]
    vector = token_vector(run, layer, name, at).cpu().numpy()
    heads = [f"head {i}" for i in range(len(vector))]
    if len(vector) == 1:
        vector, heads = _folded(vector[0])
    hidden = run.layer(layer, "ff.hidden")[at].cpu()
    activation = run.layer(layer, "ff.activation")[at].cpu()
    span = max(4.0, min(hidden.abs().max().item(), 12.0))
    grid = torch.linspace(-span, span, 121)
    with lab.borrow(visit) as model:
        row = read_norm(model, run, layer, NORMS.get(norm, "norm1"), at)
        with torch.no_grad():
            curve = model.trf_blocks[layer].ff.layers[1](grid.to(run.logits.device)).cpu()
    before, after = row.before.cpu(), row.after.cpu()
    curves = {"GELU": (grid.tolist(), curve.tolist()),
              "ReLU": (grid.tolist(), grid.clamp(min=0).tolist())}  # fmt: skip
    neurons = hidden.tolist(), activation.tolist()
    return (
        _vector_words(name, layer, vector) + strips(vector, heads, f"{name} of layer {layer}"),
        histogram_pair(before.numpy(), after.numpy(), ("before", "after")),
        activation_curve(curves, neurons, "this token's neurons"),
        _norm_formula(row, before, after)
        + _gelu_words(hidden, activation)
        + numbers(
            _vector_table(name, layer, vector),
            _norm_table(row, before, after),
            csv_link(
                "activation",
                ["neuron", "before", "after"],
                [[n, *pair] for n, pair in enumerate(zip(*neurons, strict=True))],
            ),
        ),
    )


def _folded(row: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """A long vector cut into rows of at most 128 numbers, the last padded with gaps."""
    width = min(128, len(row))
    n_rows = -(-len(row) // width)
    padded = np.full(n_rows * width, np.nan, dtype=np.float32)
    padded[: len(row)] = row
    return padded.reshape(n_rows, width), [f"from {i * width}" for i in range(n_rows)]


def _vector_words(name: str, layer: int, vector: np.ndarray) -> str:
    flat = vector[~np.isnan(vector)]
    return say(
        f"{name} of layer {layer}: {len(flat):,} numbers, mean {significant(float(flat.mean()))}, "
        f"standard deviation {significant(float(flat.std()))}, from "
        f"{significant(float(flat.min()))} to {significant(float(flat.max()))}."
    )


def _vector_table(name: str, layer: int, vector: np.ndarray) -> str:
    return largest_numbers(f"{name}-layer-{layer}", [name], vector[~np.isnan(vector)][None])


def _norm_formula(row: Normed, before: torch.Tensor, after: torch.Tensor) -> str:
    return formula(
        "after = scale · (before − mean) ÷ √(variance + eps) + shift",
        f"number 0: {four(after[0].item())} = {four(row.scale[0].item())} · "
        f"({four(before[0].item())} − {four(row.mean)}) ÷ √({four(row.variance)} + "
        f"{four(row.eps)}) + {four(row.shift[0].item())}",
    )


def _norm_table(row: Normed, before: torch.Tensor, after: torch.Tensor) -> str:
    deviation = (row.variance + row.eps) ** 0.5
    rows = [
        ("before", row.mean, row.variance),
        ("before scale and shift", (before - row.mean).mean().item() / deviation,
         row.variance / deviation**2),
        ("after", after.mean().item(), after.var(correction=0).item()),
    ]  # fmt: skip
    return table_html(NORM_COLUMNS, rows, "LayerNorm") + csv_link(
        "layernorm", ["dimension", "before", "after"],
        [[i, *pair] for i, pair in enumerate(zip(before.tolist(), after.tolist(), strict=True))],
    )  # fmt: skip


def _gelu_words(hidden: torch.Tensor, activation: torch.Tensor) -> str:
    on = (hidden > 0).float().mean().item()
    i = int(activation.argmax())
    return say(
        f"{significant(100 * on)} % of this token's {len(hidden):,} neurons are positive before "
        "the activation; unlike ReLU, GELU lets a little of the negative ones through."
    ) + formula(
        "GELU(x) = 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))",
        f"GELU({four(hidden[i].item())}) = {four(activation[i].item())} for "
        f"neuron {i:,}, the strongest",
    )


SECTION = Section(
    key="vectors",
    rail="Stream",
    title="One token's vectors",
    intro="One token's own numbers inside one block, as strips; the row before and after a "
    "LayerNorm; and the activation function with this token's values on it.",
    view=vector_views,
    code=(Code(LayerNorm.forward), Code(GELU.forward), Code(FeedForward.forward)),
    needs_model=True,
    controls={
        "layer": layer_box("int-vec-layer"),
        "name": lambda: gr.Dropdown(
            list(VECTORS), value=VECTORS[0], label="Vector", elem_id="int-vec-name", min_width=200,
        ),
        "norm": lambda: gr.Dropdown(
            list(NORMS), value=next(iter(NORMS)), label="LayerNorm", elem_id="int-vec-norm",
            min_width=200,
        ),
    },
    output="int-vectors",
    more=(
        (plot("int-vec-norm-plot", "LayerNorm"), plot("int-vec-gelu-plot", "GELU")),
        (html("int-vec-words"),),
    ),
)  # fmt: skip
