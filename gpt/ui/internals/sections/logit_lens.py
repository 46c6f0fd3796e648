"""The logit lens: what each layer would say, a cell a layer and position."""

import math

import torch

from gpt.internals.residual import lens_in_steps, readings, stage_logits, stages
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, dropdown, numbers, section, token_box
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import formula, quoted, say
from gpt.ui.parts.table import Column, table_html


def in_nats(value: float) -> str:
    return f"{significant(value)} nats"


BEST = "probability of the best token"
# What the colour can be: one of the `readings`, and how one of its numbers is written.
MEASURES = {
    BEST: ("best_probability", percent),
    "rank of the chosen token": ("token_rank", "rank {:,.0f}".format),
    "probability of the chosen token": ("token_probability", percent),
    "entropy": ("entropy", in_nats),
    "KL to the final distribution": ("divergence", in_nats),
}


@section(
    "lens",
    title="Logit lens: what each layer would say",
    intro="Read every layer as if it were the last: its residual stream goes through the model's "
    "own final norm and output head. The cell holds the token that this layer would predict. "
    "Follow a column downwards to see where a guess appears, and where it settles.",
    code=(Code(stage_logits), Code(readings, "log_p = ", "}")),
    needs_model=True,
    controls={
        "measure": dropdown(
            "int-lens-measure", "Colour", MEASURES, min_width=240,
            info="What the colour of a cell stands for.",
        ),
        "query": token_box("int-lens-token", "Chosen token"),
    },
)  # fmt: skip
def lens_html(lab: Lab, focus: Focus, measure: str, query: str) -> str:
    """The heat table, its sentence, and the chosen position's column as a table; HTML."""
    run, at = lab.run(focus), focus.position
    field, show = MEASURES.get(measure, MEASURES[BEST])
    token_id = lab.token_id(focus, query)
    asked = token_id if field.startswith("token") else None
    steps = lab.each_by_model(focus, lens_in_steps, run, asked)
    lens = lab.memo(focus, "lens", lambda: [*steps][-1], asked)
    names = list(stages(run.cfg.n_layers))
    values = lens[field].double()
    shades, legend = _shades(values, field, run.cfg.vocab_size)
    pieces = [[lab.piece(i) for i in row] for row in lens["best_ids"].tolist()]
    told = [[show(value) for value in row] for row in values.tolist()]
    chosen = f"{lab.quoted(token_id)}, id {token_id:,}" if asked is not None else ""
    heat = heat_table(
        f"Best token after each stage; colour: {measure}{chosen and f' ({chosen})'}",
        names, lab.places(run.ids), shades.tolist(), pieces, at, told,
    )  # fmt: skip
    final = lens["best_ids"][-1, at].item()
    others = [i for i, best in enumerate(lens["best_ids"][:, at].tolist()) if best != final]
    settled = max(others, default=-1) + 1
    words = say(
        f"At position {at} the final guess {lab.quoted(final)} is the best one from "
        f"{names[settled]} on; after the embedding alone it would be {quoted(pieces[0][at])}. "
        "The last row is the model's own output."
    ) + formula(
        "stage logits = output head (final norm (residual stream))",
        f"(d = {run.cfg.emb_dim:,}) → {run.cfg.vocab_size:,} logits, "
        f"at {len(names)} stages and {len(run.ids)} positions",
    )
    legend = f'<p class="legend"><span class="ramp"></span> {legend}</p>'
    return words + legend + heat + numbers(_table(lab, lens, names, focus, chosen))


def _shades(values: torch.Tensor, field: str, vocab: int) -> tuple[torch.Tensor, str]:
    """The values of a field from 0 to 1, and what the colours mean."""
    nats, most = max(math.log(vocab), 1e-9), max(values.max().item(), 1e-9)
    if field == "token_rank":
        return 1 - values.log() / nats, f"no colour: rank {vocab:,}, full colour: rank 1 (log)"
    if field == "entropy":
        return values / nats, f"0 to {significant(nats)} nats (evenly spread)"
    if field == "divergence":
        return values / most, f"0 to {significant(most)} nats"
    if most >= 0.01:
        return values, "probability 0 to 1"
    told = f"0 to {percent(most)}: no token reaches 1 %, so the colours are stretched"
    return values / most, told


def _table(
    lab: Lab, lens: dict[str, torch.Tensor], names: list[str], focus: Focus, chosen: str
) -> str:
    """Every stage at the chosen position as a table, and at every position as CSV."""
    columns = [
        "stage", Column("position"), "token", "best token",
        Column("best id"), Column("probability", percent), Column("entropy (nats)"),
        Column("KL to final (nats)"),
    ]  # fmt: skip
    found = [lens[name] for name in ("best_ids", "best_probability", "entropy", "divergence")]
    caption = f"The column of {lab.place(focus)}"
    if chosen:
        columns += [Column("rank of the chosen"), Column("its probability", percent)]
        found += [lens["token_rank"], lens["token_probability"]]
        caption += f"; chosen: {chosen}"
    rows = [
        (stage, at, lab.piece(token), lab.piece(int(lens["best_ids"][i, at])),
         *[values[i, at].item() for values in found])
        for i, stage in enumerate(names)
        for at, token in enumerate(focus.ids)
    ]  # fmt: skip
    here = [row for row in rows if row[1] == focus.position]
    return table_html(columns, here, caption, csv_name="logit-lens", csv_rows=rows)
