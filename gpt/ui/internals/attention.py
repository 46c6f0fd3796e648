"""Attention: every head of a layer as a small picture, one head large, stage by stage."""

from __future__ import annotations

import base64
import io
import math

import gradio as gr
import numpy as np
import plotly.graph_objects as go
from PIL import Image

from gpt.internals.heads import attention_rows, head_stages, layer_attention
from gpt.ui.internals.figures import heat
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, KEEP_FOCUS_JS, Page, Section, at_most
from gpt.ui.internals.tables import csv_link, formula, say, table_html
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "Each head lets every token look back at the tokens before it. A row is the token that looks, "
    "a column the one looked at. Hover or focus a head to preview it, click it to hold it. "
    "Attention shows where values were read from; it is not an explanation of the prediction: "
    "what was read may be small, cancelled later, or ignored."
)
STAGES = ("softmax", "scaled and masked", "scores")
HUE_RGB = np.array([0x3B, 0x7D, 0xD8])
# Pointing at a head shows it large beside the grid; leaving goes back to the one that is held.
GRID_JS = """
const show = (head) => {
  const view = element.querySelector('.preview');
  if (!view || !head) return;
  view.querySelector('img').src = head.querySelector('img').src;
  view.querySelector('figcaption').textContent = head.title;
};
const held = () => element.querySelector('.head[aria-pressed="true"]');
for (const name of ['mouseover', 'focusin'])
  element.addEventListener(name, (event) => show(event.target.closest('.head')));
for (const name of ['mouseleave', 'focusout'])
  element.addEventListener(name, () => show(held()));
element.addEventListener('click', (event) => {
  const head = event.target.closest('.head');
  if (head) trigger('select', {head: Number(head.dataset.head)});
});
""" + KEEP_FOCUS_JS.replace("KEY", "data-head")


def head_picture(attention: np.ndarray) -> str:
    """Shares (t, t) as a PNG data URI, a pixel a cell: white 0, one hue 1, grey masked.

    With the first key taken out they are (t, t - 1).
    """
    share = np.clip(attention, 0, 1)[..., None]
    pixels = 255 - share * (255 - HUE_RGB)  # (t, t, 3)
    queries, keys = attention.shape
    pixels[np.triu_indices(queries, 1 - (queries - keys), keys)] = (0xA6, 0xAB, 0xB5)
    out = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def grid_html(lab: Lab, state: State, layer: int, head: int, skip_first: bool) -> str:
    """All heads of a layer as buttons, the held one pressed, and the preview; HTML."""
    run = lab.run(state)
    layer, head = at_most(layer, run.cfg.n_layers), at_most(head, run.cfg.n_heads)
    shares = layer_attention(run, layer).cpu().numpy()
    if skip_first and shares.shape[-1] > 1:
        shares = shares[:, :, 1:]
    boxes, held = [], ""
    for i, attention in enumerate(shares):
        picture = head_picture(attention)
        title = f"layer {layer}, head {i}"
        if i == head:
            held = picture
        boxes.append(
            f'<button type="button" class="head" data-head="{i}" title="{title}" '
            f'aria-pressed="{str(i == head).lower()}"><img src="{picture}" alt="{title}">'
            f"<span>{i}</span></button>"
        )
    return (
        f'<div class="heads"><div class="grid" role="group" aria-label="heads of layer {layer}">'
        f'{"".join(boxes)}</div><figure class="preview"><img src="{held}" alt="preview">'
        f"<figcaption>layer {layer}, head {head}</figcaption></figure></div>"
        '<p class="legend"><span class="ramp fixed"></span> share of attention from 0 to 1, '
        '<span class="swatch"></span> masked: later tokens cannot be seen.</p>'
    )


def head_views(
    lab: Lab, state: State, layer: int, head: int, stage: str, skip_first: bool
) -> tuple[go.Figure, str]:
    """The head at one stage as a heat map, and its rows in words and numbers."""
    run = lab.run(state)
    layer, head = at_most(layer, run.cfg.n_layers), at_most(head, run.cfg.n_heads)
    stages = head_stages(run, layer, head)
    hidden = np.triu(np.ones((len(run.ids), len(run.ids)), dtype=bool), k=1)
    values = {
        "softmax": stages.attention,
        "scaled and masked": stages.masked,
        "scores": stages.scores,
    }[stage if stage in STAGES else STAGES[0]].cpu().numpy()  # fmt: skip
    signed = stage != "softmax"
    start = 1 if skip_first and len(run.ids) > 1 else 0
    labels = [f"{at} {_short(lab.piece(i))}" for at, i in enumerate(run.ids)]
    figure = heat(
        np.where(np.isinf(values), 0, values)[:, start:],
        labels,
        labels[start:],
        ("looking", "looked at"),
        "share" if not signed else "score",
        signed=signed,
        masked=None if stage == "scores" else hidden[:, start:],
        top=None if signed or start else 1.0,
    )
    words = _sentence(lab, state, layer, head, skip_first)
    link = csv_link(
        f"attention-layer-{layer}-head-{head}-{(stage or STAGES[0]).replace(' ', '-')}",
        ["looking", *labels],
        [[label, *_cells(row)] for label, row in zip(labels, values, strict=True)],
    )
    return figure, words + link + _table(lab, state, layer, head, skip_first)


