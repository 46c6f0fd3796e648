"""All sections of the tab: laid out in order, filled from top to bottom, wired in one place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio.to_thread
import gradio as gr
from gradio.components import Component

from gpt.ui.internals.folds import code_html
from gpt.ui.internals.lab import Lab, Visit, at_most
from gpt.ui.internals.section import Action, Desk, OfModel, Panel, Section, Values
from gpt.ui.parts.sentences import say

EMPTY = say("Press “Look inside” above: this is read from that one pass.", "note")
# No event waits for another visitor's in gradio's queue: `SectionList.lane` is where they wait.
EVENT: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None}
QUIET: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


class SectionList:
    """The sections on the page; must be made where they shall stand.

    Handlers are asynchronous, so that one that waits holds no thread; views run in threads.
    """

    def __init__(self, lab: Lab, sections: Sequence[Section], desk: gr.State) -> None:
        self.lab, self.desk = lab, desk
        self.lane = asyncio.Semaphore(1)  # one computation with a model at a time, in order
        self.panels: list[Panel] = []
        self.actions: list[Panel] = []
        for section in sections:
            elem_id = f"int-section-{section.key}"
            with gr.Accordion(section.title, open=section.opened, elem_id=elem_id) as accordion:
                panel = Panel(section)
                self._wire(section, panel, accordion)
                if section.action:
                    self._wire_action(section.action, Panel(section.action))
                gr.HTML(code_html(section.code), elem_id=f"int-code-{section.key}")
            self.panels.append(panel)

    @property
    def controls(self) -> set[Component]:
        return {control for panel in self.panels for control in panel.controls.values()}

    @property
    def outputs(self) -> set[Component]:
        """Everything that a changed visit may change."""
        panels = [*self.panels, *self.actions]
        shown = {output for panel in panels for output in panel.all_outputs}
        return shown | {box for box, _ in self._of_model()}

    async def filled(self, desk: Desk, visit: Visit, turn: int) -> AsyncIterator[Values]:
        """What the open sections show of `visit`: those that only read, then the others.

        Ends early, between two steps, when the visitor has moved on and `turn` is over.
        """
        for needs_model in (False, True):
            for panel in self.panels:
                section = panel.spec
                if section.view is None or section.needs_model != needs_model:
                    continue
                if section.key in desk.open:
                    async for shown in self.filling(panel, desk, visit, turn):
                        yield shown

    async def filling(
        self, panel: Panel, desk: Desk, visit: Visit, turn: int
    ) -> AsyncIterator[Values]:
        """One panel's part of it, unless something newer fills the same panel."""
        key = panel.spec.key
        alone = isinstance(panel.spec, Action) or panel.spec.needs_model
        newest = (turn, desk.fills.get(key, 0) + 1)
        desk.fills[key] = newest[1]
        async with self.lane if alone else contextlib.nullcontext():
            steps = panel.fill(self.lab, desk, visit)
            while (desk.turn, desk.fills[key]) == newest:
                shown = await anyio.to_thread.run_sync(next, steps, None)
                async with desk.sending:
                    if shown is None or (desk.turn, desk.fills[key]) != newest:
                        break
                    yield shown

    def former(self, desk: Desk) -> Values:
        """Results of actions say that they are of another visit; they are not computed again."""
        said: Values = {}
        for panel in self.actions:
            if panel.spec.key in desk.shown:
                said |= panel.blank(_former(panel.spec))
        desk.shown.clear()
        return said

    def choices(self, desk: Desk, visit: Visit) -> Values:
        """The layers and heads of the visit's model, the chosen one kept where there is such."""
        cfg = self.lab.registry.config_of(visit.source)
        updates: Values = {}
        for box, field in self._of_model():
            count = getattr(cfg, field)
            desk.values[box] = at_most(desk.values[box], count)
            updates[box] = gr.update(choices=list(range(count)), value=desk.values[box])
        return updates

    def blank(self) -> Values:
        """Nothing in any section, as before the first pass."""
        panels = [*self.panels, *self.actions]
        return {o: nothing for panel in panels for o, nothing in panel.blank(EMPTY).items()}

    def _of_model(self) -> list[tuple[Component, str]]:
        return [
            (panel.controls[name], make.count)
            for panel in self.panels
            for name, make in panel.spec.controls.items()
            if isinstance(make, OfModel)
        ]

    def _wire(self, section: Section, panel: Panel, accordion: gr.Accordion) -> None:
        """One event computes the section: it was opened, or one of its controls changed."""
        if section.view is None:
            return
        triggers = [accordion.expand, *[_changes(c) for c in panel.controls.values()]]

        async def show(values: Values) -> AsyncIterator[Values]:
            desk = values.pop(self.desk)
            desk.open.add(section.key)
            desk.values |= values
            if desk.visit is None:
                yield panel.blank(EMPTY)
                return
            async for shown in self.filling(panel, desk, desk.visit, desk.turn):
                yield shown

        async def pick(values: Values, event: gr.EventData) -> AsyncIterator[Values]:
            picked = {name: getattr(event, name) for name in section.picks}
            values[self.desk].picked[section.key] = picked
            async for shown in show(values):
                yield shown

        wired: dict[str, Any] = {
            "inputs": {self.desk, *panel.controls.values()},
            "outputs": panel.all_outputs,
            "show_progress": "minimal" if section.needs_model else "hidden",
            "show_progress_on": panel.outputs[0],
            **EVENT,
        }
        gr.on(triggers, show, trigger_mode="always_last", **wired)
        if section.picks:  # "always_last" would repeat the first pick of two
            panel.outputs[0].select(pick, trigger_mode="multiple", **wired)
        accordion.collapse(
            lambda desk: self._closed(desk, panel), self.desk, panel.all_outputs, **QUIET
        )
        if panel.cancel:
            self._wire_cancel(panel)
        if section.defaults:
            boxes = [panel.controls[name] for name in section.defaults]
            panel.button.click(lambda: list(section.defaults.values()), None, boxes, **QUIET)

    def _closed(self, desk: Desk, panel: Panel) -> Values:
        desk.open.discard(panel.spec.key)
        return panel.blank("")

    def _wire_action(self, action: Action, panel: Panel) -> None:
        """The button computes once; nothing else does."""
        self.actions.append(panel)

        async def act(values: Values) -> AsyncIterator[Values]:
            desk = values.pop(self.desk)
            desk.values |= values
            visit = desk.visit
            if visit is None:
                yield panel.blank(EMPTY)
                return
            async for shown in self.filling(panel, desk, visit, desk.turn):
                yield shown
            if desk.visit != visit:
                yield panel.blank(_former(action))
            else:
                desk.shown.add(action.key)

        panel.button.click(
            act,
            {self.desk, *panel.controls.values()},
            panel.all_outputs,
            show_progress_on=panel.outputs[0],
            **EVENT,
        )
        if panel.cancel:
            self._wire_cancel(panel)

    def _wire_cancel(self, panel: Panel) -> None:
        """The flag is read between two steps, so that only this panel stops."""
        key = panel.spec.key
        panel.cancel.click(lambda desk: desk.cancelled.add(key), self.desk, None, **QUIET)


def _former(action: Action) -> str:
    return say(f"{action.what} was of the former pass: press “{action.button}” again.", "note")


def _changes(control: Component) -> Callable[..., Any]:
    """The event of a change: a pass sets layers and heads, all else is the visitor's to set."""
    return control.input if isinstance(control, gr.Dropdown) else control.change
