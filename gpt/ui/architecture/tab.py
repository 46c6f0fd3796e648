"""The Architecture tab wired: figures that follow the controls, sections, one endpoint."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import gradio as gr

from gpt.config import GPTConfig
from gpt.ui.architecture import controls, measured, parameter_table
from gpt.ui.architecture.exchange import FORMATS, architecture, from_json, offered, to_json
from gpt.ui.architecture.layout import PINNED, Layout
from gpt.ui.architecture.model_map import SPOTS, strip_html
from gpt.ui.architecture.presets import name_of, presets
from gpt.ui.parts.errors import mistake, of_event
from gpt.ui.parts.sentences import say
from gpt.ui.tabs import Page
from gpt.ui.visit import AT_ONCE, EACH, IN_QUEUE, opening_of

Values = dict[Any, Any]  # by component
BACK = '<button type="button" class="link" data-drawn="{}">Show in Architecture</button>'
# A few milliseconds each: never behind somebody's model run.
LIVE = {**AT_ONCE, "trigger_mode": "always_last"}


def add_to(site: Page) -> Layout:
    """Lay out the tab and wire it, to other tabs once they are there."""
    page = Layout(presets(site.registry))
    _follow_controls(page)
    _explain_parts(page)
    _set_controls(page)
    _measure(page)
    gr.api(architecture, api_name="architecture", concurrency_limit=None)
    site.later.append(lambda: _connect(page, site))
    return page


def _follow_controls(page: Layout) -> None:
    """A changed control, or a section that is opened, recomputes the open ones, then the check.

    Gradio repeats an "always_last" event for all of its functions: two that wait for the last
    value would repeat one another without end, so each change has one, and the check follows.
    """

    def refresh(values: Values) -> Values:
        given = page.given(values)
        updates: Values = {page.problem: "", page.wrong_size: "", page.wrong_load: ""}
        updates[page.inputs["emb_dim"]] = gr.update(**controls.width_step(given["n_heads"]))
        places = [page.problem]
        try:
            cfg = controls.configuration(given)
            places.append(page.wrong_load)  # the workload's boxes are far below the picture
            shown = page.shown(given, values[page.opened])
        except ValueError as error:
            updates |= dict.fromkeys(places, controls.problem_html(mistake(error), given))
            if str(error).startswith((*controls.BOXES, "drop_rate")):  # far below the picture, too
                updates[page.wrong_size] = controls.problem_html(error)
            return updates
        return {**updates, page.preset: name_of(cfg, page.named), **shown}

    def expand(values: Values, event: gr.EventData) -> Values:
        values[page.opened].add(of_event(event, "target", page.sections.__getitem__))
        return refresh(values)

    def collapse(opened: set[str], event: gr.EventData) -> None:
        opened.discard(of_event(event, "target", page.sections.get))

    def check(values: Values) -> Any:
        try:
            return parameter_table.check_html(controls.configuration(page.given(values)))
        except ValueError:  # said beside the controls
            return ""

    inputs, views = {*page.inputs.values(), page.opened}, page.views
    problems = [page.problem, page.wrong_size, page.wrong_load]
    outputs = [*problems, page.preset, page.inputs["emb_dim"], *views.values()]
    changes = [each.change for name, each in page.inputs.items() if name != "part"]
    refreshed = gr.on(changes, refresh, inputs, outputs, **LIVE)
    for event in (refreshed.then, opening_of(page.check)):
        event(check, page.fields, page.check, **LIVE)
    gr.on([each.expand for each in page.sections], expand, inputs, outputs, **EACH)
    gr.on([each.collapse for each in page.sections], collapse, page.opened, None, **EACH)
    form = page.inputs["format"]
    form.change(lambda name: gr.update(language=FORMATS[name][1]), form, views["export"], **EACH)


def _explain_parts(page: Layout) -> None:
    """A part that is chosen in the picture is explained below it."""

    def choose(values: Values, event: gr.EventData) -> Values:
        part = of_event(event, "part", str)
        try:
            shown = page.shown({**page.given(values), "part": part}, [""])
        except (ValueError, KeyError):  # said beside the controls, or there is no such part
            return gr.skip()
        return {page.inputs["part"]: part, **shown}

    views = page.views
    picture = [page.inputs["part"], views["total"], views["map"], views["part"]]
    page.part_chosen = views["map"].select(choose, {*page.inputs.values()}, picture, **EACH)


def _set_controls(page: Layout) -> None:
    """Presets, reset, suggestions, exercises and imports all move the same controls.

    A pin makes the present configuration the one to compare with.
    """
    suggested = {name: page.inputs[name] for name in ("emb_dim", "n_heads")}

    def choose(key: str) -> Values:
        if key not in page.named:
            return gr.skip()
        return {**page.setting(page.named[key][1]), page.imported: ""}

    def take(event: gr.EventData) -> Values:
        return {of_event(event, "field", suggested.__getitem__): of_event(event, "value")}

    def answer(cfg: GPTConfig, answer_of: Callable[[GPTConfig], str]) -> Values:
        return {**page.setting(cfg), page.answer: answer_of(cfg)}

    def read(text: str | bytes) -> Values:
        try:
            cfg, said = from_json(text)
        except ValueError as error:
            return {page.imported: controls.problem_html(mistake(error))}
        return {**page.setting(cfg), page.imported: say(said)}

    def pin(values: Values) -> Any:
        try:
            pinned = to_json(controls.configuration(page.given(values)))
        except ValueError:  # said beside the controls
            return gr.skip()
        return gr.update(choices=[*page.choices, (PINNED, pinned)], value=pinned)

    filled = page.fields | {page.imported}
    page.preset.input(choose, page.preset, filled, **LIVE)
    page.reset.click(lambda: {**page.setting(GPTConfig()), page.imported: ""}, None, filled, **LIVE)
    page.problem.select(take, None, [*suggested.values()], **EACH)
    for button, task in page.exercises.items():
        button.click(partial(answer, *task), None, page.fields | {page.answer}, **LIVE)
    page.read.click(read, page.pasted, filled, **LIVE)
    page.upload.upload(read, page.upload, filled, **LIVE)
    page.pin.click(pin, page.fields, page.inputs["compare"], **LIVE)


def _measure(page: Layout) -> None:
    """The button becomes Cancel while it runs; the model is gone when it ends, however it ends."""
    shown, hidden = gr.update(visible=True), gr.update(visible="hidden")
    busy = {page.measure: hidden, page.cancel: gr.update(value="Cancel", visible=True)}
    idle = {page.measure: shown, page.cancel: hidden}

    def run(values: Values) -> Iterator[Values]:
        values[page.cancelled].clear()
        given = page.given(values)
        try:
            cfg = controls.configuration(given)
            with closing(measured.measured_html(cfg, controls.workload_of(given, cfg))) as stages:
                for text in stages:
                    if values[page.cancelled]:
                        text = say("Cancelled; nothing was kept.", "hint")
                        break
                    yield {page.measured: text, **busy}
        except ValueError as error:
            text = controls.problem_html(mistake(error))
        yield {page.measured: text, **idle}

    def cancel(cancelled: set[str]) -> str:
        cancelled.add("the measurement")
        return "Cancelling …"  # on the button: it may come after the run's last word

    outputs = [page.measured, *idle]
    page.measure.click(run, {*page.inputs.values(), page.cancelled}, outputs, **IN_QUEUE).failure(
        lambda: {page.measured: "", **idle}, None, outputs, **AT_ONCE
    )
    page.cancel.click(cancel, page.cancelled, page.cancel, **AT_ONCE)


def _connect(page: Layout, site: Page) -> None:
    """Ways to other tabs: “Use this model”, and between sections of Internals and the picture."""
    shared, inside = site.shared, site.tabs["internals"]

    def use(values: Values) -> Values:
        cfg = controls.configuration(page.given(values))
        label, source = offered(cfg, values[page.seed])
        return shared.use_model(values[shared.visitor], label, source)

    page.use.click(  # the pickers of all tabs choose it, and it writes in Generation
        use, page.fields | {page.seed, shared.visitor}, [shared.tabs, *shared.pickers], **IN_QUEUE
    ).success(js="() => gptPage.write()")
    for key in {spot.section for spot in SPOTS.values()}:
        code = inside.sections.panels[key].code
        code.value = BACK.format(key) + code.value
    for heard in (page.part_chosen.then, opening_of(page.tensor)):
        heard(
            lambda desk, part: strip_html(inside.lab, desk.focus, part),
            [inside.desk, page.inputs["part"]], page.tensor, **EACH,
        )  # fmt: skip
