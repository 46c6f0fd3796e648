"""The logit lens: what each layer would say, a cell a layer and position."""

from __future__ import annotations

import math
from collections.abc import Callable

import gradio as gr
import torch

from gpt.internals.lens import Lens, lens_in_steps, readings, stage_logits
from gpt.serving.all_cores import each_on_all_cores
from gpt.ui.internals.folds import Code, numbers
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Section, token_box
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html, text_column

BEST, RANK, CHANCE, ENTROPY, DIVERGENCE = MEASURES = (
    "probability of the best token",
    "rank of the chosen token",
    "probability of the chosen token",
    "entropy",
    "KL to the final distribution",
)


def lens_html(lab: Lab, visit: Visit, measure: str, query: str) -> str:
    """The heat table, its sentence, and the chosen position's column as a table; HTML."""
    run = lab.run(visit)
    token_id = lab.token_id(visit, query, int(lab.logits(visit).argmax()))
    asked = token_id if measure in (RANK, CHANCE) else None
    lens = lab.memo(visit, "lens", lambda: _read(lab, visit, asked), asked)
    shades, legend, show = _measure(lens, measure, run.cfg.vocab_size)
    pieces = [lab.pieces(row) for row in lens.best_ids.tolist()]
    columns = [f"{at} {lab.piece(i)}" for at, i in enumerate(run.ids)]
    values = _values(lens, measure).tolist()
    titles = [
        [f"{stage}, {column}: {pieces[row][at]}, {show(values[row][at])}"
         for at, column in enumerate(columns)]
        for row, stage in enumerate(lens.stages)
    ]  # fmt: skip
    chosen = f" ({lab.piece(token_id)}, id {token_id:,})" if asked is not None else ""
    heat = heat_table(
        f"Best token after each stage; colour: {measure}{chosen}",
        lens.stages, columns, shades.tolist(), pieces, titles, visit.position,
    )  # fmt: skip
    words = say(_sentence(lab, lens, visit.position)) + formula(
        "stage logits = output head (final norm (residual stream))",
        f"(d = {run.cfg.emb_dim:,}) → {run.cfg.vocab_size:,} logits, "
        f"at {len(lens.stages)} stages and {len(run.ids)} positions",
    )
    legend = f'<p class="legend"><span class="ramp"></span> {legend}</p>'
    return words + legend + heat + numbers(_table(lab, lens, visit, asked))


def _read(lab: Lab, visit: Visit, token_id: int | None) -> Lens:
    with lab.borrow(visit) as model:  # others compute between two steps
        *_, lens = each_on_all_cores(lens_in_steps(model, lab.run(visit), token_id))
    return lens


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
    if measure == RANK:
        shades = 1 - values.log() / max(math.log(vocab), 1e-9)
        return shades, f"no colour: rank {vocab:,}, full colour: rank 1 (log)", _rank
    if measure == ENTROPY:
        most = max(math.log(vocab), 1e-9)
        return values / most, f"0 to {significant(most)} nats (evenly spread)", _nats
    if measure == DIVERGENCE:
        most = max(values.max().item(), 1e-9)
        return values / most, f"0 to {significant(most)} nats", _nats
    most = values.max().item()
    if most >= 0.01:
        return values, "probability 0 to 1", percent
    return (
        values / most,
        f"0 to {percent(most)}: no token reaches 1 %, so the colours are stretched",
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


def _table(lab: Lab, lens: Lens, visit: Visit, chosen: int | None) -> str:
    """Every stage at the chosen position as a table, and at every position as CSV."""
    columns = [
        text_column("stage"), Column("position"), text_column("token"), text_column("best token"),
        Column("best id"), Column("probability", percent), Column("entropy (nats)"),
        Column("KL to final (nats)"),
    ]  # fmt: skip
    found = [lens.best_ids, lens.best_probability, lens.entropy, lens.divergence]
    if lens.token_rank is not None and lens.token_probability is not None:
        columns += [Column("rank of the chosen"), Column("its probability", percent)]
        found += [lens.token_rank, lens.token_probability]
    rows = [
        (stage, at, lab.piece(token), lab.piece(int(lens.best_ids[i, at])),
         *[values[i, at].item() for values in found])
        for i, stage in enumerate(lens.stages)
        for at, token in enumerate(visit.ids)
    ]  # fmt: skip
    here = [row for row in rows if row[1] == visit.position]
    caption = f"The column of {lab.place(visit)}"
    if chosen is not None:
        caption += f"; chosen: {lab.piece(chosen)} (id {chosen:,})"
    names = [column.name for column in columns]
    return csv_link("logit-lens", names, rows) + table_html(columns, here, caption)


SECTION = Section(
    key="lens",
    rail="Lens",
    title="Logit lens: what each layer would say",
    intro="Read every layer as if it were the last: its residual stream goes through the model's "
    "own final norm and output head. The cell holds the token that this layer would predict. "
    "Follow a column downwards to see where a guess appears, and where it settles.",
    view=lens_html,
    code=(Code(stage_logits), Code(readings, "log_p = ", "}")),
    needs_model=True,
    controls={
        "measure": lambda: gr.Dropdown(
            list(MEASURES), value=BEST, label="Colour", elem_id="int-lens-measure",
            info="What the colour of a cell stands for.", min_width=240,
        ),
        "query": token_box("int-lens-token", "Chosen token"),
    },
    output="int-lens",
)  # fmt: skip
