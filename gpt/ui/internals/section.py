"""A section of the tab as data, and the components of one on the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from gpt.ui.internals.folds import Code
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.parts.errors import BUG, is_mistake
from gpt.ui.parts.sentences import say

Make = Callable[[], Component]
Outputs = tuple[Make | tuple[Make, ...], ...]  # those of an inner tuple stand in one row
View = Callable[..., Any]  # (lab, visit, **controls)
Values = dict[Component, Any]  # what a handler gets, and what it yields


# What a visitor unfolded stays unfolded when the view is drawn again.
KEEP_UNFOLDED_JS = """
const unfolded = new Set(), titled = (fold) => fold.querySelector('summary').textContent;
element.addEventListener('toggle', ({target}) => {
  target.open ? unfolded.add(titled(target)) : unfolded.delete(titled(target));
}, true);
watch('value', () => element.querySelectorAll('details').forEach((fold) => {
  fold.open = unfolded.has(titled(fold));
}));
"""


def html(elem_id: str, value: str = "", js: str = "") -> Make:
    return partial(gr.HTML, value, elem_id=elem_id, js_on_load=KEEP_UNFOLDED_JS + js)


def plot(elem_id: str, label: str, wide: bool = False, visible: bool = True) -> Make:
    """`wide`: scrolls inside its box on a phone. Not `visible`: waits for its first value."""
    classes = "wide-plot" if wide else None
    return partial(
        gr.Plot, label=label, elem_id=elem_id, elem_classes=classes, visible=visible, min_width=340
    )


def token_box(elem_id: str, label: str = "Token") -> Make:
    info = "A token or its id; leave empty for the top one."
    return partial(gr.Textbox, label=label, elem_id=elem_id, info=info, min_width=240)


@dataclass(frozen=True)
class OfModel:
    """A dropdown of a model's layers or heads; its choices follow the model of the pass."""

    label: str
    count: str  # the field of GPTConfig
    elem_id: str

    def __call__(self) -> gr.Dropdown:
        return gr.Dropdown([0], value=0, label=self.label, elem_id=self.elem_id, min_width=110)


def layer_box(elem_id: str) -> OfModel:
    return OfModel("Layer", "n_layers", elem_id)


def head_box(elem_id: str) -> OfModel:
    return OfModel("Head", "n_heads", elem_id)


@dataclass(frozen=True)
class Action:
    """What a button of a section starts; its view is as a section's, computing with the model.

    `what` names the result, which is said to be of the former pass as soon as there is another.
    """

    button: str
    key: str  # the button's id
    what: str
    view: View
    outputs: Outputs
    controls: Mapping[str, Make] = field(default_factory=dict)
    cancel: str = ""


@dataclass(frozen=True)
class Section:
    """What the page needs to know of a section; how to add one stands in gpt/ui/__init__.py.

    `view(lab, visit, **controls)` gives a value for each output. With `cancel`, the id of a Cancel
    button, it is a generator of texts that say how far it is, and at last of these values. It is
    called when the section is opened, when one of its controls changes, and when the visit does
    while it is open. A ValueError that it raises is shown in the section as one line.
    """

    key: str
    rail: str  # the entry of the rail that it stands under; the first one with it is gone to
    title: str
    intro: str
    code: tuple[Code, ...]  # 5 to 15 lines in all that computed what is shown
    view: View | None = None
    outputs: Outputs = ()
    controls: Mapping[str, Make] = field(default_factory=dict)
    needs_model: bool = False  # computes with the weights: one visitor at a time, and last
    opened: bool = False  # at first
    picks: Mapping[str, Any] = field(default_factory=dict)  # what a click on the first output sets
    beside: bool = False  # the controls stand at the left of what they change
    defaults: Mapping[str, Any] = field(default_factory=dict)  # what a reset button sets
    cancel: str = ""
    action: Action | None = None


@dataclass
class Desk:
    """What the server knows of one page. Handlers share the object and change it in place."""

    open: set[str]  # keys of sections
    visit: Visit | None = None
    opened: bool = False  # the tab was, once
    written: Any = None  # of Generation, when the tab was last opened
    given: Visit | None = None  # what of it is looked at
    turn: int = 0  # counts looks and moves: an event of an earlier one has nothing more to say
    fills: dict[str, int] = field(default_factory=dict)  # how often each panel was filled
    values: Values = field(default_factory=dict)  # of every control, as last heard
    picked: dict[str, dict[str, Any]] = field(default_factory=dict)  # in a section, by clicks
    shown: set[str] = field(default_factory=set)  # actions whose result is on the page
    cancelled: set[str] = field(default_factory=set)
    # Held while a message is on its way: gradio prepares several at once, and a short one would
    # overtake the long one before it.
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    def next_turn(self) -> int:
        """The number of a new turn, which ends the one before."""
        self.turn += 1
        return self.turn


