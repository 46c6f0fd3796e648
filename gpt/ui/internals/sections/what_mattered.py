"""What mattered: each prompt token's effect on one logit, measured in two ways."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from gpt.internals.interventions import Occluded, gradient_x_input, occlusion
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Code, Section, numbers, token_box
from gpt.ui.parts.bars import bars
from gpt.ui.parts.numbers import four, percent
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html

COLUMNS = (
    Column("position"), "token", Column("gradient × input", four),
    Column("logit lost", four), Column("probability without", percent),
)  # fmt: skip


def mattered_steps(lab: Lab, visit: Visit, query: str) -> Generator[str, None, str]:
    """Progress in words, then the sentence, the two measures as bars, and the table; HTML."""
    run, at = lab.run(visit), visit.position
    token_id = lab.token_id(visit, query)
    key = (*visit.key, "mattered", at, token_id)
    found = lab.memos.get(key)
    if found is None:
        yield say("Gradient: one pass and one step back …")
        known: dict[int | None, Occluded] = {}
        gradient = lab.by_model(visit, gradient_x_input, run, at, token_id).tolist()
        for i, occluded in lab.each_by_model(visit, occlusion, run, at, token_id):
            known[i] = occluded
            if len(known) % 4 == 1:
                yield say(f"Occlusion: {len(known)} of {at + 2} …")
        found = (gradient, known)
        lab.memos.put(key, found)
    return _shown(lab, visit, token_id, *found)


def _shown(
    lab: Lab, visit: Visit, token_id: int, gradient: list[float], known: dict[Any, Occluded]
) -> str:
    count, whole = visit.position + 1, known[None]
    drops = [whole.logit - known[i].logit for i in range(count)]
    drawn = bars(
        [f"{i} {lab.short(visit.ids[i])}" for i in range(count)],
        {"gradient × input": gradient, "logit lost by occlusion": drops},
        "change of the logit",
    )
    most = max(range(count), key=lambda i: abs(drops[i]))
    verb = "lowers" if drops[most] > 0 else "raises"
    words = say(
        f"For {lab.piece(token_id)} (id {token_id:,}) after {lab.place(visit)}: occluding "
        f"{lab.piece(visit.ids[most])} at position {most} {verb} its logit most, from "
        f"{four(whole.logit)} to {four(known[most].logit)}, and its "
        f"probability from {percent(whole.probability)} to {percent(known[most].probability)}."
    ) + formula(
        "gradient × input = Σ over dimensions of ∂logit/∂embedding · embedding; "
        "occlusion = logit − logit without",
        f"position {most}: {four(gradient[most])}; {four(whole.logit)} − "
        f"{four(known[most].logit)} = {four(drops[most])}",
    )
    rows = [
        (i, lab.piece(visit.ids[i]), gradient[i], drops[i], known[i].probability)
        for i in range(count)
    ]
    table = table_html(
        COLUMNS,
        rows,
        f"Effect on the logit of {lab.piece(token_id)}",
        csv_name=f"attribution-position-{visit.position}",
        kinds={most: "marked"},
    )
    return words + drawn + numbers(table)


SECTION = Section(
    key="mattered",
    rail="Why",
    title="What mattered: which words moved it",
    intro="Two questions about one token's logit. **Gradient × input**: how would it move if a "
    "prompt token's embedding were scaled a little? **Occlusion**: how does it move if that "
    "embedding is zeroed and only its position stays? They differ where the model is far from "
    "linear.",
    view=mattered_steps,
    code=(Code(gradient_x_input, "embedded = "),),
    needs_model=True,
    controls={"query": token_box("int-mattered-token")},
    output="int-mattered",
)
