"""From one position's logits to probabilities: the two plots and their table."""

from __future__ import annotations

import itertools
import math
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from gpt.internals.distribution import choose
from gpt.sampling import SamplingOptions, probabilities
from gpt.ui.internals.figures import ranked_bars
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "The last layer gives each token of the vocabulary one number, its **logit**. The softmax "
    "turns them into probabilities: only differences between logits matter."
)
MAX_BARS = 50
# Below this the best bar would be invisible on an axis that ends at 100 %.
FAINT = 0.01


def read_logits(lab: Lab, state: State, top_k: int) -> dict[str, Any]:
    """The position's best tokens, tail and entropy as plain values, for the API and the views."""
    run = lab.run(state)
    index = state["position"]
    logits = run.logits[index].cpu()
    best = choose(logits, probabilities(logits, SamplingOptions()), 1.0, _bars(top_k))
    return {
        "model": state["source"],
        "precision": "float32, eval mode",
        "tokens": [{"id": i, "text": lab.piece(i)} for i in run.ids],
        "position": index,
        "vocab_size": run.cfg.vocab_size,
        "entropy_nats": best.softmax_spread.entropy_nats,
        "entropy_bits": best.softmax_spread.entropy_bits,
        "top": [
            {
                "rank": row.rank,
                "id": row.token_id,
                "text": lab.piece(row.token_id),
                "logit": row.logit,
                "probability": row.softmax,
            }
            for row in best.rows
        ],
        "tail": {
            "tokens": best.tail.tokens,
            "mean_logit": best.tail.mean_logit,
            "probability": best.tail.softmax,
        },
    }


def logit_figure(read: dict[str, Any]) -> go.Figure:
    """Bars of the best logits; the last bar is the mean of all others."""
    labels, tail = _labels(read, "mean of "), read["tail"]
    values = [row["logit"] for row in read["top"]]
    texts = [significant(value) for value in values]
    if tail["tokens"]:
        values.append(tail["mean_logit"])
        texts.append(significant(tail["mean_logit"]))
    return ranked_bars(labels, values, texts, "logit", tail=bool(tail["tokens"]))


def softmax_figure(read: dict[str, Any]) -> go.Figure:
    """Bars of the best probabilities on an axis of 0 to 100 %, the tail last.

    If no token reaches 1 %, such an axis looks empty: the bars then count multiples of the
    uniform probability, and the tail's bar is the mean of its tokens.
    """
    labels, tail, vocab = _labels(read), read["tail"], read["vocab_size"]
    values = [row["probability"] for row in read["top"]]
    has_tail = bool(tail["tokens"])
    if values[0] >= FAINT:
        shown = [100 * p for p in values] + ([100 * tail["probability"]] if has_tail else [])
        texts = [percent(v) for v in values] + ([percent(tail["probability"])] if has_tail else [])
        figure = ranked_bars(labels, shown, texts, "probability in %", tail=has_tail)
        return figure.update_xaxes(range=[0, 122], tickvals=[0, 20, 40, 60, 80, 100])
    shown = [p * vocab for p in values]
    texts = [f"{percent(p)} = {significant(p * vocab)} ×" for p in values]
    if has_tail:
        shown.append(tail["probability"] / tail["tokens"] * vocab)
        texts.append(f"{percent(tail['probability'])} in all")
    axis = f"times the uniform probability, 1 in {vocab:,}"
    figure = ranked_bars(labels, shown, texts, axis, tail=has_tail)
    return figure.update_xaxes(range=[0, 1.7 * max(shown)])


