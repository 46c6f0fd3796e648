"""The Architecture tab wired: figures that follow the controls, sections, one endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from gpt.ui.architecture import measured, parameters
from gpt.ui.architecture.controls import (
    FIELDS,
    REACHES,
    SIZES,
    configuration,
    reach_for,
    reached,
    slider_updates,
    suggestions,
    width_steps,
    within_reach_js,
)
from gpt.ui.architecture.endpoint import architecture
from gpt.ui.architecture.exchange import FORMATS, from_json
from gpt.ui.architecture.exercises import EXERCISES, Exercise
from gpt.ui.architecture.job import NAMES, job_of
from gpt.ui.architecture.layout import MOST_SUGGESTIONS, Layout
from gpt.ui.architecture.offer import Offer
from gpt.ui.architecture.presets import Preset, name_of, presets
from gpt.ui.architecture.tables import note_html
from gpt.ui.architecture.views import PINNED, figures, problem_html
from gpt.ui.parts.errors import one_line_errors

LIVE: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "queue": False,  # a few milliseconds each: never behind somebody's model run
    "trigger_mode": "always_last",
}


def build(registry: Any) -> Offer:
    """Lay out the tab and wire it; the result's `offer_to(pickers)` connects other tabs."""
    named = presets(registry)
    page = Layout(named)
    fields = page.controls.components
    _follow_controls(page, named)
    _set_controls(page, named)
    _measure(page)
    gr.api(architecture, api_name="architecture", concurrency_limit=None)
    page.format.change(
        lambda form: gr.update(language=FORMATS[form]), page.format, page.views["export"], **LIVE
    )
    page.pin.click(
        lambda *values: (
            dict(zip(FIELDS, values, strict=True)),
            gr.update(choices=[*_choices(named), ("the pinned one", PINNED)], value=PINNED),
        ),
        fields,
        [page.pinned, page.compare],
        **LIVE,
    )
    return page.offer


def _follow_controls(page: Layout, named: tuple[Preset, ...]) -> None:
    """Every change of a control recomputes the figures; the module check runs beside it."""
    names: dict[Any, str] = dict(zip(page.controls.components, FIELDS, strict=True))
    names |= dict(zip(page.job.components, NAMES, strict=True))
    names |= {page.compare: "compare", page.pinned: "pinned", page.format: "format"}

    def refresh(given: dict[Any, Any]) -> dict[Any, Any]:
        values = {names[component]: value for component, value in given.items()}
        buttons = suggestions(values["emb_dim"], values["n_heads"])
        updates = dict(zip(page.suggestions, _suggestion_updates(buttons), strict=True))
        updates[page.suggestion_row] = gr.update(visible=bool(buttons))
        try:
            found = figures(values, named)
        except ValueError as error:
            return {**updates, page.problem: problem_html(error, buttons)}
        preset = name_of(configuration(values), named)
        shown = {page.views[name]: text for name, text in found.items()}
        return {**updates, page.problem: "", page.controls.preset: preset, **shown}

    by_id = sorted(names, key=lambda component: component._id)  # the order of a set of inputs
    gr.on(
        [component.change for component in names],
        refresh,
        set(names),
        [
            page.problem,
            page.suggestion_row,
            *page.suggestions,
            page.controls.preset,
            *page.views.values(),
        ],
        js=within_reach_js(by_id),
        **LIVE,
    )
    fields = page.controls.components
    clip = within_reach_js(fields)
    gr.on(None, _check, fields, page.check, js=clip, **LIVE)  # at load and on change


def _check(*values: Any) -> Any:
    try:
        return parameters.check_html(configuration(dict(zip(FIELDS, values, strict=True))))
    except ValueError:
        return gr.skip()  # said beside the controls


def _suggestion_updates(found: tuple[Any, ...]) -> list[Any]:
    shown = [gr.update(value=each.text, visible=True) for each in found]
    return shown + [gr.update(visible=False)] * (MOST_SUGGESTIONS - len(found))