class Panel:
    """The components of a section or of an action, and how a view fills them."""

    def __init__(self, spec: Section | Action) -> None:
        self.spec = spec
        self.controls: dict[str, Component] = {}
        self.button: gr.Button | None = None
        self.cancel: gr.Button | None = None
        self.outputs: list[Component] = []
        if isinstance(spec, Section):
            gr.Markdown(spec.intro)
        if getattr(spec, "beside", False):
            with gr.Row(elem_classes="beside"):
                with gr.Column(scale=1, min_width=230):
                    self._lay_controls()
                with gr.Column(scale=3, min_width=300):
                    self._lay_outputs()
        else:
            with gr.Row():
                self._lay_controls()
            self._lay_outputs()

    def _lay_controls(self) -> None:
        spec = self.spec
        self.controls = {name: make() for name, make in spec.controls.items()}
        if isinstance(spec, Action):
            self.button = gr.Button(spec.button, elem_id=spec.key, min_width=140)
        elif spec.defaults:
            self.button = gr.Button(
                "Reset to defaults", elem_id=f"int-{spec.key}-reset", min_width=160
            )
        if spec.cancel:
            self.cancel = gr.Button("Cancel", elem_id=spec.cancel, min_width=100, visible=False)
        for control in self.controls.values():
            # Gradio's line about a number that is out of range does not name it; the views' do.
            control.preprocess = lambda value: value  # type: ignore[method-assign]

    def _lay_outputs(self) -> None:
        for made in self.spec.outputs:
            if isinstance(made, tuple):
                with gr.Row():
                    self.outputs += [make() for make in made]
            else:
                self.outputs.append(made())

    @property
    def all_outputs(self) -> list[Component]:
        return [*self.outputs, *([self.cancel] if self.cancel else [])]

    def fill(self, lab: Lab, desk: Desk, visit: Visit) -> Iterator[Values]:
        """What the view gives, or the one line that says what is wrong with a control."""
        fault = None
        try:
            yield from self._views(lab.using(visit.source), desk, visit)
        except Exception as error:
            fault = error
        if fault is not None:
            yield self.blank(say(str(fault) if is_mistake(fault) else BUG, "note"))
        if fault is not None and not is_mistake(fault):
            raise fault

    def _views(self, lab: Lab, desk: Desk, visit: Visit) -> Iterator[Values]:
        named = {name: desk.values[control] for name, control in self.controls.items()}
        named |= desk.picked.get(self.spec.key, getattr(self.spec, "picks", {}))
        views = self.spec.view(lab, visit, **named)
        if self.cancel is None:
            yield self._result(views)
            return
        desk.cancelled.discard(self.spec.key)
        for view in views:  # texts that say how far it is, then the result
            if isinstance(view, str):
                yield {**self.blank(view), self.cancel: gr.update(visible=True)}
            else:  # in one message: gradio loses a plot that comes to sight just before another
                yield {**self._result(view), self.cancel: gr.update(visible=False)}
            if self.spec.key in desk.cancelled:
                yield self.blank(say("Cancelled.", "note"))
                return

    def _result(self, views: Any) -> Values:
        views = views if isinstance(views, tuple) else (views,)
        return {
            output: gr.update(**_as_update(view)) if waits(output) else view
            for output, view in zip(self.outputs, views, strict=True)
        }

    def blank(self, words: str) -> Values:
        """`words` in the first output that holds text, and no other result."""
        empty: Values = {
            output: gr.update(value=None, visible=False) if waits(output) else None
            for output in self.outputs
        }
        if self.cancel is not None:
            empty[self.cancel] = gr.update(visible=False)
        said = next((output for output in self.outputs if isinstance(output, gr.HTML)), None)
        return empty if said is None else {**empty, said: words}


def waits(output: Component) -> bool:
    """Whether a component is on the page only while it has a value."""
    return output.visible is False


def _as_update(view: Any) -> dict[str, Any]:
    update = view if isinstance(view, dict) else {"value": view}
    return {**update, "visible": view is not None}
