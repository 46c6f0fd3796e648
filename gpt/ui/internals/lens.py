"""The logit lens: what each layer would say, a cell a layer and position."""

from __future__ import annotations

import math
from collections.abc import Callable

import gradio as gr
import torch

from gpt.internals.lens import Lens, read_lens
from gpt.serving.all_cores import on_all_cores
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section
from gpt.ui.internals.tables import csv_link, formula, say, table_html
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "Read every layer as if it were the last: its residual stream goes through the model's own "
    "final norm and output head. The cell holds the token that this layer would predict. Follow a "
    "column downwards to see where a guess appears, and where it settles."
)
BEST, RANK, CHANCE, ENTROPY, DIVERGENCE = MEASURES = (
    "probability of the best token",
    "rank of the chosen token",
    "probability of the chosen token",
    "entropy",
    "KL to the final distribution",
)


def lens_html(lab: Lab, state: State, measure: str, query: str) -> str:
    """The heat table, its sentence, and the chosen position's column as a table; HTML."""
    run = lab.run(state)
    best = int(run.logits[state["position"]].argmax())
    token_id = lab.token_id(state, query or "", best)
    asked = token_id if measure in (RANK, CHANCE) else None
    lens = lab.memo(state, "lens", lambda: _read(lab, state, asked), asked)
    shades, legend, show = _measure(lens, measure, run.cfg.vocab_size)
    pieces = [[lab.piece(i) for i in row] for row in lens.best_ids.tolist()]
    columns = [f"{at} {lab.piece(i)}" for at, i in enumerate(run.ids)]
    values = _values(lens, measure).tolist()
    titles = [
        [
            f"{stage}, {column}: {pieces[row][at]}, {show(values[row][at])}"
            for at, column in enumerate(columns)
        ]
        for row, stage in enumerate(lens.stages)
    ]
    chosen = f" ({lab.piece(token_id)}, id {token_id:,})" if asked is not None else ""
    heat = heat_table(
        f"Best token after each stage; colour: {measure}{chosen}",
        lens.stages, columns, shades.tolist(), pieces, titles, state["position"],
    )  # fmt: skip
    return (
        say(_sentence(lab, lens, state["position"]))
        + formula(
            "stage logits = output head (final norm (residual stream))",
            f"(d = {run.cfg.emb_dim:,}) → {run.cfg.vocab_size:,} logits, "
            f"at {len(lens.stages)} stages and {len(run.ids)} positions",
        )
        + f'<p class="legend">{legend}</p>'
        + heat
        + _csv(lab, lens, state["ids"], asked)
        + _column(lab, lens, state)
    )


def _read(lab: Lab, state: State, token_id: int | None) -> Lens:
    with lab.borrow(state) as model:
        return on_all_cores(read_lens, model, lab.run(state), token_id)


def _values(lens: Lens, measure: str) -> torch.Tensor:
    found = {
        RANK: lens.token_rank,
        CHANCE: lens.token_probability,
        ENTROPY: lens.entropy,
        DIVERGENCE: lens.divergence,
    }.get(measure)
    return lens.best_probability if found is None else found


def _measure(
    lens: Lens, measure: str, vocab: int
) -> tuple[torch.Tensor, str, Callable[[float], str]]:
    """Shades from 0 to 1, what they mean, and how one value is written."""
    values = _values(lens, measure).double()
    ramp = '<span class="ramp fixed"></span> '
    if measure == RANK:
        shades = 1 - values.log() / max(math.log(vocab), 1e-9)
        return shades, ramp + f"white rank {vocab:,}, full colour rank 1 (log)", _rank
    if measure == ENTROPY:
        most = math.log(vocab)
        return values / most, ramp + f"0 to {significant(most)} nats (evenly spread)", _nats
    if measure == DIVERGENCE:
        most = max(values.max().item(), 1e-9)
        return values / most, ramp + f"0 to {significant(most)} nats", _nats
    most = values.max().item()
    if most >= 0.01:
        return values, ramp + "probability 0 to 1", percent
    return (
        values / most,
        ramp + f"0 to {percent(most)}: no token reaches 1 %, so the colours are stretched",
        percent,
    )


def _rank(value: float) -> str:
    return f"rank {int(value):,}"


def _nats(value: float) -> str:
    return f"{significant(value)} nats"


def _sentence(lab: Lab, lens: Lens, position: int) -> str:
    column = lens.best_ids[:, position].tolist()
    final = column[-1]
    settled = len(column) - 1
    while settled > 0 and column[settled - 1] == final:
        settled -= 1
    return (
        f"At position {position} the final guess {lab.piece(final)} is the best one from "
        f"{lens.stages[settled]} on; after the embedding alone it would be {lab.piece(column[0])}. "
        "The last row is the model's own output."
    )


def _column(lab: Lab, lens: Lens, state: State) -> str:
    at = state["position"]
    rows = []
    for i, stage in enumerate(lens.stages):
        row = [
            stage,
            lab.piece(int(lens.best_ids[i, at])),
            percent(lens.best_probability[i, at].item()),
            significant(lens.entropy[i, at].item()),
            significant(lens.divergence[i, at].item()),
        ]
        if lens.token_rank is not None and lens.token_probability is not None:
            row.append(f"{int(lens.token_rank[i, at]):,}")
            row.append(percent(lens.token_probability[i, at].item()))
        rows.append(row)
    headers = ["stage", "best token", "probability", "entropy (nats)", "KL to final (nats)"]
    if lens.token_rank is not None:
        headers += ["rank of the chosen", "its probability"]
    caption = f"The column of position {at} ({lab.piece(state['ids'][at])})"
    return table_html(caption, headers, rows, text_columns=(0, 1))


def _csv(lab: Lab, lens: Lens, ids: list[int], chosen: int | None) -> str:
    rows: list[list[str | float]] = [
        [
            stage,
            at,
            lab.piece(token),
            int(lens.best_ids[i, at]),
            lens.best_probability[i, at].item(),
            lens.entropy[i, at].item(),
            lens.divergence[i, at].item(),
        ]
        for i, stage in enumerate(lens.stages)
        for at, token in enumerate(ids)
    ]
    headers = ["stage", "position", "token", "best id", "probability", "entropy", "KL to final"]
    if chosen is not None and lens.token_rank is not None and lens.token_probability is not None:
        headers += ["chosen id", "rank of the chosen", "its probability"]
        ranks, chances = lens.token_rank.flatten(), lens.token_probability.flatten()
        for row, rank, chance in zip(rows, ranks.tolist(), chances.tolist(), strict=True):
            row += [chosen, int(rank), chance]
    return csv_link("logit-lens", headers, rows)


def build(page: Page) -> None:
    """The section: a measure, a token if the measure needs one, the heat table."""
    with Section(page, "Logit lens: what each layer would say", "int-section-lens") as part:
        gr.Markdown(INTRO)
        with gr.Row():
            measure = gr.Dropdown(
                list(MEASURES), value=BEST, label="Colour", elem_id="int-lens-measure",
                info="What the colour of a cell stands for.", min_width=240,
            )  # fmt: skip
            query = gr.Textbox(
                label="Chosen token", elem_id="int-lens-token", min_width=240,
                info="For its rank or probability: text or id; empty is the final best one.",
            )  # fmt: skip
        view = gr.HTML(EMPTY, elem_id="int-lens")
    part.wire(
        lambda state, *v: lens_html(page.lab, state, *v), [measure, query], [view], with_model=True
    )
