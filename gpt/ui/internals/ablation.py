"""What if: one part of the model silenced, and a sweep over all heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import torch

from gpt.internals.ablation import Part, ablate, sweep_heads
from gpt.internals.two_predictions import compare_predictions
from gpt.serving.all_cores import each_on_all_cores, on_all_cores
from gpt.ui.internals.compare import pair_views
from gpt.ui.internals.figures import heat
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section, at_most, cancellable, modelled, quiet
from gpt.ui.internals.tables import say, table_html
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.parts.numbers import significant

INTRO = (
    "Silence one part and run the pass again: what it writes is replaced at every position, by "
    "zeros or by the mean of what it wrote there and at the positions before. What changes is what "
    "the part was for, here."
)
KINDS = {"one head": "head", "a feed-forward": "ff", "a whole layer": "layer"}
MODES = {"zeros": "zero", "its mean so far": "mean"}
TOP = 10


def ablation_views(
    lab: Lab, state: State, kind: str, layer: float, head: float, mode: str
) -> tuple[str, go.Figure, str]:
    """The prediction with and without a part: a sentence, bars of the top 10 of each, a table."""
    run, at = lab.run(state), state["position"]
    layer, head = at_most(layer, run.cfg.n_layers), at_most(head, run.cfg.n_heads)
    part = Part(KINDS.get(kind, kind), layer, head)
    how = MODES.get(mode, mode)
    without = lab.memo(state, "ablation", lambda: _ablated(lab, state, part, how), at, part, how)
    name = {"head": f"head {part.head} of layer {part.layer}"}.get(
        part.kind, f"{'the feed-forward of ' if part.kind == 'ff' else ''}layer {part.layer}"
    )
    result = compare_predictions(run.logits[at].cpu(), without, TOP)
    what = f"with and without {name} (replaced by {mode})"
    return pair_views(lab, result, ("with", "without"), f"At position {at}, {what}", "ablation")


def _ablated(lab: Lab, state: State, part: Part, mode: str) -> torch.Tensor:
    with lab.borrow(state) as model:
        return on_all_cores(ablate, model, lab.run(state), state["position"], part, mode).cpu()


def sweep_views(lab: Lab, state: State | None, query: str, mode: str) -> Iterator[tuple[Any, ...]]:
    """Progress a layer at a time, then the heat map of all heads and its table.

    Raises ValueError before the first run.
    """
    if not state:
        raise ValueError("there is no pass yet: press “Run the pass” first.")
    run, at = lab.run(state), state["position"]
    token_id = lab.token_id(state, query or "", int(run.logits[at].argmax()))
    changes: list[list[float]] = []
    with lab.borrow(state) as model:
        for layer, row in each_on_all_cores(
            sweep_heads(model, run, at, token_id, MODES.get(mode, mode))
        ):
            changes.append(row)
            done = f"Layer {layer + 1} of {run.cfg.n_layers} …"
            yield say(done), gr.skip(), gr.skip()
    rows = [f"layer {i}" for i in range(len(changes))]
    columns = [f"head {i}" for i in range(run.cfg.n_heads)]
    figure = heat(np.array(changes), rows, columns, ("", ""), "change of the logit", signed=True)
    ranked = sorted(
        ((change, layer, head) for layer, row in enumerate(changes) for head, change in
         enumerate(row)),
        key=lambda item: -abs(item[0]),
    )  # fmt: skip
    change, layer, head = ranked[0]
    words = say(
        f"Without head {head} of layer {layer} the logit of {lab.piece(token_id)} after position "
        f"{at} changes most, by {significant(change)} (logit without − logit with). Red: the head "
        "spoke for the token; blue: against it."
    )
    table = table_html(
        "All heads by effect",
        ["layer", "head", "change of the logit"],
        [[str(la), str(he), significant(c, 4)] for c, la, he in ranked],
        csv_name=f"head-sweep-position-{at}",
        csv_rows=[[la, he, c] for c, la, he in ranked],
    )
    yield words, figure, table


def build(page: Page) -> None:
    """The section: one part at a time on change; all heads on a button, with cancel."""
    lab = page.lab
    with Section(page, "What if: a part silenced", "int-section-ablation") as part:
        gr.Markdown(INTRO)
        with gr.Row():
            kind = gr.Radio(list(KINDS), value="one head", label="Silence", min_width=300,
                            elem_id="int-abl-kind")  # fmt: skip
            layer = gr.Number(0, label="Layer", precision=0, minimum=0, min_width=100,
                              elem_id="int-abl-layer")  # fmt: skip
            head = gr.Number(0, label="Head", precision=0, minimum=0, min_width=100,
                             elem_id="int-abl-head")  # fmt: skip
            mode = gr.Radio(list(MODES), value="zeros", label="Replace by", min_width=240,
                            elem_id="int-abl-mode")  # fmt: skip
        words = gr.HTML(EMPTY, elem_id="int-abl")
        plot = gr.Plot(label="Top 10 with and without", elem_id="int-abl-plot")
        table = gr.HTML(elem_id="int-abl-table")
        _build_sweep(page, mode)
    part.wire(
        lambda state, *v: ablation_views(lab, state, *v),
        [kind, layer, head, mode],
        [words, plot, table],
        with_model=True,
    )

    page.limit(layer, "n_layers")
    page.limit(head, "n_heads")


def _build_sweep(page: Page, mode: gr.Radio) -> None:
    lab = page.lab
    gr.Markdown("**All heads, one after the other**: the effect on one token's logit.")
    with gr.Row():
        query = gr.Textbox(label="Token", elem_id="int-sweep-token", min_width=240,
                           info="Text or id; empty is the best one here.")  # fmt: skip
        start = gr.Button("Sweep all heads", elem_id="int-sweep", min_width=140)
        cancel = gr.Button("Cancel", elem_id="int-sweep-cancel", min_width=100, interactive=False)
    swept = gr.HTML(elem_id="int-sweep-words")
    map_ = gr.Plot(label="Every head", elem_id="int-sweep-plot", elem_classes="wide-plot")
    ranks = gr.HTML(elem_id="int-sweep-table")

    @one_line_errors
    def sweep(state: State | None, query: str, mode: str) -> Iterator[tuple[Any, ...]]:
        yield from cancellable(sweep_views(lab, state, query, mode), 3)

    # Cancel is enabled first, for the run may have to wait its turn.
    event = start.click(
        lambda: gr.update(interactive=True), None, cancel, **quiet(), queue=False
    ).then(
        sweep,
        [page.state, query, mode],
        [swept, map_, ranks, cancel],
        **modelled(),
        trigger_mode="multiple",
    )
    ended = [say("Cancelled."), gr.update(interactive=False)]
    stopped = cancel.click(None, cancels=[event], queue=False, api_visibility="private")
    stopped.then(lambda: ended, None, [swept, cancel], **quiet())