def _set_controls(page: Layout, named: tuple[Preset, ...]) -> None:
    """Presets, reset, reach, suggestions, exercises and imports all move the same controls."""
    fields, controls = page.controls.components, page.controls
    by_key = {preset.key: preset.cfg for preset in named}

    def choose(key: str) -> list[Any]:
        if key not in by_key:
            return [gr.skip()] * (len(FIELDS) + 1)
        return [*slider_updates(by_key[key]), REACHES[reach_for(by_key[key])]]

    shown = [*fields, controls.reach]
    controls.preset.input(choose, controls.preset, shown, **LIVE)
    controls.reset.click(lambda: choose(named[0].key), None, shown, **LIVE)
    controls.reach.input(_reach, [controls.reach, *fields[: len(SIZES)]], fields[:5], **LIVE)
    pair = [controls.fields["emb_dim"], controls.fields["n_heads"]]
    pair[1].change(_steps, pair, pair[0], js=within_reach_js(pair), **LIVE)
    for index, button in enumerate(page.suggestions):
        button.click(
            lambda width, heads, reach, index=index: _take(
                suggestions(width, heads), index, REACHES.index(reach)
            ),
            [*pair, controls.reach],
            pair,
            **LIVE,
        )
    for exercise, button in zip(EXERCISES, page.exercises, strict=True):
        button.click(
            lambda exercise=exercise: [*choose(exercise.preset), _answer(exercise, by_key)],
            None,
            [*shown, page.answer],
            **LIVE,
        )
    read = one_line_errors(_read)
    queued = {**LIVE, "queue": True, "concurrency_limit": None}  # errors show in the queue only
    page.read.click(read, page.pasted, [*shown, page.imported], **queued)
    page.upload.upload(read, page.upload, [*shown, page.imported], **queued)


def _answer(exercise: Exercise, by_key: Mapping[str, Any]) -> str:
    return exercise.answer(by_key[exercise.preset])


def _read(text: str | bytes) -> list[Any]:
    """The controls set to an imported configuration, and what was read."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise ValueError("this file is no text: use a JSON file.") from error
    cfg, said = from_json(decoded)
    return [*slider_updates(cfg), REACHES[reach_for(cfg)], said]


def _reach(reach: str, *sizes: float) -> list[Any]:
    """Longer or shorter sliders, never shorter than what they show now."""
    index = REACHES.index(reach)
    return [reached(name, index, size) for name, size in zip(SIZES, sizes, strict=True)]


def _steps(emb_dim: Any, n_heads: Any) -> Any:
    return gr.update(**width_steps(emb_dim, n_heads))


def _take(found: tuple[Any, ...], index: int, reach: int) -> list[Any]:
    """Updates of width and heads that take suggestion `index`, its slider long enough for it."""
    if index >= len(found):
        return [gr.skip(), gr.skip()]
    chosen = found[index]
    taken = {**reached(chosen.field, reach, chosen.value), "value": chosen.value}
    return [taken if chosen.field == name else gr.skip() for name in ("emb_dim", "n_heads")]


def _measure(page: Layout) -> None:
    """The button becomes Cancel while it runs; the model is gone when it ends, however it ends.

    A cancelled run's thread may still be building. The next run must not be dropped because of
    that ("multiple"), and its buttons are its own outputs, so that the late end of the cancelled
    one changes nothing.
    """
    outputs = [page.measured, page.measure, page.cancel]
    busy = [gr.update(visible="hidden"), gr.update(visible=True)]
    idle = [gr.update(visible=True), gr.update(visible="hidden")]

    def run(*values: Any) -> Iterator[list[Any]]:
        text = ""
        try:
            cfg = configuration(dict(zip(FIELDS, values, strict=False)))
            job = job_of(dict(zip(NAMES, values[len(FIELDS) :], strict=True)), cfg)
            for text in measured.measured_html(cfg, job):
                yield [text, *busy]
        except ValueError as error:
            text = problem_html(error)
        yield [text, *idle]

    quiet: dict[str, Any] = {"api_visibility": "private", "queue": False}
    waiting = note_html("Waiting for the machine …")
    running = page.measure.click(lambda: [waiting, *busy], None, outputs, **quiet).then(
        run,
        [*page.controls.components, *page.job.components],
        outputs,
        api_visibility="private",
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
        trigger_mode="multiple",
    )
    page.cancel.click(
        lambda: [note_html("Cancelled; nothing was kept."), *idle],
        None,
        outputs,
        cancels=[running],
        **quiet,
    )


def _choices(named: tuple[Preset, ...]) -> list[tuple[str, str]]:
    return [(preset.label, preset.key) for preset in named]
