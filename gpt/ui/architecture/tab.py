"""The Architecture tab wired: figures that follow the controls, sections, one endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from gpt.ui.architecture import measured, parameters
from gpt.ui.architecture.controls import (
    FIELDS,
    configuration,
    field_updates,
    slider_update,
    suggestions,
    width_step,
)
from gpt.ui.architecture.endpoint import architecture
from gpt.ui.architecture.exchange import FORMATS, from_json
from gpt.ui.architecture.exercises import EXERCISES, Exercise
from gpt.ui.architecture.layout import Layout
from gpt.ui.architecture.presets import name_of, presets
from gpt.ui.architecture.tensor_strip import strip_html
from gpt.ui.architecture.views import PINNED, problem_html
from gpt.ui.architecture.workload import NAMES, workload_of
from gpt.ui.internals.tab import InternalsTab
from gpt.ui.parts.errors import is_mistake, mistake, of_event
from gpt.ui.parts.sentences import say
from gpt.ui.visit import AT_ONCE, EACH, opening_of

Values = dict[Any, Any]  # by component
# A few milliseconds each: never behind somebody's model run.
LIVE = {**AT_ONCE, "trigger_mode": "always_last"}


def build(registry: Any) -> Layout:
    """Lay out the tab and wire it; `show_tensors` and `offer.offer_to` connect other tabs."""
    page = Layout(presets(registry))
    _follow_controls(page)
    _follow_clicks(page)
    _set_controls(page)
    _measure(page)
    gr.api(architecture, api_name="architecture", concurrency_limit=None)
    form = page.inputs["format"]
    form.change(lambda form: gr.update(language=FORMATS[form]), form, page.views["export"], **EACH)
    _pin(page)
    return page


def _follow_controls(page: Layout) -> None:
    """A changed control recomputes the open sections, then the check.

    Gradio repeats an "always_last" event for all of its functions: two that wait for the last
    value would repeat one another without end, so each change has one, and the check follows.
    """

    def refresh(values: Values) -> Values:
        given = page.given(values)
        updates: Values = {page.inputs["emb_dim"]: gr.update(**width_step(given["n_heads"]))}
        updates |= {page.problem: "", page.wrong_load: ""}
        try:
            cfg = configuration(given)
        except ValueError as error:
            line = problem_html(mistake(error), suggestions(given["emb_dim"], given["n_heads"]))
            return updates | {page.problem: line}
        try:
            shown = page.shown(given, values[page.opened])
        except ValueError as error:  # of the workload, whose boxes are far below the picture
            line = problem_html(mistake(error), ())
            return updates | {page.problem: line, page.wrong_load: line}
        return {**updates, page.preset: name_of(cfg, page.named), **shown}

    refreshed = gr.on(
        [each.change for name, each in page.inputs.items() if name != "part"],
        refresh,
        {*page.inputs.values(), page.opened},
        [page.problem, page.wrong_load, page.preset, page.inputs["emb_dim"], *page.views.values()],
        **LIVE,
    )
    refreshed.then(_check, page.fields, page.check, **LIVE)
    opening_of(page.check)(_check, page.fields, page.check, **LIVE)


def _follow_clicks(page: Layout) -> None:
    """A section is computed when it is opened, a part of the picture when it is chosen.

    What is impossible is said beside the controls already.
    """

    def section_of(event: gr.EventData) -> str:
        return of_event(event, "target", page.sections.__getitem__)

    def expand(values: Values, event: gr.EventData) -> Values:
        key = section_of(event)
        values[page.opened].add(key)
        try:
            return page.shown(page.given(values), [key])
        except ValueError:
            return gr.skip()

    def collapse(opened: set[str], event: gr.EventData) -> None:
        opened.discard(section_of(event))

    chosen, picture = page.inputs["part"], [page.views["map"], page.views["part"]]

    def choose(values: Values, event: gr.EventData) -> Values:
        part = of_event(event, "part", str)
        try:
            shown = page.shown({**page.given(values), "part": part}, [""])
        except (ValueError, KeyError):  # or there is no such part
            return gr.skip()
        return {chosen: part, **{view: shown[view] for view in picture}}

    inputs, views = {*page.inputs.values(), page.opened}, [*page.views.values()]
    gr.on([each.expand for each in page.sections], expand, inputs, views, **EACH)
    gr.on([each.collapse for each in page.sections], collapse, page.opened, None, **EACH)
    page.part_chosen = page.views["map"].select(choose, inputs, [chosen, *picture], **EACH)


def show_tensors(page: Layout, inside: InternalsTab) -> None:
    """The chosen part's numbers in the pass of Internals, also when one comes back from there."""
    for heard in (page.part_chosen.then, opening_of(page.tensor)):
        heard(
            lambda desk, part: strip_html(inside.lab, desk.visit, part),
            [inside.desk, page.inputs["part"]], page.tensor, **EACH,
        )  # fmt: skip


