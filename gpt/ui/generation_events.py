"""What happens when a control of the Generation tab is used: which event runs what, and when."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.ui.generation_controls import (
    AUTO,
    DRAW_A_SEED,
    Example,
    GenerationControls,
    model_note,
    precision_note,
)

DEFAULTS = (120, 0.8, 0, 1, DRAW_A_SEED)  # max_new_tokens, temperature, top-k, top-p, seed


def wire(
    controls: GenerationControls, memory: gr.State, generate_text: Any, generate_untrained: Any
) -> None:
    c = controls
    buttons = [c.run, c.stop]
    outputs = [c.output, c.stats, c.tokens, memory]
    beside = [c.untrained_output, c.untrained_stats]
    running: list[Any] = []

    def chain(start: Any, api_name: str | None = None) -> None:
        visibility: Any = "public" if api_name else "private"
        first = start.then(
            generate_text,
            [*c.sampling(), memory],
            outputs,
            api_name=api_name,
            api_visibility=visibility,
            concurrency_id="model",
            concurrency_limit=1,
            # A run stopped while a model loads counts as pending until the load is over; with
            # the default of one at a time the page would drop the next run.
            trigger_mode="multiple",
        )
        second = first.success(
            generate_untrained,
            [
                c.beside_untrained,
                c.prompt,
                c.max_new_tokens,
                c.temperature,
                c.top_k,
                c.top_p,
                memory,
                c.device,
                c.model,
            ],
            beside,
            api_visibility="private",
            concurrency_id="model",
            trigger_mode="multiple",
        )
        first.failure(
            after_failure,
            [memory, c.model],
            [*buttons, c.model],
            api_visibility="private",
            queue=False,
        )
        second.then(idle, None, buttons, api_visibility="private", queue=False)
        running.extend([first, second])

    pressed = gr.on(
        [c.run.click, c.prompt.submit], busy, None, buttons, api_visibility="private", queue=False
    )
    chain(pressed, api_name="generate")
    settings = [c.prompt, c.model, c.max_new_tokens, c.temperature, c.top_k, c.top_p, c.seed]
    filled_in = [*settings, c.precision, *buttons]
    for example, button in c.examples:
        filled = button.click(
            lambda example=example: fill(example),
            None,
            filled_in,
            api_visibility="private",
            queue=False,
        )
        chain(filled)
    # Stop restores the buttons itself: after a cancel the rest of the chain does not run.
    c.stop.click(
        stopped,
        c.stats,
        [*buttons, c.stats],
        cancels=running,
        api_visibility="private",
        queue=False,
    )
    c.model.change(model_note, c.model, c.note, api_visibility="private", queue=False)
    gr.on(
        [c.model.change, c.precision.change, c.device.change],
        precision_note,
        [c.model, c.precision, c.device],
        c.precision_note,
        api_visibility="private",
        queue=False,
    )
    c.beside_untrained.change(
        lambda shown: [gr.update(visible=shown)] * 2,
        c.beside_untrained,
        beside,
        api_visibility="private",
        queue=False,
    )
    c.reset.click(
        lambda: [*DEFAULTS, AUTO],
        None,
        [*settings[2:], c.precision],
        api_visibility="private",
        queue=False,
    )


def busy() -> list[Any]:
    return [gr.update(visible="hidden"), gr.update(visible=True)]


def idle() -> list[Any]:
    return [gr.update(visible=True), gr.update(visible="hidden")]


def stopped(stats: str) -> list[Any]:
    return [*idle(), stats + '<p class="stats">Stopped: what was written stays.</p>']


def after_failure(memory: tuple[int, str, str], model: str) -> list[Any]:
    """A model that could not be loaded gives way to the last one that could."""
    _, loading, loaded = memory
    return [*idle(), loaded if loading and loaded else model]


def fill(example: Example) -> list[Any]:
    return [
        example.prompt,
        example.source,
        example.max_new_tokens,
        example.temperature,
        0,
        1,
        example.seed,
        example.precision,
        *busy(),
    ]
