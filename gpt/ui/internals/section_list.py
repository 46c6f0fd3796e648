"""All sections of the tab: laid out in order, filled from top to bottom, wired in one place."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync

from gpt.ui.internals.lab import Focus, Lab, at_most
from gpt.ui.internals.section import OF_MODEL, Desk, Panel, Section, Values
from gpt.ui.parts.errors import is_mistake, message_of, of_event
from gpt.ui.parts.sentences import say
from gpt.ui.visit import AT_ONCE, IN_QUEUE

EMPTY = say("Press “Look inside” above: this is read from that one pass.", "note")
# Seconds for which what is ready waits for more, at first and then: a message costs the page a
# tenth of a second, whatever it brings, and more where the machine is busy.
SOON, LATER = 0.25, 1.0
Ready = dict[str, tuple[int, Values]]  # by section: which of its fills, what it shows


def rail_html(stops: Mapping[str, Sequence[Section]]) -> str:
    """The stops in the order of the pass: a button goes to the first section of one; HTML."""
    buttons = "".join(
        f'<button type="button" data-section="{sections[0].key}">{escape(name)}</button>'
        for name, sections in stops.items()
    )
    return f'<nav class="rail" aria-label="Sections in the order of the pass">{buttons}</nav>'


class SectionList:
    """The sections on the page; must be made where they shall stand.

    Handlers are asynchronous, so that one that waits holds no thread; views run in threads.
    """

    def __init__(self, lab: Lab, sections: Sequence[Section], desk: gr.State) -> None:
        self.lab, self.desk = lab, desk
        self.lane = asyncio.Semaphore(1)  # one computation with a model at a time, in order
        self.panels = {section.key: Panel(section) for section in sections}
        panels = self.panels.values()
        # Everything that a changed focus may change.
        self.outputs = {each for panel in panels for each in panel.outputs}
        named = [(name, box) for panel in panels for name, box in panel.controls.items()]
        self.controls = {box for _, box in named}
        self.of_model = {box: OF_MODEL[name] for name, box in named if name in OF_MODEL}
        for panel in panels:
            self._wire(panel)

    def filled(
        self, desk: Desk, first: Values, among: Collection[str] | None = None
    ) -> AsyncIterator[Values]:
        """`first`, then what the open sections show: those that only read, then the others.

        Of all open ones those `among` these; the others when they come into view. Results of
        buttons say that they are of another focus; they are not computed again.
        """
        desk.late, ready = set(), {"": (0, first)}
        for key, panel in self.panels.items():
            button = panel.spec.button
            if not button and key in desk.open:
                desk.late.add(key)
            elif button and desk.fills[key]:
                ready[key] = desk.fills[key], panel.former()
        return self.filling(desk, desk.open if among is None else among, ready)

    async def come_into_view(self, values: Values, event: gr.EventData) -> AsyncIterator[Values]:
        """What came into view by scrolling shows the focus's position."""
        desk = values[self.desk]
        told, seen = of_event(event, "told"), of_event(event, "sections", frozenset)
        if told > desk.told:
            desk.told, desk.in_view = told, seen
        async for shown in self.filling(desk, seen):
            yield shown

    async def filling(
        self, desk: Desk, among: Collection[str], ready: Ready | None = None
    ) -> AsyncIterator[Values]:
        """What is `ready`, then what the late ones `among` these sections show.

        What is ready soon comes in one message, without what something newer fills, and nothing
        once the turn is over.
        """
        turn, ready, wait = desk.turn, ready or {}, SOON
        work = asyncio.ensure_future(self._fill(desk, turn, among, ready))
        try:
            while ready or not work.done():
                await asyncio.wait([work], timeout=wait)
                wait = LATER
                async with desk.sending:
                    message: Values = {}
                    for key, (fill, shown) in ready.items():
                        if desk.turn == turn and desk.fills[key] == fill:
                            message |= shown
                    ready.clear()
                    if message:
                        yield message
            # Gradio sends the last message once more when the event ends, then maybe after a newer
            # event's: it shall say nothing.
            yield gr.skip()
            work.result()
        finally:
            work.cancel()  # the page was closed, if there is work left

    async def _fill(self, desk: Desk, turn: int, among: Collection[str], ready: Ready) -> None:
        """Fills `ready` with what the late ones show, a step at a time, until `turn` is over.

        Raises the fault of a section, which is said there, when the others are filled.
        """
        focus, fault = desk.focus, None
        for key, panel in sorted(self.panels.items(), key=lambda item: item[1].spec.needs_model):
            if desk.turn != turn:
                break
            if key not in desk.late or key not in among:
                continue
            desk.late.remove(key)
            fill = desk.fills[key] = desk.fills[key] + 1
            async with self.lane if panel.spec.needs_model else contextlib.nullcontext():
                steps = panel.fill(self.lab, desk, focus)
                try:
                    while (desk.turn, desk.fills[key]) == (turn, fill):
                        if (shown := await run_sync(next, steps, None)) is None:
                            break
                        ready[key] = fill, shown
                except Exception as error:
                    ready[key] = fill, panel.showing(say(message_of(error), "note"))
                    fault = fault if is_mistake(error) else error
        if fault:
            raise fault

    def choices(self, desk: Desk, focus: Focus) -> Values:
        """The layers and heads of the focus's model, the chosen one kept where there is such."""
        cfg = self.lab.registry.config_of(focus.source)
        counts = {box: getattr(cfg, name) for box, name in self.of_model.items()}
        return {
            box: gr.update(choices=list(range(count)), value=at_most(desk.values[box], count))
            for box, count in counts.items()
        }

    def blank(self, desk: Desk) -> Values:
        """Nothing in any section, as before the first pass."""
        desk.late.clear()
        desk.fills.clear()
        desk.awaited = False
        return {o: said for p in self.panels.values() for o, said in p.showing(EMPTY).items()}

    def _wire(self, panel: Panel) -> None:
        """One event computes the section: it was opened, something was picked in it, one of its
        controls changed, or, where it has a button, that was pressed.
        """
        section = panel.spec

        async def show(values: Values) -> AsyncIterator[Values]:
            desk = values.pop(self.desk)
            desk.values |= values
            if not section.button and section.key not in desk.open:  # set by another tab
                yield gr.skip()
            elif desk.focus is None:
                yield gr.skip() if desk.awaited and not section.button else panel.showing(EMPTY)
            else:
                desk.late.add(section.key)
                turn = desk.turn
                async for shown in self.filling(desk, {section.key}):
                    yield shown
                if section.button and desk.turn != turn and desk.focus:  # it was cut short
                    yield panel.former()

        async def expand(values: Values) -> AsyncIterator[Values]:
            values[self.desk].open.add(section.key)
            async for shown in show(values):
                yield shown

        async def pick(values: Values, event: gr.EventData) -> AsyncIterator[Values]:
            picked = {name: of_event(event, name) for name in section.picks}
            values[self.desk].picked[section.key] = picked
            async for shown in show(values):
                yield shown

        async def collapse(desk: Desk) -> Values:
            desk.open.discard(section.key)
            desk.late.discard(section.key)
            return panel.showing("")

        wired: dict[str, Any] = {
            **IN_QUEUE,
            "inputs": {self.desk, *panel.controls.values()},
            "outputs": panel.outputs,
            "show_progress": "minimal" if section.needs_model else "hidden",
            "show_progress_on": panel.output,
        }
        if panel.cancel:  # the flag is read between two steps, so that only this panel stops
            panel.cancel.click(
                lambda desk: desk.cancelled.add(section.key), self.desk, None, **AT_ONCE
            )
        if section.button:
            panel.button.click(show, **wired)
            return
        panel.accordion.expand(expand, trigger_mode="always_last", **wired)
        panel.accordion.collapse(collapse, self.desk, panel.outputs, **AT_ONCE)
        if panel.controls:
            # A pass sets layers and heads; all else changes by the visitor, or by another tab.
            named = panel.controls.items()
            changes = [box.input if name in OF_MODEL else box.change for name, box in named]
            gr.on(changes, show, trigger_mode="always_last", **wired)
        if section.picks:  # "always_last" would repeat the first pick of two
            panel.output.select(pick, trigger_mode="multiple", **wired)