def logits_table(read: dict[str, Any]) -> str:
    """The numbers of both plots as a table that downloads as CSV."""
    rows = [
        [
            str(row["rank"]),
            row["text"],
            f"{row['id']:,}",
            significant(row["logit"], 4),
            percent(row["probability"]),
        ]
        for row in read["top"]
    ]
    exact = [
        [row["rank"], row["text"], row["id"], row["logit"], row["probability"]]
        for row in read["top"]
    ]
    tail = read["tail"]
    if tail["tokens"]:
        mean = f"mean {significant(tail['mean_logit'], 4)}"
        rows.append(["", f"other {tail['tokens']:,}", "", mean, percent(tail["probability"])])
        exact.append(["", "others", tail["tokens"], tail["mean_logit"], tail["probability"]])
    headers = ["rank", "token", "id", "logit", "probability"]
    shown = headers
    if read["top"][0]["probability"] < FAINT:  # per cents would all read alike
        shown = [*headers, "× uniform"]
        times = [row["probability"] * read["vocab_size"] for row in read["top"]]
        rows = [
            [*row, significant(value) if value is not None else ""]
            for row, value in itertools.zip_longest(rows, times)
        ]
    return table_html(
        f"Prediction after position {read['position']}, softmax over {read['vocab_size']:,} tokens",
        shown,
        rows,
        csv_headers=headers,
        csv_name=f"logits-position-{read['position']}",
        csv_rows=exact,
        text_columns=(1,),
    )


def logits_message(read: dict[str, Any]) -> str:
    """One sentence on the result, and the softmax formula with this run's numbers, as HTML."""
    best, vocab = read["top"][0], read["vocab_size"]
    sentence = (
        f"After position {read['position']} ({read['tokens'][read['position']]['text']}) the best "
        f"token is {best['text']} (id {best['id']:,}) with {percent(best['probability'])}; entropy "
        f"{significant(read['entropy_nats'])} nats = {significant(read['entropy_bits'])} bits, "
        f"over all {vocab:,} tokens. Evenly spread would be "
        f"{significant(math.log2(vocab))} bits."
    )
    if best["probability"] < FAINT:
        sentence += (
            " No token reaches 1 %, as in an untrained model: the bars count multiples of the "
            f"uniform probability, 1 in {vocab:,}, since an axis up to 100 % would look empty."
        )
    return say(sentence) + formula(
        "probability = e^logit ÷ Σ e^logit over the vocabulary",
        f"{percent(best['probability'])} = e^{significant(best['logit'], 4)} ÷ "
        f"e^{significant(_log_sum(best), 4)}",
    )


def views(read: dict[str, Any]) -> tuple[go.Figure, go.Figure, str, str]:
    """Both plots, their table and their sentence, in the order of the page."""
    return logit_figure(read), softmax_figure(read), logits_table(read), logits_message(read)


def build(page: Page) -> tuple[gr.Slider, list[gr.components.Component]]:
    """The section: how many bars, both plots, the table, the sentence."""
    with Section(
        page, "From logits to probabilities", "int-section-logits", opened=True
    ) as section:
        gr.Markdown(INTRO)
        message = gr.HTML(EMPTY)
        bars = gr.Slider(1, MAX_BARS, 20, step=1, label="Tokens shown", elem_id="int-top-k")
        with gr.Row():
            logit_plot = gr.Plot(label="Logits", elem_id="int-logits", min_width=420)
            softmax_plot = gr.Plot(label="Softmax", elem_id="int-softmax", min_width=420)
        table = gr.HTML(elem_id="int-table")
    outputs = [logit_plot, softmax_plot, table, message]
    section.wire(lambda state, k: views(read_logits(page.lab, state, k)), [bars], outputs)
    return bars, outputs


def _labels(read: dict[str, Any], tail: str = "other ") -> list[str]:
    labels = [f"{_short(row['text'])}  {row['id']}" for row in read["top"]]
    if read["tail"]["tokens"]:
        labels.append(f"{tail}{read['tail']['tokens']:,}")
    return labels


def _short(text: str, limit: int = 10) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _log_sum(best: dict[str, Any]) -> float:
    return best["logit"] - math.log(best["probability"])


def _bars(top_k: float | None) -> int:
    if top_k is None or not 1 <= top_k <= MAX_BARS:
        raise ValueError(f"{top_k} bars cannot be shown: use 1 to {MAX_BARS}.")
    return int(top_k)
