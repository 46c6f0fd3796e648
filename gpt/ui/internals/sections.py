"""The frame of a section: an accordion that computes when it is opened and stays current."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpt.ui.internals.lab import Lab, State
from gpt.ui.parts.errors import one_line_errors

# A view that is drawn again would drop the keyboard's focus: it goes back to the same KEY.
KEEP_FOCUS_JS = """
let focused = null;
element.addEventListener('focusin', (event) => {
  const button = event.target.closest('[KEY]');
  focused = button && button.getAttribute('KEY');
});
element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = null; });
watch('value', () => {
  if (focused === null || document.activeElement !== document.body) return;
  element.querySelector(`[KEY="${focused}"]`)?.focus({preventScroll: true});
});
"""
EMPTY = '<p class="note">Press “Run the pass” above: this fills itself from that one pass.</p>'
TURNS = itertools.count(1)


@dataclass(frozen=True)
class Page:
    """What every section of the tab shares."""

    lab: Lab
    state: gr.State  # a lab.State, or None before the first run

    def limit(self, control: gr.Number, field: str) -> None:
        """Keep `control`, an index, below the configuration's `field` when the model changes."""

        def fit(state: State | None, value: float | None) -> Any:
            if not state:
                return gr.skip()
            highest = getattr(self.lab.registry.config_of(state["source"]), field) - 1
            return gr.Number(maximum=highest, value=at_most(value, highest + 1))

        self.state.change(fit, [self.state, control], control, **quiet())


class Section:
    """A titled accordion; `with section:` lays out its content, `wire` keeps it current."""

    def __init__(self, page: Page, title: str, elem_id: str, opened: bool = False) -> None:
        self.page = page
        self.opened = gr.State(opened)
        self.accordion = gr.Accordion(title, open=opened, elem_id=elem_id)

    def __enter__(self) -> Section:
        self.accordion.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.accordion.__exit__(*error)
        self.accordion.expand(lambda: True, None, self.opened, **quiet())
        self.accordion.collapse(lambda: False, None, self.opened, **quiet())

    def wire(
        self,
        render: Callable[..., Any],
        controls: Sequence[gr.components.Component],
        outputs: Sequence[gr.components.Component],
        with_model: bool = False,
    ) -> gr.events.Dependency:
        """Call `render(state, *control values)` when opened or when anything changes.

        Nothing is computed while the section is closed or before the first run. `with_model`
        marks a reading that computes with the weights: it takes its turn among model events, and
        a closed section asks for no turn. All others read the stored pass without a limit; with
        no controls, whose values may be refused in the queue's one line, they do not queue at all.
        A generator function streams. The result is the event, to be cancelled by name.
        """
        page = self.page

        def refresh(values: dict[Any, Any]) -> Any:
            if not values[self.opened] or not values[page.state]:
                return gr.skip()
            return render(values[page.state], *[values[control] for control in controls])

        def stream(values: dict[Any, Any]) -> Any:
            if not values[self.opened] or not values[page.state]:
                yield gr.skip()
            else:
                yield from render(values[page.state], *[values[control] for control in controls])

        changes = [self.opened.change, page.state.change, *[control.change for control in controls]]
        return gr.on(
            [self._turn(changes).change] if with_model else changes,
            one_line_errors(stream if inspect.isgeneratorfunction(render) else refresh),
            {self.opened, page.state, *controls},
            list(outputs),
            trigger_mode="always_last",
            **(modelled() if with_model else quiet()),
            queue=with_model or bool(controls),
        )

    def _turn(self, changes: Sequence[Any]) -> gr.State:
        """A state that changes when something did while the section is open and has a pass.

        It goes through the queue, without a limit: gradio tells the page of a changed state only
        after a queued event.
        """
        turn = gr.State(0)
        asked = [self.opened, self.page.state]
        gr.on(changes, next_turn, asked, turn, trigger_mode="always_last", **quiet())
        return turn


def next_turn(opened: bool, state: State | None) -> Any:
    """A number never given before, or nothing if there is nothing to compute."""
    return next(TURNS) if opened and state else gr.skip()


def cancellable(views: Iterator[tuple[Any, ...]], outputs: int) -> Iterator[tuple[Any, ...]]:
    """`views`, each with one more output: the Cancel button, of use until the last one is out."""
    ended = (*[gr.skip()] * outputs, gr.update(interactive=False))
    try:
        for view in views:
            yield (*view, gr.update(interactive=True))
    except Exception:
        yield ended
        raise
    yield ended


def at_most(index: float | None, count: int) -> int:
    """`index` as a whole number, or the last of `count` if there are not so many."""
    return min(max(int(index or 0), 0), count - 1)


def quiet() -> dict[str, Any]:
    """Options of an event that only reads what is there: unlimited, unannounced, private."""
    return {
        "api_visibility": "private",
        "concurrency_limit": None,
        "show_progress": "hidden",
    }


def modelled() -> dict[str, Any]:
    """Options of an event that computes with a model: one at a time, and it says it is busy."""
    return {"api_visibility": "private", "concurrency_id": "model", "show_progress": "minimal"}
