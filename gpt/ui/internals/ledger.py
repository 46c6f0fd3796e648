"""The logit ledger: one logit, or one lead, as a sum over everything the model wrote."""

from __future__ import annotations

import gradio as gr
import plotly.graph_objects as go

from gpt.internals.distribution import ranking
from gpt.internals.ledger import Ledger, read_ledger
from gpt.serving.all_cores import on_all_cores
from gpt.ui.internals.figures import signed_bars
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.numbers import significant

INTRO = (
    "The residual stream is a sum, and the final norm and the head treat it as one: so the logit "
    "splits exactly into what the embeddings, each head, each feed-forward and each bias wrote. "
    "Look for the few parts that carry the token, and for those that push against it."
)
ALONE, LEAD = MODES = ("its logit", "its lead over the runner-up")
BARS = 20


def ledger_views(lab: Lab, state: State, query: str, mode: str) -> tuple[str, go.Figure, str]:
    """The sum in words, bars of the largest terms, and every term with a running total."""
    run, at = lab.run(state), state["position"]
    first, second = (ranking(run.logits[at])[:2].tolist() * 2)[:2]
    token_id = lab.token_id(state, query or "", first)
    minus = None
    if mode == LEAD:
        minus = second if token_id == first else first
    ledger = lab.memo(
        state, "ledger", lambda: _read(lab, state, token_id, minus), at, token_id, minus
    )
    terms = sorted(ledger.terms, key=lambda term: -abs(term.value))
    shown, rest = terms[:BARS], terms[BARS:]
    labels = [_short(term.name) for term in shown]
    values = [term.value for term in shown]
    if rest:
        labels.append(f"{len(rest)} others")
        values.append(sum(term.value for term in rest))
    what = f"logit of {lab.piece(token_id)} (id {token_id:,})"
    if minus is not None:
        what += f" minus that of {lab.piece(minus)} (id {minus:,})"
    figure = signed_bars(labels, values, "share of the logit")
    return _sum(ledger, what, at), figure, _table(ledger, at)


def _read(lab: Lab, state: State, token_id: int, minus: int | None) -> Ledger:
    with lab.borrow(state) as model:
        return on_all_cores(read_ledger, model, lab.run(state), state["position"], token_id, minus)


def _sum(ledger: Ledger, what: str, position: int) -> str:
    by_kind: dict[str, float] = {}
    for term in ledger.terms:
        by_kind[term.kind] = by_kind.get(term.kind, 0.0) + term.value
    numbers = " + ".join(f"({kind} {significant(v, 4)})" for kind, v in by_kind.items())
    logit, total = _minus(f"{ledger.logit:.4f}"), _minus(f"{ledger.total:.4f}")
    return say(
        f"The {what} at position {position} is {logit}. {len(ledger.terms)} terms add up to "
        f"{total}; the difference of {_minus(f'{ledger.difference:.1e}')} is rounding in float32."
    ) + formula(
        "logit = Σ (term − its mean) · (norm scale × head row) ÷ √(var + eps) + shift · head row",
        f"{total} = {numbers}",
    )


def _table(ledger: Ledger, position: int) -> str:
    rows, exact, running = [], [], 0.0
    for term in sorted(ledger.terms, key=lambda term: -abs(term.value)):
        running += term.value
        rows.append([term.name, term.kind, significant(term.value, 4), significant(running, 5)])
        exact.append([term.name, term.kind, term.value, running])
    return table_html(
        f"All {len(rows)} terms by size, with the running total",
        ["part", "kind", "share", "running total"],
        rows,
        csv_name=f"ledger-position-{position}",
        csv_rows=exact,
        text_columns=(0, 1),
    )


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _short(name: str) -> str:
    return name.replace("layer ", "L").replace("feed-forward", "ff").replace("embedding", "emb.")


def build(page: Page) -> None:
    """The section: which token, alone or against the runner-up, bars and table."""
    with Section(page, "Logit ledger: who wrote this logit", "int-section-ledger") as part:
        gr.Markdown(INTRO)
        with gr.Row():
            query = gr.Textbox(
                label="Token", elem_id="int-ledger-token", min_width=240,
                info="Text or id; empty is the best one here.",
            )  # fmt: skip
            mode = gr.Radio(
                list(MODES), value=ALONE, label="Take apart", elem_id="int-ledger-mode",
                info="The lead leaves out what both tokens share.", min_width=240,
            )  # fmt: skip
        words = gr.HTML(EMPTY, elem_id="int-ledger-sum")
        plot = gr.Plot(label="Largest terms", elem_id="int-ledger-plot")
        table = gr.HTML(elem_id="int-ledger-table")
    part.wire(
        lambda state, *v: ledger_views(page.lab, state, *v),
        [query, mode],
        [words, plot, table],
        with_model=True,
    )
