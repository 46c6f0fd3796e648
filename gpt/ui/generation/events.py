"""What happens when a control of the Generation tab is used: which event runs what, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from gpt.generate import Step
from gpt.ui.generation.controls import (
    AUTO,
    DRAW_A_SEED,
    Example,
    GenerationControls,
    model_note,
    precision_note,
)

DEFAULTS = (120, 0.8, 0, 1, DRAW_A_SEED)  # max_new_tokens, temperature, top-k, top-p, seed
_AT_ONCE: dict[str, Any] = {"api_visibility": "private", "queue": False}  # nothing is computed


@dataclass
class Halt:
    """Of one run: whether Stop was pressed. The page's state holds the newest run's."""

    pressed: bool = False


class Memory(Protocol):
    """What the events read of generation.RunMemory."""

    loading: str
    loaded: str
    running: bool
    steps: Sequence[Step]


def wire(
    controls: GenerationControls,
    memory: gr.State,
    generate_text: Any,
    generate_untrained: Any,
    chips_of: Callable[[Sequence[Step]], str],
) -> None:
    """Every event of the tab, of two generators of updates and of what shows tokens as chips."""
    c = controls
    halt = gr.State(Halt())
    buttons = [c.run, c.stop, c.stopped]
    examples = {button._id: example for example, button in c.examples}
    starts = [c.run.click, c.prompt.submit, *[button.click for _, button in c.examples]]
    settings = [c.prompt, c.model, *_sampling(c), c.precision]

    def start(event: gr.EventData) -> list[Any]:
        example = examples.get(event.target._id)
        chosen = fill(example) if example else [gr.skip()] * len(settings)
        return [*chosen, *busy(), Halt()]

    # One chain for all of them: Gradio would cancel a second one's run that begins after Stop.
    pressed = gr.on(starts, start, None, [*settings, *buttons, halt], **_AT_ONCE)
    first = _chain(c, memory, halt, generate_text, generate_untrained, pressed)
    # Stop restores the buttons itself: the end of the cancelled run may come much later.
    c.stop.click(stopped, halt, buttons, cancels=first, **_AT_ONCE).then(
        lambda run: chips_after_stop(run, chips_of), memory, c.tokens, **_AT_ONCE
    )
    c.model.change(model_note, c.model, c.note, **_AT_ONCE)
    gr.on(
        [c.model.change, c.precision.change, c.device.change],
        precision_note,
        [c.model, c.precision, c.device],
        c.precision_note,
        **_AT_ONCE,
    )
    c.beside_untrained.change(
        lambda shown: [gr.update(visible=shown)] * 2, c.beside_untrained, _beside(c), **_AT_ONCE
    )
    c.reset.click(lambda: [*DEFAULTS, AUTO], None, [*_sampling(c), c.precision], **_AT_ONCE)


def _chain(
    c: GenerationControls,
    memory: gr.State,
    halt: gr.State,
    generate_text: Any,
    generate_untrained: Any,
    start: Any,
) -> Any:
    """The two runs that follow `start`, the second where it is wanted; the first is returned."""
    first = start.then(
        generate_text,
        [*c.sampling(), memory, halt],
        [c.output, c.stats, c.tokens, memory],
        api_name="generate",
        concurrency_id="model",
        concurrency_limit=1,
        # A run stopped while a model loads counts as pending until the load is over; with
        # the default of one at a time the page would drop the next run.
        trigger_mode="multiple",
    )
    settings = [c.prompt, c.max_new_tokens, c.temperature, c.top_k, c.top_p]
    second = first.success(
        generate_untrained,
        [c.beside_untrained, *settings, memory, c.device, c.model, halt],
        _beside(c),
        api_visibility="private",
        concurrency_id="model",
        trigger_mode="multiple",
    )
    asked = [memory, halt]
    first.failure(after_failure, [*asked, c.model], [c.run, c.stop, c.model], **_AT_ONCE)
    second.then(after_both, asked, [c.run, c.stop], **_AT_ONCE)
    return first


def _sampling(c: GenerationControls) -> list[Any]:
    """The controls that DEFAULTS has values for."""
    return [c.max_new_tokens, c.temperature, c.top_k, c.top_p, c.seed]


def _beside(c: GenerationControls) -> list[Any]:
    return [c.untrained_output, c.untrained_stats]


def busy() -> list[Any]:
    return [gr.update(visible="hidden"), gr.update(visible=True), gr.update(visible=False)]


def idle() -> list[Any]:
    return [gr.update(visible=True), gr.update(visible="hidden")]


def stopped(halt: Halt) -> list[Any]:
    """Both runs are told, too: Gradio forgets one that begins while another is being cancelled."""
    halt.pressed = True
    return [*idle(), gr.update(visible=True)]


def chips_after_stop(memory: Memory, chips_of: Callable[[Sequence[Step]], str]) -> Any:
    """The tokens of what a stopped run leaves; one that had ended before shows its own."""
    return chips_of(memory.steps) if memory.running else gr.skip()


def after_both(memory: Memory, halt: Halt) -> list[Any]:
    """The buttons after a run that came to its end; after a stopped one they may be the next's."""
    return [gr.skip(), gr.skip()] if memory.running or halt.pressed else idle()


def after_failure(memory: Memory, halt: Halt, model: str) -> list[Any]:
    """A model that could not be loaded gives way to the last one that could.

    Gradio calls a stopped run a failure too; its buttons are restored already.
    """
    if memory.running or halt.pressed:
        return [gr.skip()] * 3
    return [*idle(), memory.loaded if memory.loading and memory.loaded else model]


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
    ]
