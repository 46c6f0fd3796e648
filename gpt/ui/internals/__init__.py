"""The Internals tab: one traced pass from text to the next token, and readings of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.internals.run import resolve_position
from gpt.tokenizer import Tokenizer
from gpt.ui.errors import one_line_errors
from gpt.ui.internals import (
    ablation,
    attention,
    choice,
    compare,
    ledger,
    lens,
    logits,
    mattered,
    residual,
    shapes,
)
from gpt.ui.internals import position as position_section
from gpt.ui.internals.lab import MAX_TOKENS, Lab, State
from gpt.ui.internals.prompt import CHIP_JS, prompt_chips, prompt_message
from gpt.ui.internals.sections import EMPTY, Page, quiet

INTRO = (
    "One pass of the model over your text, taken apart from the first token to the choice of the "
    "next one. Every number comes from that pass, in float32 and eval mode (no dropout). "
    f"At most {MAX_TOKENS} tokens."
)
PROMPT = "Once upon a time there was a little"


def build(registry: Any, tokenizer: Tokenizer, source: str | None = None) -> gr.Dropdown:
    """Lay out the tab and wire it; the result is the model picker, for other tabs to fill.

    `source` is the model chosen at first, the registry's first if None.
    """
    lab = Lab(registry, tokenizer)
    choices = [(known.label, known.name) for known in registry.sources()]
    source = choices[0][1] if source is None else source
    if source not in [name for _, name in choices]:
        choices.insert(0, (source, source))
    gr.Markdown(INTRO)
    with gr.Row():
        prompt = gr.Textbox(PROMPT, label="Prompt", lines=2, elem_id="int-prompt", scale=3)
        model = gr.Dropdown(
            choices,
            value=source,
            label="Model",
            elem_id="int-model",
            scale=2,
        )
    run = gr.Button("Run the pass", variant="primary", elem_id="int-run")
    message = gr.HTML(elem_id="int-message")
    chips = gr.HTML(EMPTY, elem_id="int-chips", js_on_load=CHIP_JS)
    position = gr.Number(
        -1,
        label="Position",
        info="Whose prediction to look at: 0 is the first token, -1 the last. "
        "Clicking a token above does the same.",
        precision=0,
        elem_id="int-position",
    )
    state = gr.State(None)
    shared = Page(lab, state)
    position_section.build(shared)
    residual.build_embeddings(shared)
    attention.build(shared)
    residual.build(shared)
    lens.build(shared)
    bars, views = logits.build(shared)
    ledger.build(shared)
    choice.build(shared)
    mattered.build(shared)
    ablation.build(shared)
    compare.build(shared)
    shapes.build(shared)
    result = gr.JSON(visible=False)

    @one_line_errors
    def internals(
        prompt: str,
        position: int = -1,
        top_k: int = 20,
        model: str = "",
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (gradio's way to ask for one)
    ) -> Any:
        visit = lab.read(model, prompt, _whole(position), progress)
        read = logits.read_logits(lab, visit, top_k)
        return read, *logits.views(read), prompt_message(lab, visit), visit

    run.click(
        internals,
        [prompt, position, bars, model],
        [result, *views, message, state],
        api_name="internals",
        concurrency_id="model",
    )
    state.change(lambda visit: prompt_chips(lab, visit), state, chips, **quiet())
    position.change(one_line_errors(move), [state, position], state, **quiet())
    chips.select(clicked_position, None, position, **quiet())
    return model


def clicked_position(event: gr.EventData) -> int:
    """The position of the chip that was clicked."""
    return int(event.position)


def move(state: State | None, position: float | None) -> Any:
    """The visit at another position; nothing happens before the first run.

    Raises ValueError if the prompt has no such position.
    """
    if not state:
        return gr.skip()
    return {**state, "position": resolve_position(_whole(position), len(state["ids"]))}


def _whole(position: float | None) -> int:
    return -1 if position is None else int(position)