def _check(*values: Any) -> Any:
    try:
        return parameters.check_html(configuration(dict(zip(FIELDS, values, strict=True))))
    except ValueError:
        return gr.skip()  # said beside the controls


def _set_controls(page: Layout) -> None:
    """Presets, reset, suggestions, exercises and imports all move the same controls."""
    fields = page.fields
    by_key = {preset.key: preset.cfg for preset in page.named}

    def choose(key: str) -> Any:
        return field_updates(by_key[key]) if key in by_key else gr.skip()

    def take(event: gr.EventData) -> Values:
        name = of_event(event, "field", str)
        if name not in ("emb_dim", "n_heads"):
            return gr.skip()
        return {page.inputs[name]: slider_update(name, of_event(event, "value"))}

    def answer(exercise: Exercise) -> list[Any]:
        cfg = by_key[exercise.preset]
        return [*field_updates(cfg), exercise.answer(cfg)]

    page.preset.input(choose, page.preset, fields, **LIVE)
    page.reset.click(lambda: field_updates(page.named[0].cfg), None, fields, **LIVE)
    page.problem.select(take, None, [page.inputs["emb_dim"], page.inputs["n_heads"]], **EACH)
    for exercise, button in zip(EXERCISES, page.exercises, strict=True):
        button.click(partial(answer, exercise), None, [*fields, page.answer], **LIVE)
    page.read.click(_read, page.pasted, [*fields, page.imported], **LIVE)
    page.upload.upload(_read, page.upload, [*fields, page.imported], **LIVE)


def _pin(page: Layout) -> None:
    """The configuration as it is becomes the one to compare with, an impossible one does not."""

    def pin(*values: Any) -> Any:
        given = dict(zip(FIELDS, values, strict=True))
        try:
            configuration(given)
        except ValueError:  # said beside the controls
            return gr.skip()
        choices = [*page.choices, ("the pinned one", PINNED)]
        return given, gr.update(choices=choices, value=PINNED)

    page.pin.click(pin, page.fields, [page.inputs["pinned"], page.inputs["compare"]], **LIVE)


def _read(text: str | bytes) -> list[Any]:
    """The controls set to an imported configuration, and what was read, or what is wrong."""
    try:
        cfg, said = from_json(text)
    except ValueError as error:
        return [gr.skip()] * len(FIELDS) + [problem_html(mistake(error))]
    return [*field_updates(cfg), say(said)]


def measuring(*values: Any) -> Iterator[tuple[str, bool]]:
    """What “Measured here” shows for the values of FIELDS and NAMES, and whether it goes on.

    The last one does not, however the measurement ends; what is no mistake is raised after it.
    """
    text = ""
    try:
        cfg = configuration(dict(zip(FIELDS, values, strict=False)))
        load = workload_of(dict(zip(NAMES, values[len(FIELDS) :], strict=True)), cfg)
        for text in measured.measured_html(cfg, load):
            yield text, True
    except Exception as error:
        if not is_mistake(error):
            yield "", False
            raise
        text = problem_html(error)
    yield text, False


def _measure(page: Layout) -> None:
    """The button becomes Cancel while it runs; the model is gone when it ends, however it ends.

    A cancelled run's thread may still be building, and the next run must not be dropped because
    of that ("multiple"). Updates of a cancelled run that were on their way arrive after Cancel
    has answered: what follows the run comes after them and has the last word.
    """
    outputs = [page.measured, page.measure, page.cancel]
    busy = [gr.update(visible="hidden"), gr.update(visible=True)]
    idle = [gr.update(visible=True), gr.update(visible="hidden")]
    cancelled = say("Cancelled; nothing was kept.", "hint")

    def run(*values: Any) -> Iterator[list[Any]]:
        for text, going_on in measuring(*values):
            yield [text, *(busy if going_on else idle)]

    def finish(text: str) -> list[Any]:
        unfinished = "<progress" in (text or "")
        return [cancelled if unfinished else gr.skip(), *idle]

    waiting = measured.progress_html(0, "waiting for the machine")
    running = page.measure.click(lambda: [waiting, *busy], None, outputs, **AT_ONCE).then(
        run,
        [*page.fields, *page.workload],
        outputs,
        api_visibility="private",
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
        trigger_mode="multiple",
    )
    running.then(finish, page.measured, outputs, **AT_ONCE)
    page.cancel.click(lambda: [cancelled, *idle], None, outputs, cancels=[running], **AT_ONCE)
