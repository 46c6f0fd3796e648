"""The residual stream by layer and position, and one token's real numbers inside one block."""

import numpy as np
import plotly.graph_objects as go
import torch

from gpt.internals.residual import VECTORS, norms_of, read_norm, read_stream, stages, token_vector
from gpt.model import GELU, FeedForward, LayerNorm, TransformerBlock
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, dropdown, html, layer_box, numbers, plot, radio, section
from gpt.ui.internals.vector_figures import activation_curve, histogram_pair, largest_numbers
from gpt.ui.parts.bars import bars
from gpt.ui.parts.heat import heat_table, strips
from gpt.ui.parts.numbers import four, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html

NORM, COSINE = MEASURES = ("length", "cosine to the stage before")
STREAM_COLUMNS = ("layer", Column("attention"), Column("feed-forward"), Column("stream after"))
NORMS = {"before attention (norm1)": "norm1", "before the feed-forward (norm2)": "norm2"}
NORM_COLUMNS = ("row", *[Column(n, "{:.6f}".format) for n in ("mean", "variance")])


@section(
    "stream",
    title="Residual stream: what is written where",
    intro="Every block adds to the same vector, the residual stream. Its length says how much has "
    "been written, the cosine how much a stage has turned it (1: not at all).",
    code=(Code(TransformerBlock.forward, '"resid_in"'),),
    controls={"measure": radio("int-stream-measure", "Show", MEASURES)},
)
def stream_html(lab: Lab, focus: Focus, measure: str) -> str:
    """The stream's heat table, and attention against feed-forward at the chosen position; HTML."""
    run, at = lab.run(focus), focus.position
    norms, cosines = lab.memo(focus, "stream", lambda: read_stream(run))
    columns, names = lab.places(run.ids), list(stages(run.cfg.n_layers))
    values = cosines if measure == COSINE else norms
    stage_names = names[1:] if measure == COSINE else names
    high = 1.0 if measure == COSINE else values.max().item() or 1.0
    shades = (values / high).clamp(min=0).tolist()
    texts = [[significant(v) for v in row] for row in values.tolist()]
    heat = heat_table(f"Residual stream: {measure}", stage_names, columns, shades, texts, at)
    legend = f'<p class="legend"><span class="ramp"></span> {measure}, 0 to {significant(high)}</p>'
    att, ff = (norms_of(run, name)[:, at].tolist() for name in ("att_out", "ff_out"))
    layers = [f"layer {i}" for i in range(len(att))]
    added = bars(layers, {"attention": att, "feed-forward": ff}, f"length added at position {at}")
    rows = list(zip(layers, att, ff, norms[2::2, at].tolist(), strict=True))
    caption, file = f"Added at position {at}", f"added-position-{at}"
    table = table_html(STREAM_COLUMNS, rows, caption, csv_name=file)
    lines = [[stage, *row] for stage, row in zip(stage_names, values.tolist(), strict=True)]
    link = csv_link(f"stream-{measure.split()[0]}", ["stage", *columns], lines)
    first, last = (significant(norms[i, at].item()) for i in (0, -1))
    more = "attention" if sum(att) > sum(ff) else "feed-forward"
    after, *parts = (
        four(run.layer(0, name)[at, 0].item())
        for name in ("resid_out", "resid_in", "att_out", "ff_out")
    )
    words = say(
        f"At {lab.place(focus)} the stream starts with length {first} and ends with {last}; in "
        f"sum the {more} wrote the longer vectors."
    ) + formula(
        "resid_out = resid_in + att_out + ff_out",
        f"number 0 in layer 0: {after} = {' + '.join(parts)}",
    )
    return words + legend + heat + added + numbers(link, table)


