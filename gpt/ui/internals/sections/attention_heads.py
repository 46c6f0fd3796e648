"""Attention: all heads as small pictures, what they do, and one head as arcs between words."""

import math
from functools import partial

import gradio as gr
import numpy as np
import torch

from gpt.attention import MultiHeadAttention
from gpt.internals.heads import (
    KINDS,
    AttentionRow,
    attention_rows,
    best_heads,
    even_share,
    head_scores,
)
from gpt.serving.all_cores import give_way
from gpt.ui.internals.arcs import arcs_html
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, numbers, radio, section
from gpt.ui.parts.chips import CHOOSE_JS
from gpt.ui.parts.heat import heat_table, picture
from gpt.ui.parts.numbers import four, percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html

# What a visitor chooses, and its name in the trace.
STAGES = {"softmax": "attention", "scaled and masked": "masked_scores", "scores": "scores"}
THUMB = 32  # px of a small picture's side at most; where tokens share one, their largest share
MAP_TOKENS = 32  # more than this are in the CSV and not in a table of cells
NAMED = 3  # heads of each kind that are named


@section(
    "attention",
    title="Attention: who looks at whom",
    intro="Each head lets every token look back at the tokens before it. Choose a head; hover, "
    "click or focus a word to see what it looks at. Attention shows where values were read from; "
    "it does not explain the prediction: what was read may be small, or ignored.",
    code=(Code(MultiHeadAttention._attend_step_by_step),),
    picks={"layer": 0, "head": 0},
    controls={
        "stage": radio(
            "int-att-stage", "Numbers of", STAGES, min_width=220,
            info="From scores over scaling and mask to shares.",
        ),
        "skip": lambda: gr.Checkbox(
            False, label="Hide the first token", elem_id="int-att-skip", min_width=220,
            info="Heads with nothing to look for often rest on it (an “attention sink”).",
        ),
    },
    output="int-att",
    js=CHOOSE_JS.replace("KEY", "data-at") + "gptPage.arcs(element, watch);",
    opened=True,
)  # fmt: skip
def attention_views(lab: Lab, focus: Focus, layer: int, head: int, stage: str, skip: bool) -> str:
    """All heads as pictures with what they do, and the chosen one as arcs, words and numbers.

    `skip` leaves the first token out of pictures and arcs.
    """
    skip = bool(skip)
    return (
        f'<div class="pair"><div id="int-att-grid">{grid_html(lab, focus, layer, head, skip)}'
        f'{kinds_html(lab, focus)}</div><div id="int-att-words">'
        f"{head_html(lab, focus, layer, head, stage, skip)}</div></div>"
    )


