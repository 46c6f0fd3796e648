"""The choice of the next token: sampling settings applied to the stored logits, and the draw."""

import math
from typing import Any

import torch

from gpt.checkpoints.precision_record import default_precision
from gpt.engine import PRECISIONS
from gpt.internals.distribution import BestAndTail, best_and_tail, token_rows
from gpt.sampling import MAX_SEED, SamplingOptions, draw, probabilities
from gpt.ui.generation.settings import AUTO, STANDARD, labelled
from gpt.ui.internals.draws import MAX_DRAWS, draw_views, tally_views
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, dropdown, number_box, numbers, section, slider, text_box
from gpt.ui.parts.bars import bars
from gpt.ui.parts.errors import mistake
from gpt.ui.parts.numbers import counted, four, percent, significant, whole
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html
from gpt.ui.visit import Visit

ROWS = 20
BARS = 8
HALF = {"min_width": 100, "elem_classes": "half"}  # a control that shares a row with another


def chance(probability: float) -> str:
    return percent(probability) if probability else "rejected"


COLUMNS = (
    Column("rank"), "token", Column("id"), Column("logit", four),
    Column("÷ temperature", four), Column("softmax", percent), Column("chance", chance),
)  # fmt: skip
FOUND = (
    "token", Column("id"), Column("rank"), Column("logit", four),
    Column("softmax", percent), Column("chance of being drawn", chance),
)  # fmt: skip


def options_of(temperature: Any, top_k: Any, top_p: Any, min_p: Any, seed: Any) -> SamplingOptions:
    """Options from the controls, where top-k 0 and an empty box mean off.

    Raises ValueError, in one line that names the control, if a value is impossible.
    """
    try:
        return SamplingOptions(
            temperature=1.0 if temperature is None else temperature,
            top_k=whole("top_k", top_k, 1, 10**9) if top_k else None,
            top_p=1.0 if top_p is None else top_p,
            min_p=min_p or 0,
            seed=0 if seed is None else whole("seed", seed, 0, MAX_SEED),
        )
    except ValueError as error:
        raise ValueError(labelled(str(mistake(error)))) from error


def as_written(text: Visit) -> dict[str, Any]:
    """What drew the token that is chosen in a text of Generation."""
    if text.position is None or text.seed is None:
        return {}
    values = {**STANDARD, **text.settings}
    new = text.position - len(text.ids) + (text.tokens or 0)
    chosen = {name: values[name] for name in ("temperature", "top_k", "top_p", "min_p")}
    precision = values["precision"] if values["device"] == "cpu" else "float32"
    chosen["precision"] = default_precision(text.model) if precision == AUTO else precision
    return {**chosen, "seed": text.seed, "at": new}


@section(
    "choice",
    title="Choice: from logits to one token",
    intro="Logits are divided by the **temperature**, **top-k**, **top-p** and **min-p** strike "
    "out the rest, the softmax shares 100 % among those that are left, and one random number "
    "picks. A token chosen in Generation brings what drew it: settings, precision, number.",
    code=(Code(probabilities, "kept = _kept"), Code(draw)),
    controls={
        "temperature": slider(
            "int-temperature", "Temperature", 0, 2, 1.0, step=0.05, info="0: greedy.", min_width=220
        ),
        "top_p": slider("int-top-p", "Top-p", 0.01, 1, 1, step=0.01, info="1: off.", min_width=220),
        "min_p": slider("int-min-p", "Min-p", 0, 1, 0, step=0.01, info="0: off.", min_width=220),
        "top_k": number_box("int-filter-top-k", "Top-k", 0, info="0: off.", **HALF),
        "draws": number_box("int-draw-count", "Draws", 1000, info="To compare.", **HALF),
        "seed": number_box("int-seed", "Seed", 123, info="Of the draws.", **HALF),
        "at": number_box("int-draw", "Draw", 0, info="Which, from 0.", **HALF),
        "precision": dropdown(
            "int-precision", "Precision", PRECISIONS, info="Of the logits.", **HALF
        ),
        "query": text_box("int-find", "Find a token", info="Text or id.", **HALF),
    },
    beside=True,
    opened=True,
)
def choice_views(
    lab: Lab, focus: Focus, at: Any, draws: Any, query: str, precision: str, **sampling: Any
) -> str:
    """The chances, the draw and many draws, with their numbers; a token found among them.

    `sampling` are the controls that `options_of` takes.
    """
    options = options_of(**sampling)
    at = whole("draw", at or 0, 0, MAX_DRAWS)
    logits = lab.logits(focus, precision)
    distribution = probabilities(logits, options)
    choice = best_and_tail(logits, distribution, ROWS)
    best = choice.rows[:BARS]
    said = f"the {len(best)} best"
    if precision != "float32":
        said += f", in {precision}; other sections: float32"
    odds = bars(
        [lab.short(row.token_id, 14) for row in best],
        {"softmax": [row.softmax for row in best],
         "chance with these settings": [row.probability for row in best]},
        said, show=chance, struck={n for n, r in enumerate(best) if not r.kept},
    )  # fmt: skip
    found = find_token(lab, focus, query, logits, distribution)
    came = focus.ids[focus.position + 1 :]
    drawn, segments = draw_views(lab, distribution, options, at, came[0] if came else None)
    many, tallied = tally_views(lab, distribution, options, whole("draws", draws, 1, MAX_DRAWS))
    words = _sentence(choice, options, len(logits))
    tables = numbers(_table(lab, choice, focus.position, options.temperature), segments, tallied)
    return f'{words}{odds}{drawn}{many}{tables}<div id="int-found">{found}</div>'


