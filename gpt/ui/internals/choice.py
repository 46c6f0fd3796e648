"""The choice: sampling settings applied to the stored logits, and any token found among them."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from gpt.internals.distribution import (
    Choice,
    choice_row,
    choose,
)
from gpt.sampling import SamplingOptions, probabilities
from gpt.ui.internals.draws import MAX_DRAWS, draw_views, tally_views
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "Logits are divided by the **temperature**, then **top-k** and **top-p** strike out the rest, "
    "the softmax shares 100 % among those that are left, and one random number picks. "
    "Moving a control recomputes all of it from the logits of the one pass."
)
ROWS = 20
DEFAULTS = (1.0, 0, 1.0, 123, 1000)  # temperature, top-k (0 is off), top-p, seed, draws


def options_of(
    temperature: float | None, top_k: float | None, top_p: float | None, seed: float | None
) -> SamplingOptions:
    """Options from the controls, where top-k 0 and an empty box mean off.

    Raises ValueError if a value is impossible.
    """
    return SamplingOptions(
        temperature=1.0 if temperature is None else float(temperature),
        top_k=int(top_k) if top_k else None,
        top_p=1.0 if top_p is None else float(top_p),
        seed=0 if seed is None else int(seed),
    )


def choice_views(
    lab: Lab, state: State, temperature: float, top_k: float, top_p: float, seed: float, n: float
) -> tuple[str, go.Figure, str, go.Figure, str]:
    """Table, cumulative bar, its sentence, tally plot and tally table under these settings."""
    options = options_of(temperature, top_k, top_p, seed)
    logits = lab.run(state).logits[state["position"]].cpu()
    distribution = probabilities(logits, options)
    choice = choose(logits, distribution, options.temperature, ROWS)
    table = _sentence(choice, options, len(logits)) + _table(lab, choice, state["position"])
    return (
        table,
        *draw_views(lab, distribution, options),
        *tally_views(lab, distribution, options, n),
    )


def find_token(
    lab: Lab, state: State, query: str, temperature: float, top_k: float, top_p: float
) -> str:
    """Rank, logit and probability of a token named by text or id; HTML.

    Text is taken as typed, with its spaces; digits alone are an id. Raises ValueError if an id
    is outside the vocabulary.
    """
    if not query:
        return say("Type a token such as “ the” (with its leading space) or an id such as 262.")
    run = lab.run(state)
    options = options_of(temperature, top_k, top_p, 0)
    logits = run.logits[state["position"]].cpu()
    ids, note = _ids_of(lab, query, len(logits))
    softmax = logits.double().softmax(-1)
    distribution = probabilities(logits, options)
    rows = [choice_row(logits, softmax, distribution, options.temperature, i) for i in ids]
    cells = [
        [
            lab.piece(row.token_id),
            f"{row.token_id:,}",
            f"{row.rank:,} of {len(logits):,}",
            significant(row.logit, 4),
            percent(row.softmax),
            percent(row.probability) if row.kept else "rejected",
        ]
        for row in rows
    ]
    headers = ["token", "id", "rank", "logit", "softmax", "chance of being drawn"]
    return note + table_html("Found", headers, cells, text_columns=(0,))


def _ids_of(lab: Lab, query: str, vocab: int) -> tuple[list[int], str]:
    if query.strip().isdecimal():
        token_id = int(query.strip()[:12])
        if token_id >= vocab:
            raise ValueError(f"token id {token_id:,} does not exist: use 0 to {vocab - 1:,}.")
        return [token_id], ""
    ids = lab.tokenizer.encode(query)[:8]
    if any(i >= vocab for i in ids):
        raise ValueError(f"this model knows only ids 0 to {vocab - 1:,}: type one of them.")
    return ids, "" if len(ids) == 1 else say(f"That text is {len(ids)} tokens; each is shown.")


def _sentence(choice: Choice, options: SamplingOptions, vocab: int) -> str:
    kept = sum(row.kept for row in choice.rows) + choice.tail.kept
    before, after = choice.softmax_spread, choice.spread
    text = (
        f"{kept:,} of {vocab:,} tokens can be drawn. Entropy {significant(after.entropy_nats)} "
        f"nats = {significant(after.entropy_bits)} bits, as uncertain as "
        f"{significant(after.perplexity)} equally likely tokens (e^H); {after.tokens_for_90:,} "
        f"{'token holds' if after.tokens_for_90 == 1 else 'tokens hold'} 90 %."
    )
    if options.temperature == 0:
        text += " Temperature 0 is greedy: the best token always, by definition."
    elif (options.temperature, options.top_k, options.top_p) != (1.0, None, 1.0):
        text += (
            f" Without these settings: {significant(before.entropy_nats)} nats, "
            f"e^H = {significant(before.perplexity)}, {before.tokens_for_90:,} for 90 %."
        )
    best = choice.rows[0]
    if best.scaled is None:
        return say(text)
    return say(text) + formula(
        "chance = e^(logit ÷ temperature) ÷ Σ of the same over the tokens that are left",
        f"{percent(best.probability)} = e^({significant(best.logit, 4)} ÷ "
        f"{significant(options.temperature)}) ÷ "
        f"e^{significant(best.scaled - math.log(best.probability), 4)}",
    )


def _table(lab: Lab, choice: Choice, position: int) -> str:
    cells = [
        [
            str(row.rank),
            lab.piece(row.token_id),
            f"{row.token_id:,}",
            significant(row.logit, 4),
            "—" if row.scaled is None else significant(row.scaled, 4),
            percent(row.softmax),
            percent(row.probability) if row.kept else "rejected",
        ]
        for row in choice.rows
    ]
    exact: list[list[Any]] = [
        [
            row.rank,
            lab.piece(row.token_id),
            row.token_id,
            row.logit,
            row.scaled,
            row.softmax,
            row.probability,
        ]
        for row in choice.rows
    ]
    tail = choice.tail
    if tail.tokens:
        label = f"other {tail.tokens:,} ({tail.kept:,} kept)"
        cells.append(["", label, "", "", "", percent(tail.softmax), percent(tail.probability)])
        exact.append(["", label, "", "", "", tail.softmax, tail.probability])
    return table_html(
        f"From logits to chances after position {position}; rejected tokens are struck out",
        ["rank", "token", "id", "logit", "÷ temperature", "softmax", "chance"],
        cells,
        csv_name=f"choice-position-{position}",
        csv_rows=exact,
        text_columns=(1,),
        struck=[n for n, row in enumerate(choice.rows) if not row.kept],
    )


def build(page: Page) -> None:
    """The section: settings, the table, the search, the draw, many draws."""
    with Section(page, "Choice: from logits to one token", "int-section-choice", True) as part:
        gr.Markdown(INTRO)
        settings, seed, draws, reset = _controls()
        table = gr.HTML(EMPTY, elem_id="int-choice")
        query = gr.Textbox(
            label="Find a token",
            info="By its text, with a leading space if it has one, or by its id.",
            elem_id="int-find",
        )
        found = gr.HTML(elem_id="int-found")
        bar = gr.Plot(label="The draw", elem_id="int-draw")
        drawn = gr.HTML(elem_id="int-drawn")
        counts = gr.Plot(label="Many draws", elem_id="int-draws")
        counted = gr.HTML(elem_id="int-counted")
    views = [table, bar, drawn, counts, counted]
    controls = [*settings, seed, draws]
    part.wire(lambda state, *values: choice_views(page.lab, state, *values), controls, views)
    part.wire(
        lambda state, *values: find_token(page.lab, state, *values), [query, *settings], [found]
    )
    reset.click(lambda: DEFAULTS, None, controls, api_visibility="private", queue=False)


def _controls() -> tuple[list[gr.Slider], gr.Number, gr.Slider, gr.Button]:
    temperature, top_k, top_p, seed, draws = DEFAULTS
    with gr.Row():
        settings = [
            gr.Slider(
                0, 2, temperature, step=0.05, label="Temperature",
                info="0 is greedy; above 1 flattens.", elem_id="int-temperature", min_width=220,
            ),
            gr.Slider(
                0, 200, top_k, step=1, label="Top-k",
                info="Keep the k best; 0 is off.", elem_id="int-filter-top-k", min_width=220,
            ),
            gr.Slider(
                0.01, 1, top_p, step=0.01, label="Top-p", elem_id="int-top-p", min_width=220,
                info="Keep the smallest set that holds this much; 1 is off.",
            ),
        ]  # fmt: skip
    with gr.Row():
        number = gr.Number(
            seed, label="Seed", precision=0, elem_id="int-seed", min_width=220,
            info="The same seed draws the same number.",
        )  # fmt: skip
        many = gr.Slider(
            10, MAX_DRAWS, draws, step=10, label="Draws", elem_id="int-draw-count", min_width=220,
            info="How often to draw, to compare with the theory.",
        )  # fmt: skip
        reset = gr.Button("Reset to defaults", elem_id="int-choice-reset", min_width=160)
    return settings, number, many, reset