@section(
    "vectors",
    title="One token's vectors",
    intro="One token's own numbers inside one block, as strips; the row before and after a "
    "LayerNorm; and the activation function with this token's values on it.",
    code=(Code(LayerNorm.forward), Code(GELU.forward), Code(FeedForward.forward)),
    needs_model=True,
    controls={
        "layer": layer_box("int-vec-layer"),
        "name": dropdown("int-vec-name", "Vector", VECTORS, min_width=200),
        "norm": dropdown("int-vec-norm", "LayerNorm", NORMS, min_width=200),
    },
    more=(
        (plot("int-vec-norm-plot", "LayerNorm"), plot("int-vec-gelu-plot", "GELU")),
        (html("int-vec-words"),),
    ),
)  # fmt: skip
def vector_views(
    lab: Lab, focus: Focus, layer: int, name: str, norm: str
) -> tuple[str, go.Figure, go.Figure, str]:
    """Strips of one vector, its numbers; the norm's rows; the activation with this run's points."""
    run, at = lab.run(focus), focus.position
    name = name if name in VECTORS else "queries"
    vector = token_vector(run, layer, name, at).cpu().numpy()
    flat = vector.reshape(1, -1)
    hidden = run.layer(layer, "ff.hidden")[at].cpu()
    activation = run.layer(layer, "ff.activation")[at].cpu()
    with lab.registry.borrow(focus.source) as model:
        layer_norm, before, after = read_norm(model, run, layer, NORMS.get(norm, "norm1"), at)
    words = say(
        f"{name} of layer {layer}: {flat.size:,} numbers, mean {significant(float(flat.mean()))}, "
        f"standard deviation {significant(float(flat.std()))}, from "
        f"{significant(float(flat.min()))} to {significant(float(flat.max()))}."
    )
    heads = [f"head {i}" for i in range(len(vector))]
    if len(vector) == 1:
        vector, heads = _folded(vector[0])
    norm_words, norm_table = _norm(layer_norm, before, after)
    largest = largest_numbers(f"{name}-layer-{layer}", [name], flat)
    points = _pairs_link("activation", "neuron", hidden, activation)
    return (
        words + strips(vector, heads, f"{name} of layer {layer}"),
        histogram_pair(before.cpu().numpy(), after.cpu().numpy()),
        activation_curve(hidden, activation),
        norm_words + _gelu_words(hidden, activation) + numbers(largest, norm_table, points),
    )


def _folded(row: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """A long vector cut into rows of at most 128 numbers, the last padded with gaps."""
    width = min(128, len(row))
    rows = np.pad(row, (0, -len(row) % width), constant_values=np.nan).reshape(-1, width)
    return rows, [f"from {i * width}" for i in range(len(rows))]


def _norm(norm: LayerNorm, before: torch.Tensor, after: torch.Tensor) -> tuple[str, str]:
    """The norm's formula with the numbers of dimension 0, and its table."""
    before, after = before.cpu(), after.cpu()
    moments = [(x.mean().item(), x.var(correction=0).item()) for x in (before, after)]
    mean, variance = moments[0]
    words = formula(
        "after = scale · (before − mean) ÷ √(variance + eps) + shift",
        f"number 0: {four(after[0].item())} = {four(norm.scale[0].item())} · "
        f"({four(before[0].item())} − {four(mean)}) ÷ √({four(variance)} + "
        f"{four(norm.eps)}) + {four(norm.shift[0].item())}",
    )
    deviation = (variance + norm.eps) ** 0.5
    rows = [
        ("before", mean, variance),
        ("before scale and shift", (before - mean).mean().item() / deviation,
         variance / deviation**2),
        ("after", *moments[1]),
    ]  # fmt: skip
    link = _pairs_link("layernorm", "dimension", before, after)
    return words, table_html(NORM_COLUMNS, rows, "LayerNorm") + link


def _pairs_link(name: str, index: str, before: torch.Tensor, after: torch.Tensor) -> str:
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    return csv_link(name, [index, "before", "after"], [(i, *pair) for i, pair in enumerate(pairs)])


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
