"""From one position's logits to probabilities: two plots, their table, and plain values."""

import math
from typing import Any

from gpt.internals.distribution import best_and_tail, spread
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions, probabilities
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, html, numbers, section, slider
from gpt.ui.parts.bars import bars
from gpt.ui.parts.numbers import four, percent, significant, whole
from gpt.ui.parts.sentences import formula, quoted, say
from gpt.ui.parts.table import Column, table_html

MAX_BARS = 50
FAINT = 0.01  # below it all per cents would read alike


def read_logits(lab: Lab, focus: Focus, top_k: int) -> dict[str, Any]:
    """The position's `top_k` best tokens, tail and entropy as plain values."""
    run, logits = lab.run(focus), lab.logits(focus)
    best = best_and_tail(logits, probabilities(logits, SamplingOptions()), top_k)
    tail = best.tail
    return {
        "model": focus.source,
        "precision": "float32, eval mode",
        "tokens": [{"id": i, "text": lab.piece(i)} for i in run.ids],
        "position": focus.position,
        "vocab_size": run.cfg.vocab_size,
        "entropy_nats": best.softmax_spread.entropy_nats,
        "entropy_bits": best.softmax_spread.entropy_bits,
        "top": [
            {"rank": row.rank, "id": row.token_id, "text": lab.piece(row.token_id),
             "logit": row.logit, "probability": row.softmax}
            for row in best.rows
        ],
        "tail": {"tokens": tail.tokens, "mean_logit": tail.mean_logit, "probability": tail.softmax},
    }  # fmt: skip


@section(
    "logits",
    title="Odds: from logits to probabilities",
    intro="At every position the last layer gives each token of the vocabulary one number, its "
    "**logit**: a guess at what comes next. The softmax turns them into probabilities.",
    code=(Code(GPTModel.forward, "final_norm = "), Code(spread)),
    controls={"count": slider("int-top-k", "Tokens shown", 1, MAX_BARS, 10, step=1)},
    output="int-logits-words",
    more=((html("int-logits"), html("int-softmax")), (html("int-table"),)),
    opened=True,
)
def logits_views(lab: Lab, focus: Focus, count: Any) -> tuple[str, str, str, str]:
    """What was predicted and what came in words, both bar charts, and their table; HTML."""
    read = read_logits(lab, focus, whole("tokens shown", count, 1, MAX_BARS))
    values = [row["logit"] for row in read["top"]]
    labels = [lab.short(row["id"], 12) for row in read["top"]]
    return (
        _words(read, lab.place(focus)) + _came(lab, focus),
        bars(labels, {"": values}, "logit"),
        softmax_bars(read, labels),
        numbers(_table(read)),
    )


def softmax_bars(read: dict[str, Any], labels: list[str]) -> str:
    """Bars of the best probabilities, the tail last, an axis that ends at the best one.

    Where no token reaches 1 % they count multiples of the uniform probability, and the tail's bar
    is the mean of its tokens. A tail that would be longer than the axis has its number and no bar.
    """
    tail, values = read["tail"], [row["probability"] for row in read["top"]]
    faint = values[0] < FAINT
    unit = read["vocab_size"] if faint else 1
    texts = [f"{significant(p * unit)} ×" if faint else percent(p) for p in values]
    shown = [p * unit for p in values]
    if tail["tokens"]:
        labels = [*labels, f"other {tail['tokens']:,}"]
        texts.append(f"{percent(tail['probability'])} in all")
        rest = unit * tail["probability"] / (tail["tokens"] if faint else 1)
        shown.append(rest if rest <= shown[0] else 0.0)
    axis = f"times the uniform probability, 1 in {unit:,}" if faint else "probability"
    return bars(labels, {"": shown}, axis, texts=texts, tail=bool(tail["tokens"]))


def _came(lab: Lab, focus: Focus) -> str:
    """What the prompt goes on with, and how surprising it was."""
    if focus.position + 1 == len(focus.ids):
        return say("The prompt ends here: the next token is drawn from this list.")
    came = lab.foreseen(focus)[focus.position]
    return say(
        f"What came is {lab.quoted(came.token_id)}: rank {came.rank:,}, "
        f"{percent(came.probability)}, a surprisal of −ln({significant(came.probability)}) = "
        f"{significant(came.surprisal)} nats = {significant(came.surprisal / math.log(2))} bits."
    )


def _table(read: dict[str, Any]) -> str:
    """The numbers of both plots; where they are faint, as multiples of the uniform one too."""
    columns = [
        Column("rank"), "token", Column("id"), Column("logit", lambda v: f"{v:,.3f}"),
        Column("probability", percent), Column("× uniform"),
    ]  # fmt: skip
    vocab, tail = read["vocab_size"], read["tail"]
    rows = [
        (row["rank"], row["text"], row["id"], row["logit"], row["probability"],
         row["probability"] * vocab)
        for row in read["top"]
    ]  # fmt: skip
    if tail["tokens"]:
        mean = tail["probability"] / tail["tokens"]
        others = f"other {tail['tokens']:,} (mean logit)"
        rows.append((None, others, None, tail["mean_logit"], tail["probability"], mean * vocab))
    at = read["position"]
    caption = f"Prediction after position {at}, softmax over {vocab:,} tokens"
    return table_html(columns, rows, caption, csv_name=f"logits-position-{at}")


def _words(read: dict[str, Any], place: str) -> str:
    best, vocab = read["top"][0], read["vocab_size"]
    sentence = (
        f"After {place} the best token is {quoted(best['text'])} (id {best['id']:,}) with "
        f"{percent(best['probability'])}; entropy {significant(read['entropy_nats'])} nats = "
        f"{significant(read['entropy_bits'])} bits, over all {vocab:,} tokens. Evenly spread would "
        f"be {significant(math.log2(vocab))} bits."
    )
    if best["probability"] < FAINT:
        sentence += (
            " No token reaches 1 %, as in an untrained model: the bars count multiples of the "
            f"uniform probability, 1 in {vocab:,}."
        )
    return say(sentence) + formula(
        "probability = e^logit ÷ Σ e^logit over the vocabulary",
        f"{percent(best['probability'])} = e^{four(best['logit'])} ÷ "
        f"e^{four(best['logit'] - math.log(best['probability']))}",
    )
