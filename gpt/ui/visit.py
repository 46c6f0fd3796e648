"""What a visitor looks at, as one small state of plain values that all tabs share."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from gpt.sampling import SamplingOptions

AT_ONCE: dict[str, Any] = {  # options of an event in which nothing is computed
    "api_visibility": "private", "queue": False, "show_progress": "hidden"
}  # fmt: skip
# Where two functions hear one event ("always_last" for both would never end), and for what reads
# its event: gradio's page repeats an "always_last" event with the first one's data.
EACH = {**AT_ONCE, "trigger_mode": "multiple"}
# What computes, beside others: gradio's queue streams it, and nobody waits for a place there.
IN_QUEUE: dict[str, Any] = {
    "api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"
}  # fmt: skip
MOST_STEERED = 500  # tokens of one text, as many as it may have
MOST_MODELS = 8  # of a visitor's own, in the pickers


@dataclass(frozen=True)
class Visit:
    """The text of Generation and the token chosen in it: enough to write the same text again.

    Positions in `steering` count new tokens from 0; `position` and `ids` count from the prompt's
    first token. `ids` are what was written, and no part of a link: writing it again finds them.
    """

    model: str = ""
    prompt: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)  # those that are not the default
    seed: int | None = None  # the one that was drawn; None: nothing was written
    steering: tuple[tuple[int, int], ...] = ()  # (position, token id) that the visitor chose
    tokens: int | None = None  # new ones that are shown
    position: int | None = None  # of the token chosen in the text
    ids: tuple[int, ...] = ()


def steering_of(pairs: Any) -> tuple[tuple[int, int], ...]:
    """`pairs` as tuples, by position. Raises ValueError as SamplingOptions does."""
    if isinstance(pairs, (list, tuple)) and len(pairs) > MOST_STEERED:
        raise ValueError(f"steering has {len(pairs):,} pairs: use at most {MOST_STEERED}.")
    with contextlib.suppress(TypeError, ValueError):  # what is no pair is refused as it is
        pairs = tuple(sorted((at, token) for at, token in pairs))
    return SamplingOptions(steering=pairs).steering


def opening_of(component: Any) -> Callable[..., Any]:
    """The event of showing the tab that `component` is in, by a click or by an update.

    A component's own `load` comes for hidden tabs too, when the page is opened.
    """
    block = component.parent
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    return component.load if block is None else block.select


def take_any(box: gr.Dropdown) -> None:
    """The box's handlers decide on its value, also of a page whose choices gradio has forgotten.

    It does at a restart and for newer visitors. What an event has among its outputs, gradio builds
    anew for that page, from the arguments; the page has the first, whose box takes no other text.
    """
    box.preprocess = str
    box.constructor_args["allow_custom_value"] = True


class Visitor:
    """What the server keeps of one page; `Shared.visitor` hands out the object itself."""

    def __init__(self) -> None:
        self.visit = Visit()
        self.models: list[tuple[str, str]] = []  # label and source of those made here, newest last
        self.training: Mapping[str, Any] = {}  # settings of Train that are not the default


class Shared:
    """What the tabs of a page share: the visitor, the row of tabs, and the pickers of models.

    `blocks` has the events of the page itself, `load` and `unload`.
    """

    def __init__(self) -> None:
        self.visitor = gr.State(Visitor())
        self.tabs = gr.Tabs()
        self.blocks: gr.Blocks = self.tabs.parent
        self.pickers: dict[gr.Dropdown, list[Any]] = {}  # and the choices of their own

    def add_picker(self, picker: gr.Dropdown) -> None:
        """From now on `use_model` changes this one too; the registry knows what there is."""
        take_any(picker)
        self.pickers[picker] = list(picker.choices)

    def relabel(self, labels: Mapping[str, str]) -> dict[Any, Any]:
        """Updates of pickers with labels that have changed since the page was built: downloaded."""
        for picker, own in self.pickers.items():
            self.pickers[picker] = [(labels.get(name, label), name) for label, name in own]
        return {p: gr.update(choices=own) for p, own in self.pickers.items() if own != p.choices}

    def use_model(self, visitor: Visitor, label: str, source: str) -> dict[Any, Any]:
        """Updates: all pickers choose a model that this visitor made, and Generation is shown.

        Its outputs are `tabs` and `pickers`. Only name and label are kept, never weights.
        """
        others = [pair for pair in visitor.models if pair != (label, source)]
        visitor.models = [*others, (label, source)][-MOST_MODELS:]
        return {self.tabs: gr.update(selected="generation")} | {
            picker: gr.update(choices=[*own, *visitor.models], value=source)
            for picker, own in self.pickers.items()
        }
