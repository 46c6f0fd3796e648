"""One position: what the model predicted there, and how well it foresaw what came."""

from __future__ import annotations

import math

import gradio as gr

from gpt.internals.distribution import ranking
from gpt.internals.surprise import Foreseen, foreseen, loss
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "At every position the model predicts the token that comes next, all in the one pass. "
    "Look at how the guess compares with what the prompt really said."
)
GUESSES = 5


def position_html(lab: Lab, state: State) -> str:
    """The guesses made at the position beside the token that came; as HTML."""
    run = lab.run(state)
    at = state["position"]
    logits = run.logits[at].cpu()
    softmax = logits.double().softmax(-1)
    came = next((e for e in foreseen(run.logits, run.ids) if e.position == at + 1), None)
    ids = ranking(logits)[:GUESSES].tolist()
    rows = [(rank, i, softmax[i].item()) for rank, i in enumerate(ids, start=1)]
    if came is not None and came.token_id not in ids:
        rows.append((came.rank, came.token_id, came.probability))
    marked = [n for n, row in enumerate(rows) if came is not None and row[1] == came.token_id]
    cells = [[f"{rank:,}", lab.piece(i), f"{i:,}", percent(p)] for rank, i, p in rows]
    headers = ["rank", "token", "id", "probability"]
    if came is not None:
        headers.append("in the prompt")
        cells = [[*row, "came" if n in marked else ""] for n, row in enumerate(cells)]
    table = table_html(
        f"Guesses after position {at} ({lab.piece(run.ids[at])})",
        headers,
        cells,
        text_columns=(1, 4),
        marked=marked,
    )
    return say(_sentence(lab, state, ids[0], rows[0][2], came)) + _surprisal(came) + table


def prompt_table(lab: Lab, state: State) -> str:
    """Every token of the prompt with its probability, rank and surprisal, and their mean; HTML."""
    run = lab.run(state)
    entries = foreseen(run.logits, run.ids)
    mean = loss(entries)
    if mean is None:
        return say("A single token has no loss: nothing came before it to foresee it.")
    rows = [
        [
            str(e.position),
            lab.piece(e.token_id),
            percent(e.probability),
            f"{e.rank:,}",
            significant(e.surprisal),
        ]
        for e in entries
    ]
    exact = [
        [e.position, lab.piece(e.token_id), e.probability, e.rank, e.surprisal] for e in entries
    ]
    table = table_html(
        "How the model foresaw each token",
        ["position", "token", "probability", "rank", "surprisal (nats)"],
        rows,
        csv_name="prompt-surprisal",
        csv_rows=exact,
        text_columns=(1,),
        marked=[n for n, e in enumerate(entries) if e.position == state["position"] + 1],
    )
    numbers = " + ".join(significant(e.surprisal) for e in entries[:3])
    more = " + …" if len(entries) > 3 else ""
    return (
        formula(
            "loss = mean of −ln(probability) over the tokens after the first; perplexity = e^loss",
            f"{significant(mean)} = ({numbers}{more}) ÷ {len(entries)}; perplexity "
            f"{significant(math.exp(min(mean, 700)))}",
        )
        + table
    )


def build(page: Page) -> None:
    """The section: the guesses at the chosen position, then the whole prompt."""
    with Section(page, "Position: the prediction made here", "int-section-position", True) as part:
        gr.Markdown(INTRO)
        guesses = gr.HTML(EMPTY, elem_id="int-position-guesses")
    part.wire(lambda state: position_html(page.lab, state), [], [guesses])
    with Section(page, "The whole prompt, token by token", "int-section-prompt") as part:
        table = gr.HTML(EMPTY, elem_id="int-prompt-table")
    part.wire(lambda state: prompt_table(page.lab, state), [], [table])


def _sentence(lab: Lab, state: State, best: int, p: float, came: Foreseen | None) -> str:
    at = state["position"]
    text = (
        f"Having read up to position {at} ({lab.piece(state['ids'][at])}), the model's best guess "
        f"is {lab.piece(best)} with {percent(p)}. "
    )
    if came is None:
        return text + "The prompt ends here: this is the prediction that a new token is drawn from."
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
