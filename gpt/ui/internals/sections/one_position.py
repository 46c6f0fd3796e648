"""One position: what the model predicted there, beside the token that came."""

from __future__ import annotations

import math

from gpt.internals.distribution import ranking
from gpt.internals.surprise import Foreseen, foreseen
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Section, html
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html, text_column

GUESSES = 5


def position_html(lab: Lab, visit: Visit) -> str:
    """The guesses made at the position beside the token that came; as HTML."""
    run, at = lab.run(visit), visit.position
    logits = lab.logits(visit)
    softmax = logits.double().softmax(-1)
    came = next((e for e in foreseen(run.logits, run.ids) if e.position == at + 1), None)
    ids = ranking(logits)[:GUESSES].tolist()
    rows = [(rank, lab.piece(i), i, softmax[i].item()) for rank, i in enumerate(ids, start=1)]
    columns = [Column("rank"), text_column("token"), Column("id"), Column("probability", percent)]
    marked = {}
    if came is not None:
        if came.token_id not in ids:
            rows.append((came.rank, lab.piece(came.token_id), came.token_id, came.probability))
        marked = {n: "marked" for n, row in enumerate(rows) if row[2] == came.token_id}
        columns.append(text_column("in the prompt"))
        rows = [(*row, "came" if n in marked else "") for n, row in enumerate(rows)]
    table = table_html(columns, rows, f"Guesses after {lab.place(visit)}", kinds=marked)
    return say(_sentence(lab, visit, ids[0], rows[0][3], came)) + _surprisal(came) + table


def _sentence(lab: Lab, visit: Visit, best: int, p: float, came: Foreseen | None) -> str:
    read = lab.tokenizer.decode(list(visit.ids[: visit.position + 1]))
    text = f"After “…{read[-24:]}” the top guess is {lab.piece(best)} ({percent(p)}). "
    if came is None:
        return text + "The prompt ends here: the next token is drawn from this list."
    if came.rank == 1:
        return text + "That is the token that came."
    return (
        text + f"What came is {lab.piece(came.token_id)}: rank {came.rank:,}, "
        f"{percent(came.probability)}."
    )


def _surprisal(came: Foreseen | None) -> str:
    if came is None:
        return ""
    return formula(
        "surprisal = −ln(probability of the token that came)",
        f"{significant(came.surprisal)} nats = −ln({significant(came.probability)}) = "
        f"{significant(came.surprisal / math.log(2))} bits",
    )


SECTION = Section(
    key="position",
    title="Position: the prediction made here",
    intro="At every position the model predicts the token that comes next, all in the one pass. "
    "Compare the guess with what the prompt really said.",
    view=position_html,
    outputs=(html("int-position-guesses"),),
    opened=True,
)