def find_token(
    lab: Lab, focus: Focus, query: str, logits: torch.Tensor, distribution: torch.Tensor
) -> str:
    """Rank, logit and probability of a token named by text or id, or why there is none; HTML."""
    if not query:
        return ""
    try:
        ids = lab.named_ids(focus, query)[:8]
    except ValueError as error:  # of one box: the settings beside it hold
        return say(str(mistake(error)), "note")
    softmax = logits.double().softmax(-1)
    found = token_rows(logits, softmax, distribution, torch.tensor(ids))
    rows = [
        (lab.piece(r.token_id), r.token_id, f"{r.rank:,} of {len(logits):,}", r.logit, r.softmax,
         r.probability)
        for r in found
    ]  # fmt: skip
    note = "" if len(ids) == 1 else say(f"That text is {len(ids)} tokens; each is shown.")
    return note + table_html(FOUND, rows, "Found")


def _sentence(choice: BestAndTail, options: SamplingOptions, vocab: int) -> str:
    kept = sum(row.kept for row in choice.rows) + choice.tail.kept
    before, after = choice.softmax_spread, choice.spread
    text = (
        f"{kept:,} of {vocab:,} tokens can be drawn. Entropy {significant(after.entropy_nats)} "
        f"nats = {significant(after.entropy_bits)} bits, as uncertain as "
        f"{significant(after.perplexity)} equally likely tokens (e^H); 90 % lie in "
        f"{counted(after.tokens_for_90, 'token')}."
    )
    if options.temperature == 0:
        text += " Temperature 0 is greedy: the best token always, by definition."
    elif options.temperature != 1.0 or not options.keeps_all:
        text += (
            f" Without these settings: {significant(before.entropy_nats)} nats, "
            f"e^H = {significant(before.perplexity)}; {before.tokens_for_90:,} for 90 %."
        )
    best = choice.rows[0]
    if options.temperature == 0:
        return say(text)
    scaled = best.logit / options.temperature
    return say(text) + formula(
        "chance = e^(logit ÷ temperature) ÷ Σ of the same over the tokens that are left",
        f"{percent(best.probability)} = e^({four(best.logit)} ÷ "
        f"{significant(options.temperature)}) ÷ "
        f"e^{four(scaled - math.log(best.probability))}",
    )


def _table(lab: Lab, choice: BestAndTail, position: int, temperature: float) -> str:
    rows: list[tuple[Any, ...]] = [
        (r.rank, lab.piece(r.token_id), r.token_id, r.logit,
         r.logit / temperature if temperature else None, r.softmax, r.probability)
        for r in choice.rows
    ]  # fmt: skip
    if tail := choice.tail.tokens:
        label = f"other {tail:,} ({choice.tail.kept:,} kept)"
        rows.append((None, label, None, None, None, choice.tail.softmax, choice.tail.probability))
    caption = f"From logits to chances after position {position}; rejected tokens are struck out"
    struck = {n: "struck" for n, row in enumerate(choice.rows) if not row.kept}
    file = f"choice-position-{position}"
    return table_html(COLUMNS, rows, caption, csv_name=file, kinds=struck)
