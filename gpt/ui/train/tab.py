"""The Train tab: a text, a model, its loss as it falls, and what then can be done with it."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio.to_thread
import gradio as gr

from gpt.training.choices import OWN
from gpt.ui.internals.sections.what_if import EARLIER
from gpt.ui.parts.errors import mistake
from gpt.ui.parts.sentences import say
from gpt.ui.tabs import Page
from gpt.ui.train import views
from gpt.ui.train.layout import Layout
from gpt.ui.train.plans import plan
from gpt.ui.train.settings import PAIRS, SIZES, YOURS, Experiment
from gpt.ui.train.trainings import Trainings
from gpt.ui.visit import AT_ONCE, EACH, IN_QUEUE, Shared, Visit, opening_of

Values = dict[Any, Any]  # by component
REPLACES = say(
    "Step begins a new run, whose model takes the place of the one that is finished: press it "
    "once more to begin.",
    "note",
)
COMPARE_JS = "gptPage.when('#int-section-compare', (to) => to.scrollIntoView())"
WHOSE = say(
    "Until this run is over, writing, looking inside and taking along are with the model of the "
    "run before.",
    "hint",
)


def add_to(page: Page) -> Layout:
    """Lay out the tab and wire its events; a link sets the `controls`."""
    layout = Layout()
    handlers = Handlers(layout, Trainings(page.device), page.shared)
    for button, start in (
        (layout.run, handlers.start()),
        (layout.one, handlers.start(paused=True)),
        *((button, handlers.start(one)) for button, one in layout.experiments.items()),
    ):
        streamed = button.click(
            start, layout.inputs | {layout.axis},
            [*layout.buttons, layout.progress, layout.step],
            **AT_ONCE,
        ).then(
            handlers.drive, {page.shared.visitor},
            {*layout.streamed, layout.estimate}, trigger_mode="multiple", **IN_QUEUE,
        )  # fmt: skip
        for ended in (streamed.success, streamed.failure):
            ended(handlers.finish, None, layout.ended, **AT_ONCE)
    layout.pause.click(handlers.pause, None, layout.pause, **AT_ONCE)
    layout.stop.click(handlers.stop, **AT_ONCE)
    layout.axis.change(handlers.redraw, layout.axis, layout.loss, **AT_ONCE)
    page.shared.blocks.unload(handlers.left)
    _follow(layout, handlers, page)
    _afterwards(layout, handlers, page)
    return layout


def _follow(layout: Layout, handlers: "Handlers", page: Page) -> None:
    """What follows the choices: boxes, numbers of a size, the estimate, the text in tokens."""
    settings = layout.settings
    gr.on(
        [*(component.change for component in settings.values()), layout.pasted.input,
         layout.pasted.blur, layout.file.change, opening_of(layout.estimate)],
        handlers.look, layout.inputs | {page.shared.visitor},
        {layout.estimate, layout.problem, layout.split, layout.loss},
        api_visibility="private", show_progress="hidden", trigger_mode="always_last",
        concurrency_id="train-plan", concurrency_limit=2,
    )  # fmt: skip
    settings["text"].change(
        lambda chosen: [gr.update(visible=chosen == OWN)] * 3,
        settings["text"], [layout.pasted, layout.file, layout.problem], **EACH,
    )  # fmt: skip
    settings["vocabulary"].change(
        lambda chosen: gr.update(visible=chosen == PAIRS),
        settings["vocabulary"], settings["pairs"], **EACH,
    )  # fmt: skip
    shape = [settings[name] for name in SIZES["small"][1]]

    def sized(size: str) -> Values:
        if size not in SIZES:  # the boxes of one's own
            return {layout.fold: gr.update(open=True)}
        return dict(zip(shape, SIZES[size][1].values(), strict=True))

    settings["size"].input(sized, settings["size"], [*shape, layout.fold], **AT_ONCE)
    gr.on(
        [box.input for box in shape if box is not settings["rate"]],
        lambda: YOURS, None, settings["size"], **AT_ONCE,
    )  # fmt: skip
    boxes = [*settings.values()]
    layout.reset.click(lambda: [box.value for box in boxes], None, boxes, **AT_ONCE)


def _afterwards(layout: Layout, handlers: "Handlers", page: Page) -> None:
    """The model is chosen in the other tabs, and what it wrote is what they look at."""
    shared, prompt = page.shared, page.tabs["generation"].controls["prompt"]
    compare = page.tabs["internals"].sections.panels["compare"]
    early = {compare.accordion: gr.update(open=True), compare.controls["way"]: EARLIER}
    for button, tab, more, then in (
        (layout.write, "generation", {}, "gptPage.write()"),
        (layout.inside, "internals", {}, ""),
        (layout.early, "internals", early, COMPARE_JS),
    ):
        used = button.click(
            handlers.use(tab, prompt, more), {shared.visitor},
            [shared.tabs, *shared.pickers, prompt, *more], **IN_QUEUE,
        )  # fmt: skip
        if then:
            used.success(js=f"() => {then}")
    layout.early.click(js="() => { gptPage.next = '#int-cmp-run'; }")


class Handlers:
    """The handlers of one layout.

    A click that asks for a run calls `start` (the buttons change at once), then `drive` (what
    streams) and `finish` (the buttons again).
    """

    def __init__(self, layout: Layout, trainings: Trainings, shared: Shared) -> None:
        self.layout, self.trainings, self.shared = layout, trainings, shared

    def start(self, experiment: Experiment | None = None, paused: bool = False) -> Callable:
        """The handler of a button that asks for a run, or with `paused` for a single step."""

        async def click(data: Values, request: gr.Request) -> Values:
            session, layout = request.session_hash, self.layout
            going, before = self.trainings.going(session), self.trainings.of.get(session)
            if going and not paused:
                return gr.skip()
            if going:
                going.one_step()
            elif paused and before and before.finished and not before.warned:
                before.warned = True
                return dict.fromkeys([layout.progress, layout.step], REPLACES)
            else:
                going = self.trainings.start(session, layout.values(data), experiment, paused)
                going.axis = data[layout.axis]
            return self._buttons(session)

        return click

    def _buttons(self, session: str | None) -> Values:
        """What can be pressed now, and whose model is meant."""
        layout, going = self.layout, self.trainings.going(session)
        label = "Go on" if going and going.paused else "Pause"
        return {
            **dict.fromkeys([layout.run, *layout.experiments], gr.update(interactive=not going)),
            layout.pause: gr.update(value=label, interactive=bool(going)),
            layout.stop: gr.update(interactive=bool(going)),
            layout.whose: WHOSE if going and self.trainings.made(session) else "",
        }

    async def drive(self, data: Values, request: gr.Request) -> AsyncIterator[Values]:
        """The run's updates as they come."""
        training = self.trainings.of.get(request.session_hash)
        if training is None or training.begun:
            yield gr.skip()
            return
        told: Values = {}
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                drawn = zip(self.layout.streamed, views.STREAMED, strict=True)
                shown = {box: html for box, view in drawn if (html := view(training))}
                if training.plan is not None and not training.looked_away:
                    # Its steps are known now, and their seconds.
                    data[self.shared.visitor].training = training.plan.repeated
                    shown[self.layout.estimate] = views.estimate_view(training.plan)
                if shown != told:  # who waits in line looks four times a second
                    yield (told := shown)

    async def finish(self, request: gr.Request) -> Values:
        """The buttons as they should be now, which may be the next run's already."""
        session, layout = request.session_hash, self.layout
        if self.trainings.going(session):
            return gr.skip()
        last, made = self.trainings.of.get(session), self.trainings.made(session)
        if last and not last.history.note:
            last = self.trainings.measured(session)
        shown = self._buttons(session)
        shown[layout.progress] = views.progress_view(last) if last else views.EMPTY
        if last and last.warned:  # by the Step that this follows
            shown[layout.progress] = REPLACES
        shown |= {button: gr.update(interactive=bool(made)) for button in layout.afterwards}
        if made:
            early = made.finished.compared
            label = early or layout.early.value
            shown[layout.early] = gr.update(value=label, interactive=bool(early))
            shown[layout.download] |= {"value": str(made.finished.archive)}
        return shown

    async def pause(self, request: gr.Request) -> Any:
        if going := self.trainings.going(request.session_hash):
            going.pause()
            return self._buttons(request.session_hash)[self.layout.pause]
        return gr.skip()

    async def stop(self, request: gr.Request) -> None:
        if going := self.trainings.going(request.session_hash):
            going.stop()

    async def left(self, request: gr.Request) -> None:
        """The page was closed."""
        if last := self.trainings.of.pop(request.session_hash, None):
            last.stop(left=True)

    async def redraw(self, axis: str, request: gr.Request) -> Any:
        """The curve over another axis."""
        last = self.trainings.of.get(request.session_hash)
        drawn = self.trainings.measured(request.session_hash)
        for run in filter(None, (last, drawn)):
            run.axis = axis
        return views.loss_view(drawn) if drawn else gr.skip()

    async def look(self, data: Values, request: gr.Request) -> Values:
        """What the choices mean: the estimate, the text in tokens, the losses to compare with."""
        layout, last = self.layout, self.trainings.of.get(request.session_hash)
        values = layout.values(data)
        if last is not None:
            last.looked_away = last.values != values
        try:
            found = await anyio.to_thread.run_sync(plan, values)
        except ValueError as error:
            line = say(str(mistake(error)), "note")
            # What is wrong with one's own text stands below its boxes too: the rest is far down.
            shown = {layout.estimate: line, layout.problem: line, layout.split: "", layout.loss: ""}
        else:
            # A link to the run that was made has its steps: another machine's budget buys others.
            made = last.plan if last and last.values == values else None
            data[self.shared.visitor].training = (made or found).repeated
            shown = {
                layout.estimate: views.estimate_view(found), layout.problem: "",
                layout.split: views.split_view(found), layout.loss: views.promise_view(found),
            }  # fmt: skip
        if self.trainings.measured(request.session_hash):
            del shown[layout.loss]  # there is a curve, which stays
        return shown

    def use(self, tab: str, prompt: gr.Textbox, more: Values) -> Callable:
        """The handler of a button that shows `tab` with the model chosen and what it wrote.

        `prompt` is the box of Generation; `more` are other updates.
        """

        async def used(data: Values, request: gr.Request) -> Values:
            last = self.trainings.made(request.session_hash)
            if last is None:
                raise ValueError("there is no trained model: press Train first.")
            visitor, made = data[self.shared.visitor], last.finished
            begins, ids = last.plan.options.prompt, last.history.sample.ids
            visitor.visit = Visit(model=made.source, prompt=begins, ids=ids)
            chosen = self.shared.use_model(visitor, made.label, made.source)
            return {**chosen, prompt: begins, self.shared.tabs: gr.update(selected=tab), **more}

        return used