def grid_html(lab: Lab, focus: Focus, layer: int, head: int, skip: bool) -> str:
    """All heads as buttons, a row a layer, the chosen one pressed; HTML."""
    run = lab.run(focus)
    cfg, first = run.cfg, int(skip and len(run.ids) > 1)
    fewer = -(-len(run.ids) // THUMB)
    rows = []
    for i in range(cfg.n_layers):
        shares = run.layer(i, "att.attention")[:, :, first:]
        thumbs = torch.nn.functional.max_pool2d(shares, fewer, ceil_mode=True)
        sheet = picture(torch.cat([*thumbs], dim=1).cpu().numpy())
        boxes = "".join(
            f'<button type="button" class="head" data-layer="{i}" data-head="{j}" data-at="{i}.{j}"'
            f' aria-label="layer {i}, head {j}" title="layer {i}, head {j}" style="--x:{j}" '
            f'aria-pressed="{str((i, j) == (layer, head)).lower()}"></button>'
            for j in range(cfg.n_heads)
        )
        rows.append(f"<span>{i}</span><div style=\"--sheet:url('{sheet}')\">{boxes}</div>")
    return (
        f'<div class="heads" style="--heads:{cfg.n_heads}" role="group" '
        f'aria-label="heads by layer">{"".join(rows)}</div><p class="legend">A row a layer, a '
        'picture a head: rows look, columns are looked at. <span class="ramp root"></span> share '
        "0 to 1, by its square root.</p>"
    )


def kinds_html(lab: Lab, focus: Focus) -> str:
    """The heads that do each of the four things most, as buttons; HTML."""
    read = partial(lab.by_model, focus, partial(head_scores, between=give_way))
    scores = lab.memos.made((focus.source, "what heads do"), read)
    even = even_share(lab.registry.config_of(focus.source).context_length)
    rows = []
    for kind, meaning in KINDS.items():
        buttons = "".join(
            f'<button type="button" data-layer="{i}" data-head="{j}" data-at="{kind} {at}">{i}.{j} '
            f"<b>{percent(score)}</b></button>"
            for at, (i, j, score) in enumerate(best_heads(scores[kind], NAMED))
        )
        rows.append(f'<div title="{meaning}"><span>{kind}</span>{buttons}</div>')
    return (
        f'<div id="int-heads" role="group" aria-label="what heads do">{"".join(rows)}</div>'
        '<p class="legend">Layer.head, and the share of its attention that goes there, on random '
        "tokens that come twice. Induction: to what followed this token the first time. An even "
        f"look at everything: {percent(even)}.</p>"
    )


def head_html(lab: Lab, focus: Focus, layer: int, head: int, stage: str, skip: bool) -> str:
    """One head: arcs over the words, its sentence, and the matrix of a stage folded; HTML."""
    run, at, of = lab.run(focus), focus.position, f"layer {layer}, head {head}"
    stages = {name: run.layer(layer, f"att.{name}")[head] for name in STAGES.values()}  # (t, t)
    rows = attention_rows(stages["attention"], skip)
    score = stages["scores"][at, rows[at].most_attended].item()
    values = stages[STAGES[stage]].cpu().numpy()
    labels = [f"{at} {lab.short(i, 9)}" for at, i in enumerate(run.ids)]
    masked = [["masked" if math.isinf(x) else x for x in row] for row in values.tolist()]
    lines = [[label, *row] for label, row in zip(labels, masked, strict=True)]
    file = f"attention-layer-{layer}-head-{head}-{stage.replace(' ', '-')}"
    link = csv_link(file, ["looking", *labels], lines)
    words = [lab.short(i, 14) for i in run.ids]
    matrix = _matrix(values, labels, of, stage) if len(labels) <= MAP_TOKENS else ""
    arcs = arcs_html(words, stages["attention"], at, int(skip), of)
    tables = numbers(matrix, link, _table(lab, focus, stages["attention"], rows, of, skip))
    return arcs + _sentence(lab, focus, score, rows[at], of, skip) + tables


def _matrix(values: np.ndarray, labels: list[str], of: str, stage: str) -> str:
    """Shaded by the square root of a share, or by a score's size and sign."""
    seen = np.where(np.isinf(values), 0, values)
    shades = np.sqrt(seen) if stage == "softmax" else seen / (np.abs(seen).max() or 1)
    texts = [["" if math.isinf(x) else significant(x, 2) for x in row] for row in values.tolist()]
    return heat_table(f"{stage} of {of}", labels, labels, shades.tolist(), texts)


def _sentence(lab: Lab, focus: Focus, score: float, row: AttentionRow, of: str, skip: bool) -> str:
    head_dim = lab.run(focus).cfg.head_dim
    aside = " (the first token aside)" if skip and focus.position > 0 else ""
    return say(
        f"In {of}, {lab.place(focus)} looks most at position {row.most_attended} "
        f"({lab.quoted(focus.ids[row.most_attended])}) with {percent(row.share)}{aside}; "
        f"{percent(row.first_share)} rests on the first token. Entropy "
        f"{significant(row.entropy)} nats of at most {significant(math.log(row.position + 1))}."
    ) + formula(
        "share = softmax over the visible tokens of (q·k ÷ √head_dim)",
        f"{percent(row.share)} from q·k = {four(score)}; {four(score)} ÷ √{head_dim} = "
        f"{four(score / head_dim**0.5)}",
    )


def _table(
    lab: Lab, focus: Focus, attention: torch.Tensor, rows: list[AttentionRow], of: str, skip: bool
) -> str:
    sums = attention.double().sum(-1).tolist()
    names = lab.places(focus.ids)
    columns = (
        "position", "looks most at" + " (the first token aside)" * skip, Column("share", percent),
        Column("on the first token", percent), Column("entropy (nats)"),
        Column("sum of the row", "{:.6f}".format),
    )  # fmt: skip
    cells = [
        (names[r.position], names[r.most_attended], r.share, r.first_share, r.entropy, total)
        for r, total in zip(rows, sums, strict=True)
    ]
    file = f"attention-rows-{of.replace(',', '').replace(' ', '-')}"
    marked = {focus.position: "marked"}
    return table_html(columns, cells, f"Rows of {of}", csv_name=file, kinds=marked)
