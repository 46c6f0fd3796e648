"""The residual stream by layer and position, and one token's real vectors."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import torch

from gpt.internals.residual import VECTORS, embeddings, read_norm, read_stream, token_vector
from gpt.internals.run import Run
from gpt.ui.internals.figures import paired_bars
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section, at_most
from gpt.ui.internals.tables import csv_link, formula, say, table_html
from gpt.ui.internals.vector_figures import activation_curve, histogram_pair, strip
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import significant

EMBEDDING_INTRO = (
    "Each token id picks a row of the token table, each position a row of the position table; "
    "their sum enters the first block. Blue is positive, red negative."
)
STREAM_INTRO = (
    "Every block adds to the same vector, the residual stream. Its length says how much has been "
    "written, the cosine how much a stage has turned it (1: not at all)."
)
VECTOR_INTRO = (
    "One token's own numbers inside one block, as strips; the row before and after a LayerNorm; "
    "and the activation function with this token's values on it."
)
NORM, COSINE = STREAM_MEASURES = ("length", "cosine to the stage before")
NORMS = {"before attention (norm1)": "norm1", "before the feed-forward (norm2)": "norm2"}


def embedding_views(lab: Lab, state: State) -> tuple[str, go.Figure, str]:
    """The position's two embeddings and their sum: a sentence, strips, a table."""
    run, at = lab.run(state), state["position"]
    rows = embeddings(run, at).cpu()
    names = [f"token {lab.piece(run.ids[at])}", f"position {at}", "sum"]
    lengths = [significant(row.norm().item()) for row in rows]
    cosine = torch.cosine_similarity(rows[0], rows[1], dim=0).item()
    words = say(
        f"The token vector has length {lengths[0]}, the position vector {lengths[1]}, their sum "
        f"{lengths[2]}; the cosine between the two is {significant(cosine)}."
    ) + formula(
        "x = token embedding + position embedding, number by number",
        f"x[0] = {significant(rows[0, 0].item(), 4)} + {significant(rows[1, 0].item(), 4)} = "
        f"{significant(rows[2, 0].item(), 4)}, and so on for {rows.shape[1]:,} numbers",
    )
    return words, strip(rows.numpy(), names), _numbers_table("embeddings", names, rows.numpy())


def stream_views(lab: Lab, state: State, measure: str) -> tuple[str, go.Figure, str]:
    """The stream's heat table, and attention against feed-forward at the chosen position."""
    run, at = lab.run(state), state["position"]
    stream = lab.memo(state, "stream", lambda: read_stream(run))
    columns = [f"{i} {lab.piece(token)}" for i, token in enumerate(run.ids)]
    values = stream.norms if measure == NORM else stream.cosines
    stages = stream.stages if measure == NORM else stream.stages[1:]
    high = values.max().item() or 1.0
    shades = values / high if measure == NORM else values.clamp(min=0)
    texts = [[significant(v) for v in row] for row in values.tolist()]
    heat = heat_table(
        f"Residual stream: {measure}", stages, columns, shades.tolist(), texts,
        [[f"{s}, {c}" for c in columns] for s in stages], at,
    )  # fmt: skip
    heat += csv_link(
        f"stream-{measure.split()[0]}", ["stage", *columns],
        [[s, *row] for s, row in zip(stages, values.tolist(), strict=True)],
    )  # fmt: skip
    att, ff = stream.attention_norms[:, at].tolist(), stream.feed_forward_norms[:, at].tolist()
    names = [f"layer {i}" for i in range(len(att))]
    figure = paired_bars(names, att, ff, ("attention", "feed-forward"), "length of what was added")
    table = _added_table(at, names, att, ff, stream.norms[2::2, at].tolist())
    first, last = stream.norms[0, at].item(), stream.norms[-1, at].item()
    more = "attention" if sum(att) > sum(ff) else "feed-forward"
    words = say(
        f"At position {at} the stream starts with length {significant(first)} and ends with "
        f"{significant(last)}; over all layers the {more} wrote the longer vectors."
    ) + formula(
        "resid_out = resid_in + att_out + ff_out",
        f"number 0 in layer 0: {_first(run, 'resid_out', at)} = {_first(run, 'resid_in', at)} + "
        f"{_first(run, 'att_out', at)} + {_first(run, 'ff_out', at)}",
    )
    return words + heat, figure, table


def _added_table(
    at: int, names: list[str], att: list[float], ff: list[float], after: list[float]
) -> str:
    return table_html(
        f"Added at position {at}",
        ["layer", "attention", "feed-forward", "stream after"],
        [
            [name, significant(a), significant(f), significant(n)]
            for name, a, f, n in zip(names, att, ff, after, strict=True)
        ],
        csv_name=f"contributions-position-{at}",
        text_columns=(0,),
    )


def _first(run: Run, name: str, position: int) -> str:
    return significant(run.layer(0, name)[position, 0].item(), 4)


