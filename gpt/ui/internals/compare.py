"""Two predictions beside each other: another prompt, or the same model before training."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from gpt.checkpoints.sources import random_source
from gpt.internals.run import Run
from gpt.internals.surprise import foreseen, loss
from gpt.internals.two_predictions import Comparison, compare_predictions
from gpt.ui.internals.figures import paired_bars, paired_dots
from gpt.ui.internals.lab import Lab, Progress, State
from gpt.ui.internals.sections import Page, Section, modelled
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "The chosen position beside another prediction: the same model after other words, or this very "
    "configuration untrained. Change one word and see what it is worth; take the training away "
    "and see what is left."
)
PROMPT, UNTRAINED = WAYS = ("another prompt, this model", "this prompt, the model untrained")
OTHER = "Once upon a time there was a big"
# Not 123: the book's untrained model has that seed, and would be compared with itself.
SEED = 124
TOP = 10
FAINT = 0.01


def other_state(
    lab: Lab, state: State, way: str, prompt: str, position: float, progress: Progress | None = None
) -> State:
    """The state of what the visit is compared with. Raises what `Lab.read` raises."""
    if way == PROMPT:
        return lab.read(
            state["source"], prompt, int(-1 if position is None else position), progress
        )
    twin = random_source(lab.registry.config_of(state["source"]), SEED)
    other = {**state, "source": twin}
    lab.run(other, progress)
    return other


def comparison_views(lab: Lab, state: State, other: State, way: str) -> tuple[str, go.Figure, str]:
    """Both predictions at their positions: a sentence, bars, a table."""
    runs = lab.run(state), lab.run(other)
    result = compare_predictions(
        runs[0].logits[state["position"]].cpu(), runs[1].logits[other["position"]].cpu(), TOP
    )
    names = ("this prompt", "the other") if way == PROMPT else ("trained", "untrained")
    if way != PROMPT and state["source"].startswith("random:"):
        names = ("this model", f"seed {SEED}")
    what = f"After position {state['position']} here and {other['position']} there"
    losses = [_loss(run) for run in runs]
    words, figure, table = pair_views(lab, result, names, what, "comparison")
    return words + say(f"Loss on the prompt: {losses[0]} here, {losses[1]} there."), figure, table


def pair_views(
    lab: Lab, result: Comparison, names: tuple[str, str], what: str, file: str
) -> tuple[str, go.Figure, str]:
    """A comparison as a sentence, paired bars and a table; also used for ablations."""
    pairs = result.pairs
    labels = [lab.piece(pair.token_id)[:14] for pair in pairs]
    first, second = [pair.first for pair in pairs], [pair.second for pair in pairs]
    if min(max(first), max(second)) < FAINT:  # bars of one of them would be invisible
        figure = paired_dots(labels, first, second, names)
    else:
        figure = paired_bars(
            labels, [100 * p for p in first], [100 * p for p in second], names, "probability in %"
        )
    best = [min(pairs, key=lambda p: p.first_rank), min(pairs, key=lambda p: p.second_rank)]
    same = "the same" if result.same_best else "another"
    words = say(
        f"{what}: the best token is {same}: {lab.piece(best[0].token_id)} with "
        f"{percent(best[0].first)}, {lab.piece(best[1].token_id)} with "
        f"{percent(best[1].second)}. The two distributions share {percent(result.overlap)} of "
        "their mass."
    ) + formula(
        f"KL({names[0]} ‖ {names[1]}) = Σ p ln(p ÷ q)",
        f"{significant(result.divergence)} nats over the whole vocabulary; the best token gives "
        f"{_summand(best[0].first, best[0].second)} of it",
    )
    return words, figure, _table(lab, result, names, file)


def _table(lab: Lab, result: Comparison, names: tuple[str, str], file: str) -> str:
    return table_html(
        "The best tokens of both",
        ["token", "id", names[0], f"rank {names[0]}", names[1], f"rank {names[1]}"],
        [
            [
                lab.piece(p.token_id), f"{p.token_id:,}", percent(p.first), f"{p.first_rank:,}",
                percent(p.second), f"{p.second_rank:,}",
            ]
            for p in result.pairs
        ],
        csv_name=file,
        csv_rows=[
            [lab.piece(p.token_id), p.token_id, p.first, p.first_rank, p.second, p.second_rank]
            for p in result.pairs
        ],
        text_columns=(0,),
    )  # fmt: skip


def _summand(p: float, q: float) -> str:
    if p <= 0 or q <= 0:
        return "all"
    return f"{significant(p)} · ln({significant(p)} ÷ {significant(q)}) = " + significant(
        p * math.log(p / q)
    )


def _loss(run: Run) -> str:
    mean = loss(foreseen(run.logits, run.ids))
    return "none (a single token)" if mean is None else f"{significant(mean)} nats a token"


def build(page: Page) -> None:
    """The section: what to compare with, and a button, since it may load a model."""
    lab = page.lab
    with Section(page, "Compare: two prompts, or before training", "int-section-compare"):
        gr.Markdown(INTRO)
        way = gr.Radio(list(WAYS), value=PROMPT, label="Compare with", elem_id="int-cmp-way")
        with gr.Row():
            prompt = gr.Textbox(OTHER, label="Other prompt", elem_id="int-cmp-prompt", scale=3)
            position = gr.Number(-1, label="Position in it", precision=0, min_width=140,
                                 info="-1 is the last.", elem_id="int-cmp-position")  # fmt: skip
        start = gr.Button("Compare", elem_id="int-cmp-run")
        words = gr.HTML(say("Press Compare: it runs one more pass."), elem_id="int-cmp")
        plot = gr.Plot(label="Both predictions", elem_id="int-cmp-plot")
        table = gr.HTML(elem_id="int-cmp-table")

    @one_line_errors
    def run(
        state: State | None,
        way: str,
        prompt: str,
        position: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (gradio's way to ask for one)
    ) -> Any:
        if not state:
            raise ValueError("there is no pass yet: press “Run the pass” first.")
        other = other_state(lab, state, way, prompt, position, progress)
        return comparison_views(lab, state, other, way)

    start.click(run, [page.state, way, prompt, position], [words, plot, table], **modelled())
