"""The Internals tab: one traced pass from text to the next token, and readings of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from gpt.internals.run import resolve_position
from gpt.tokenizer import Tokenizer
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
from gpt.ui.parts.errors import one_line_errors

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
    gr.Markdown(INTRO)
    with gr.Row():
        prompt = gr.Textbox(
            PROMPT, label="Prompt", lines=2, elem_id="int-prompt", scale=3, min_width=260,
            info=f"At most {MAX_TOKENS} tokens. Shift and Enter runs it too.",
        )  # fmt: skip
        model = _picker(registry, source)
    run = gr.Button("Run the pass", variant="primary", elem_id="int-run")
    message = gr.HTML(elem_id="int-message")
    chips = gr.HTML(EMPTY, elem_id="int-chips", js_on_load=CHIP_JS)
    position = gr.Number(
        -1, label="Position", precision=0, elem_id="int-position",
        info="Whose prediction to look at: 0 is the first token, -1 the last. "
        "Clicking a token above does the same.",
    )  # fmt: skip
    state = gr.State(None)
    bars, views = _sections(Page(lab, state))
    gr.on(
        [run.click, prompt.submit],
        _internals(lab),
        [prompt, position, bars, model],
        [gr.JSON(visible=False), *views, message, state],
        api_name="internals",
        concurrency_id="model",
    )
    state.change(lambda visit: prompt_chips(lab, visit), state, chips, **quiet(), queue=False)
    position.change(one_line_errors(move), [state, position], state, **quiet())
    chips.select(clicked_position, None, position, **quiet(), queue=False)
    return model


def _picker(registry: Any, source: str | None) -> gr.Dropdown:
    """The models that the registry has, and `source` chosen even if it is not one of them."""
    choices = [(known.label, known.name) for known in registry.sources()]
    source = choices[0][1] if source is None else source
    if source not in [name for _, name in choices]:
        choices.insert(0, (source, source))
    return gr.Dropdown(
        choices, value=source, label="Model", elem_id="int-model", scale=2, min_width=260,
        info="Loaded when the pass runs.",
    )  # fmt: skip


def _sections(page: Page) -> tuple[gr.Slider, list[gr.components.Component]]:
    """All sections from text to choice; what is left are the bars' number and the first views."""
    position_section.build(page)
    residual.build_embeddings(page)
    attention.build(page)
    residual.build(page)
    lens.build(page)
    bars, views = logits.build(page)
    ledger.build(page)
    choice.build(page)
    mattered.build(page)
    ablation.build(page)
    compare.build(page)
    shapes.build(page)
    return bars, views


def _internals(lab: Lab) -> Callable[..., Any]:
    """The handler of a run, which is the endpoint `/internals` too: its names are public."""

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

    return internals


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