def vector_views(
    lab: Lab, state: State, layer: float, name: str, norm: str
) -> tuple[go.Figure, str, go.Figure, str, go.Figure, str]:
    """Strips of one vector, its numbers; the norm's rows; the activation with this run's points."""
    run, at = lab.run(state), state["position"]
    layer = at_most(layer, run.cfg.n_layers)
    vector = token_vector(run, layer, name, at).cpu().numpy()
    heads = [f"head {i}" for i in range(len(vector))] if len(vector) > 1 else [name]
    if len(vector) == 1:
        vector, heads = _folded(vector[0])
    with lab.borrow(state) as model:
        row = read_norm(model, run, layer, NORMS.get(norm, "norm1"), at)
        gelu = model.trf_blocks[layer].ff.layers[1]
        hidden = run.layer(layer, "ff.hidden")[at].cpu()
        activation = run.layer(layer, "ff.activation")[at].cpu()
        span = max(4.0, min(hidden.abs().max().item(), 12.0))
        grid = torch.linspace(-span, span, 121)
        with torch.no_grad():
            curve = gelu(grid.to(run.logits.device)).cpu()
    before, after = row.before.cpu(), row.after.cpu()
    return (
        strip(vector, heads),
        _vector_words(name, layer, vector),
        histogram_pair(before.numpy(), after.numpy(), ("before", "after")),
        _norm_words(row, before, after),
        activation_curve(
            {"GELU": (grid.tolist(), curve.tolist()),
             "ReLU": (grid.tolist(), grid.clamp(min=0).tolist())},
            (hidden.tolist(), activation.tolist()), "this token's neurons",
        ),
        _gelu_words(hidden, activation),
    )  # fmt: skip


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
    ) + _numbers_table(f"{name}-layer-{layer}", [name], flat[None])


def _norm_words(row: Any, before: torch.Tensor, after: torch.Tensor) -> str:
    scale, shift = row.scale[0].item(), row.shift[0].item()
    deviation = (row.variance + row.eps) ** 0.5
    table = table_html(
        "LayerNorm",
        ["row", "mean", "variance"],
        [
            ["before", significant(row.mean, 4), significant(row.variance, 4)],
            [
                "before scale and shift",
                significant((before - row.mean).mean().item() / deviation, 4),
                significant(row.variance / deviation**2, 4),
            ],
            [
                "after",
                significant(after.mean().item(), 4),
                significant(after.var(correction=0).item(), 4),
            ],
        ],
        text_columns=(0,),
    )
    return formula(
        "after = scale · (before − mean) ÷ √(variance + eps) + shift",
        f"number 0: {significant(after[0].item(), 4)} = {significant(scale, 4)} · "
        f"({significant(before[0].item(), 4)} − {significant(row.mean, 4)}) ÷ "
        f"√({significant(row.variance, 4)} + {row.eps:g}) + {significant(shift, 4)}",
    ) + table + csv_link(
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
        f"GELU({significant(hidden[i].item(), 4)}) = {significant(activation[i].item(), 4)} for "
        f"neuron {i:,}, the strongest",
    ) + csv_link(
        "activation", ["neuron", "before", "after"],
        [[n, *p] for n, p in enumerate(zip(hidden.tolist(), activation.tolist(), strict=True))],
    )  # fmt: skip


def _numbers_table(name: str, rows: list[str], values: np.ndarray) -> str:
    """The largest numbers as a table, all of them as CSV."""
    largest = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:8]
    return table_html(
        "The 8 largest dimensions",
        ["dimension", *rows],
        [[str(i), *[significant(float(v), 4) for v in values[:, i]]] for i in largest],
        csv_name=name,
        csv_rows=[[i, *[float(v) for v in values[:, i]]] for i in range(values.shape[1])],
    )


def build_embeddings(page: Page) -> None:
    """The section: the two vectors whose sum enters the first block."""
    with Section(page, "Embeddings: ids become vectors", "int-section-embeddings") as part:
        gr.Markdown(EMBEDDING_INTRO)
        words = gr.HTML(EMPTY, elem_id="int-emb-words")
        plot = gr.Plot(label="Vectors", elem_id="int-emb-plot", elem_classes="wide-plot")
        table = gr.HTML(elem_id="int-emb-table")
    part.wire(lambda state: embedding_views(page.lab, state), [], [words, plot, table])


def build(page: Page) -> None:
    """The sections: the stream as a whole, then one token's vectors."""
    with Section(page, "Residual stream: what is written where", "int-section-stream") as part:
        gr.Markdown(STREAM_INTRO)
        measure = gr.Radio(
            list(STREAM_MEASURES), value=NORM, label="Show", elem_id="int-stream-measure"
        )
        heat = gr.HTML(EMPTY, elem_id="int-stream")
        bars = gr.Plot(label="Attention against feed-forward", elem_id="int-stream-plot")
        table = gr.HTML(elem_id="int-stream-table")
    part.wire(lambda state, *v: stream_views(page.lab, state, *v), [measure], [heat, bars, table])
    with Section(page, "One token's vectors", "int-section-vectors") as part:
        gr.Markdown(VECTOR_INTRO)
        with gr.Row():
            layer = gr.Number(0, label="Layer", precision=0, minimum=0, min_width=140,
                              elem_id="int-vec-layer", info="0 is the first.")  # fmt: skip
            name = gr.Dropdown(list(VECTORS), value=VECTORS[0], label="Vector", min_width=200,
                               elem_id="int-vec-name", info="Names as in the code.")  # fmt: skip
            norm = gr.Dropdown(list(NORMS), value=next(iter(NORMS)), label="LayerNorm",
                               elem_id="int-vec-norm", info="Which of the block's two.",
                               min_width=200)  # fmt: skip
        outputs: list[Any] = []
        for label, key, wide in (
            ("The vector", "strip", "wide-plot"), ("LayerNorm", "norm", ""), ("GELU", "gelu", "")
        ):  # fmt: skip
            outputs.append(gr.Plot(label=label, elem_id=f"int-vec-{key}-plot", elem_classes=wide))
            outputs.append(gr.HTML(elem_id=f"int-vec-{key}"))
    part.wire(
        lambda state, *v: vector_views(page.lab, state, *v),
        [layer, name, norm],
        outputs,
        with_model=True,
    )
    page.limit(layer, "n_layers")
