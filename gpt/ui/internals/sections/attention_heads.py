"""Attention: every head of a layer as a small picture, one head large, stage by stage."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
from PIL import Image

from gpt.internals.heads import HeadStages, attention_rows, head_stages, layer_attention
from gpt.ui.internals.lab import Lab, Visit, at_most
from gpt.ui.internals.section import Section, head_box, html, layer_box, plot
from gpt.ui.parts.chips import KEEP_FOCUS_JS
from gpt.ui.parts.heat import heat_map
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html, text_column

STAGES = ("softmax", "scaled and masked", "scores")
HUE_RGB = np.array([0x3B, 0x7D, 0xD8])
# By the square root of the share, so that weak attention is seen: (share, colour).
ROOT_SCALE = [
    [(i / 10) ** 2, "rgb({:.0f}, {:.0f}, {:.0f})".format(*(255 - i / 10 * (255 - HUE_RGB)))]
    for i in range(11)
]
GRID_JS = """
element.addEventListener('click', (event) => {
  const head = event.target.closest('.head');
  if (head) trigger('select', {head: Number(head.dataset.head)});
});
""" + KEEP_FOCUS_JS.replace("KEY", "data-head")


def head_picture(attention: np.ndarray) -> str:
    """Shares (t, t) as a PNG data URI, a pixel a cell; grey is masked.

    The colour is that of the square root of the share, white 0 and the one hue 1, so that weak
    attention is seen. With the first key taken out the shares are (t, t - 1).
    """
    shade = np.sqrt(np.clip(attention, 0, 1))[..., None]
    pixels = 255 - shade * (255 - HUE_RGB)  # (t, t, 3)
    queries, keys = attention.shape
    pixels[np.triu_indices(queries, 1 - (queries - keys), keys)] = (0xA6, 0xAB, 0xB5)
    out = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def attention_views(
    lab: Lab, visit: Visit, layer: Any, head: Any, stage: str, skip: bool
) -> tuple[str, go.Figure, str]:
    """The layer's heads as pictures, the chosen one as a heat map, its rows in words and numbers.

    `skip` leaves the first token out of all of them.
    """
    cfg = lab.run(visit).cfg
    layer, head = at_most(layer, cfg.n_layers), at_most(head, cfg.n_heads)
    return grid_html(lab, visit, layer, head, skip), *head_views(
        lab, visit, layer, head, stage, skip
    )


def grid_html(lab: Lab, visit: Visit, layer: int, head: int, skip: bool) -> str:
    """All heads of a layer as buttons, the chosen one pressed; HTML."""
    shares = layer_attention(lab.run(visit), layer).cpu().numpy()
    if skip and shares.shape[-1] > 1:
        shares = shares[:, :, 1:]
    boxes = [
        f'<button type="button" class="head" data-head="{i}" title="layer {layer}, head {i}" '
        f'aria-pressed="{str(i == head).lower()}"><img src="{head_picture(attention)}" '
        f'alt="layer {layer}, head {i}"><span>{i}</span></button>'
        for i, attention in enumerate(shares)
    ]
    return (
        f'<div class="heads" role="group" aria-label="heads of layer {layer}">{"".join(boxes)}'
        '</div><p class="legend"><span class="ramp fixed"></span> attention weight, 0 to 1 '
        '(colour: its square root), <span class="swatch"></span> masked: later tokens cannot be '
        "seen.</p>"
    )


def head_views(
    lab: Lab, visit: Visit, layer: int, head: int, stage: str, skip: bool
) -> tuple[go.Figure, str]:
    """The head at one stage as a heat map, and its rows in words and numbers."""
    run = lab.run(visit)
    stages = head_stages(run, layer, head)
    later = np.triu(np.ones((len(run.ids), len(run.ids)), dtype=bool), k=1)
    stage = stage if stage in STAGES else STAGES[0]
    signed = stage != "softmax"
    values = {
        "softmax": stages.attention, "scaled and masked": stages.masked, "scores": stages.scores,
    }[stage].cpu().numpy()  # fmt: skip
    start = 1 if skip and len(run.ids) > 1 else 0
    labels = [f"{at} {lab.short(i, 9)}" for at, i in enumerate(run.ids)]
    figure = heat_map(
        np.where(np.isinf(values), 0, values)[:, start:],
        labels,
        labels[start:],
        ("looking", "looked at"),
        "score" if signed else "share",
        signed=signed,
        masked=None if stage == "scores" else later[:, start:],
    )
    if not signed:
        figure.data[-1].update(colorscale=ROOT_SCALE)
    link = csv_link(
        f"attention-layer-{layer}-head-{head}-{stage.replace(' ', '-')}",
        ["looking", *labels],
        [[label, *_cells(row)] for label, row in zip(labels, values, strict=True)],
    )
    words = _sentence(lab, visit, stages, layer, head, skip)
    return figure, words + link + _table(lab, visit, stages, f"layer {layer}, head {head}", skip)


def _cells(row: np.ndarray) -> list[str | float]:
    return ["masked" if math.isinf(x) else float(x) for x in row]


def _sentence(lab: Lab, visit: Visit, stages: HeadStages, layer: int, head: int, skip: bool) -> str:
    at = visit.position
    row = attention_rows(stages.attention, skip)[at]
    most = row.most_attended
    aside = " (the first token aside)" if skip and at > 0 else ""
    score, share = stages.scores[at, most].item(), stages.attention[at, most].item()
    return say(
        f"In layer {layer}, head {head}, {lab.place(visit)} looks most at position {most} "
        f"({lab.piece(visit.ids[most])}) with {percent(share)}{aside}; "
        f"{percent(row.first_share)} rests on the first token. Entropy "
        f"{significant(row.entropy)} nats of at most {significant(math.log(at + 1))}."
    ) + formula(
        "share = softmax over the visible tokens of (q·k ÷ √head_dim)",
        f"{percent(share)} from q·k = {significant(score, 4)}; {significant(score, 4)} ÷ "
        f"√{stages.head_dim} = {significant(score / stages.head_dim**0.5, 4)}",
    )


def _table(lab: Lab, visit: Visit, stages: HeadStages, of: str, skip: bool) -> str:
    sums = stages.attention.double().sum(-1).tolist()
    names = [f"{at} {lab.piece(i)}" for at, i in enumerate(visit.ids)]
    columns = (
        text_column("position"),
        text_column("looks most at" + (" (the first token aside)" if skip else "")),
        Column("share", percent), Column("on the first token", percent), Column("entropy (nats)"),
        Column("sum of the row", "{:.6f}".format),
    )  # fmt: skip
    rows = [
        (
            names[row.position],
            names[row.most_attended],
            row.share,
            row.first_share,
            row.entropy,
            sum_,
        )
        for row, sum_ in zip(attention_rows(stages.attention, skip), sums, strict=True)
    ]
    return table_html(
        columns,
        rows,
        f"Rows of {of}",
        csv_name="attention-rows-" + of.replace(", ", "-").replace(" ", "-"),
        kinds={visit.position: "marked"},
    )


SECTION = Section(
    key="attention",
    title="Attention: who looks at whom",
    intro="Each head lets every token look back at the tokens before it. A row is the token that "
    "looks, a column the one looked at. Click a head to see it large. "
    "Attention shows where values were read from; it is not an explanation of the prediction: "
    "what was read may be small, cancelled later, or ignored.",
    view=attention_views,
    controls={
        "layer": layer_box("int-att-layer"),
        "head": head_box("int-att-head"),
        "stage": lambda: gr.Radio(
            list(STAGES), value=STAGES[0], label="Stage", elem_id="int-att-stage",
            info="From scores over scaling and mask to shares.", min_width=300, scale=3,
        ),
        "skip": lambda: gr.Checkbox(
            False, label="Hide the first token", elem_id="int-att-skip", min_width=200, scale=2,
            info="Heads with nothing to look for often rest on it (an “attention sink”).",
        ),
    },
    outputs=(
        html("int-att-grid", js=GRID_JS),
        plot("int-att-plot", "Selected head", wide=True),
        html("int-att-words"),
    ),
    clicks="head",
    opened=True,
)  # fmt: skip
