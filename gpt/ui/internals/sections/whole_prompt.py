"""The whole prompt: how well the model predicted each of its tokens."""

from __future__ import annotations

from gpt.internals.surprise import foreseen, loss
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.prompt import perplexity
from gpt.ui.internals.section import Section, html
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html, text_column

COLUMNS = (
    Column("position"), text_column("token"), Column("probability", percent), Column("rank"),
    Column("surprisal (nats)"),
)  # fmt: skip


def prompt_table(lab: Lab, visit: Visit) -> str:
    """Every token of the prompt with its probability, rank and surprisal, and their mean; HTML."""
    run = lab.run(visit)
    entries = foreseen(run.logits, run.ids)
    mean = loss(entries)
    if mean is None:
        return say("A single token has no loss: nothing came before it.")
    rows = [
        (e.position, lab.piece(e.token_id), e.probability, e.rank, e.surprisal) for e in entries
    ]
    numbers = " + ".join(significant(e.surprisal) for e in entries[:3])
    more = " + …" if len(entries) > 3 else ""
    return formula(
        "loss = mean of −ln(probability) over the tokens after the first; perplexity = e^loss",
        f"{significant(mean)} = ({numbers}{more}) ÷ {len(entries)}; perplexity {perplexity(mean)}",
    ) + table_html(
        COLUMNS,
        rows,
        "How well the model predicted each token",
        csv_name="prompt-surprisal",
        kinds={n: "marked" for n, e in enumerate(entries) if e.position == visit.position + 1},
    )


SECTION = Section(
    key="prompt",
    title="The whole prompt, token by token",
    intro="Each token's probability was given one position before it came. Their mean surprisal is "
    "the loss that training lowers.",
    view=prompt_table,
    outputs=(html("int-prompt-table"),),
)