def _cells(row: np.ndarray) -> list[str | float]:
    return ["masked" if math.isinf(x) else float(x) for x in row]


def _sentence(lab: Lab, state: State, layer: int, head: int, skip_first: bool) -> str:
    run, at = lab.run(state), state["position"]
    stages = head_stages(run, layer, head)
    row = attention_rows(stages.attention, skip_first)[at]
    most = row.most_attended
    aside = " (the first token aside)" if skip_first and at > 0 else ""
    score, share = stages.scores[at, most].item(), stages.attention[at, most].item()
    return say(
        f"In layer {layer}, head {head}, position {at} ({lab.piece(run.ids[at])}) looks most at "
        f"position {most} ({lab.piece(run.ids[most])}) with {percent(share)}{aside}; "
        f"{percent(row.first_share)} rests on the first token. Entropy "
        f"{significant(row.entropy)} nats of at most {significant(math.log(at + 1))}."
    ) + formula(
        "share = softmax over the visible tokens of (q·k ÷ √head_dim)",
        f"{percent(share)} from q·k = {significant(score, 4)}; {significant(score, 4)} ÷ "
        f"√{stages.head_dim} = {significant(score / stages.head_dim**0.5, 4)}",
    )


def _table(lab: Lab, state: State, layer: int, head: int, skip_first: bool) -> str:
    run = lab.run(state)
    attention = head_stages(run, layer, head).attention
    rows = attention_rows(attention, skip_first)
    sums = attention.double().sum(-1).tolist()
    names = lab.pieces(run.ids)
    cells = [
        [
            f"{row.position} {names[row.position]}",
            f"{row.most_attended} {names[row.most_attended]}",
            percent(row.share),
            percent(row.first_share),
            significant(row.entropy),
            f"{total:.6f}",
        ]
        for row, total in zip(rows, sums, strict=True)
    ]
    exact = [
        [row.position, row.most_attended, row.share, row.first_share, row.entropy, total]
        for row, total in zip(rows, sums, strict=True)
    ]
    most = "looks most at" + (" (the first token aside)" if skip_first else "")
    return table_html(
        f"Rows of layer {layer}, head {head}",
        ["position", most, "share", "on the first token", "entropy (nats)", "sum of the row"],
        cells,
        csv_name=f"attention-rows-layer-{layer}-head-{head}",
        csv_rows=exact,
        text_columns=(0, 1),
        marked=[state["position"]],
    )


def build(page: Page) -> None:
    """The section: a layer's heads, and the held head at one of its stages."""
    with Section(page, "Attention: who looks at whom", "int-section-attention", True) as part:
        gr.Markdown(INTRO)
        with gr.Row():
            layer = gr.Number(0, label="Layer", precision=0, minimum=0, elem_id="int-att-layer",
                              info="0 is the first.", min_width=140)  # fmt: skip
            head = gr.Number(0, label="Head", precision=0, minimum=0, elem_id="int-att-head",
                             info="Or click one below.", min_width=140)  # fmt: skip
            stage = gr.Radio(
                list(STAGES), value=STAGES[0], label="Stage", elem_id="int-att-stage",
                info="From scores over scaling and mask to shares.", min_width=300,
            )  # fmt: skip
            skip = gr.Checkbox(
                False, label="Take out the first token", elem_id="int-att-skip", min_width=200,
                info="It often collects what has nowhere to go.",
            )  # fmt: skip
        grid = gr.HTML(EMPTY, elem_id="int-att-grid", js_on_load=GRID_JS)
        plot = gr.Plot(label="The held head", elem_id="int-att-plot", elem_classes="wide-plot")
        words = gr.HTML(elem_id="int-att-words")
    lab = page.lab
    part.wire(lambda state, *v: grid_html(lab, state, *v), [layer, head, skip], [grid])
    part.wire(
        lambda state, *v: head_views(lab, state, *v), [layer, head, stage, skip], [plot, words]
    )
    page.limit(layer, "n_layers")
    page.limit(head, "n_heads")
    grid.select(_clicked_head, None, head, api_visibility="private", queue=False)


def _clicked_head(event: gr.EventData) -> int:
    return int(event.head)


def _short(text: str) -> str:
    return text if len(text) <= 9 else text[:8] + "…"
