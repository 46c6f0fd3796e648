"""What mattered: each prompt token's effect on one logit, measured in two ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from gpt.internals.attribution import Occluded, gradient_x_input, occlusion
from gpt.serving.all_cores import each_on_all_cores, on_all_cores
from gpt.ui.internals.figures import paired_bars
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import EMPTY, Page, Section, cancellable, quiet
from gpt.ui.internals.tables import formula, say, table_html
from gpt.ui.parts.numbers import percent, significant

INTRO = (
    "Two questions about one token's logit. **Gradient × input**: how would it move if a prompt "
    "token's embedding were scaled a little? **Occlusion**: how does it move if that embedding is "
    "zeroed and only its position stays? They differ where the model is far from linear."
)


def mattered_views(lab: Lab, state: State, query: str) -> Iterator[tuple[Any, Any, Any]]:
    """Progress in words, then the sentence, the two measures as bars, and the table."""
    run, at = lab.run(state), state["position"]
    token_id = lab.token_id(state, query or "", int(run.logits[at].argmax()))
    yield say("Gradient: one pass and one step back …"), gr.skip(), gr.skip()
    known: dict[int | None, Occluded] = {}
    key = (state["source"], tuple(state["ids"]), "mattered", at, token_id)
    found = lab.recall(key)
    if found is None:
        with lab.borrow(state) as model:
            gradient = on_all_cores(gradient_x_input, model, run, at, token_id).tolist()
            for i, occluded in each_on_all_cores(occlusion(model, run, at, token_id)):
                known[i] = occluded
                if len(known) % 8 == 1:
                    yield say(f"Occlusion: {len(known)} of {at + 2} …"), gr.skip(), gr.skip()
        found = (gradient, known)
        lab.remember(key, found)
    yield _views(lab, state, token_id, *found)


def _views(
    lab: Lab, state: State, token_id: int, gradient: list[float], known: dict[Any, Occluded]
) -> tuple[Any, Any, Any]:
    at, ids = state["position"], state["ids"]
    whole = known[None]
    drops = [whole.logit - known[i].logit for i in range(at + 1)]
    labels = [f"{i} {lab.piece(ids[i])[:10]}" for i in range(at + 1)]
    figure = paired_bars(
        labels, gradient, drops, ("gradient × input", "logit lost by occlusion"), "logit"
    )
    most = max(range(at + 1), key=lambda i: abs(drops[i]))
    verb = "lowers" if drops[most] > 0 else "raises"
    words = say(
        f"For {lab.piece(token_id)} (id {token_id:,}) after position {at}: occluding "
        f"{lab.piece(ids[most])} at position {most} {verb} its logit most, from "
        f"{significant(whole.logit, 4)} to {significant(known[most].logit, 4)}, and its "
        f"probability from {percent(whole.probability)} to {percent(known[most].probability)}."
    ) + formula(
        "gradient × input = Σ over dimensions of ∂logit/∂embedding · embedding; "
        "occlusion = logit − logit without",
        f"position {most}: {significant(gradient[most], 4)}; {significant(whole.logit, 4)} − "
        f"{significant(known[most].logit, 4)} = {significant(drops[most], 4)}",
    )
    table = _table(lab, state, token_id, gradient, drops, known, most)
    return words, figure, table


def _table(
    lab: Lab,
    state: State,
    token_id: int,
    gradient: list[float],
    drops: list[float],
    known: dict[Any, Occluded],
    most: int,
) -> str:
    at, ids = state["position"], state["ids"]
    rows = [
        [
            str(i),
            lab.piece(ids[i]),
            significant(gradient[i], 4),
            significant(drops[i], 4),
            percent(known[i].probability),
        ]
        for i in range(at + 1)
    ]
    exact = [
        [i, lab.piece(ids[i]), gradient[i], drops[i], known[i].probability] for i in range(at + 1)
    ]
    return table_html(
        f"Effect on the logit of {lab.piece(token_id)}",
        ["position", "token", "gradient × input", "logit lost", "probability without"],
        rows,
        csv_name=f"attribution-position-{at}",
        csv_rows=exact,
        text_columns=(1,),
        marked=[most],
    )


def build(page: Page) -> None:
    """The section: a token, the bars, the table, and a way to stop measuring."""
    with Section(page, "What mattered: which words moved it", "int-section-mattered") as part:
        gr.Markdown(INTRO)
        with gr.Row():
            query = gr.Textbox(
                label="Token", info="Text or id; empty is the best one here.",
                elem_id="int-mattered-token", min_width=240,
            )  # fmt: skip
            cancel = gr.Button(
                "Cancel", elem_id="int-mattered-cancel", min_width=120, interactive=False
            )
        words = gr.HTML(EMPTY, elem_id="int-mattered")
        plot = gr.Plot(label="Effect of each token", elem_id="int-mattered-plot")
        table = gr.HTML(elem_id="int-mattered-table")

    def measure(state: State, query: str) -> Iterator[tuple[Any, ...]]:
        yield from cancellable(mattered_views(page.lab, state, query), 3)

    event = part.wire(measure, [query], [words, plot, table, cancel], with_model=True)
    cancelled = say("Cancelled. Change the token or the position to measure again.")
    ended = [cancelled, gr.update(interactive=False)]
    stopped = cancel.click(None, cancels=[event], queue=False, api_visibility="private")
    stopped.then(lambda: ended, None, [words, cancel], **quiet())
