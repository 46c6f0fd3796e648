"""The Train tab: a text, a model, its loss as it falls, and what then can be done with it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio.to_thread
import gradio as gr

from gpt.training.choices import OWN
from gpt.ui.internals.sections.side_by_side import EARLIER
from gpt.ui.internals.tab import InternalsTab
from gpt.ui.parts.errors import is_mistake, one_line_errors
from gpt.ui.parts.sentences import say
from gpt.ui.tabs import Page
from gpt.ui.train import views
from gpt.ui.train.layout import Layout
from gpt.ui.train.plans import plan
from gpt.ui.train.run import Line, Training
from gpt.ui.train.settings import DEFAULTS, PAIRS, SIZES, YOURS, Experiment
from gpt.ui.visit import AT_ONCE, Shared, Visit, opening_of

LOST_SECONDS = 10  # after which a start whose run has not begun is none: its page has gone
MOST_TRAININGS = 64  # whose curves are kept; of pages that were not closed the oldest goes


class Trainings:
    """The newest run of each page, by session; one of a page at a time."""

    def __init__(self, device: str) -> None:
        self.line, self.device = Line(), device
        self.of: dict[str, Training] = {}

    def going(self, session: str) -> Training | None:
        """The page's run, if it goes on, or was asked for just now."""
        training = self.of.get(session)
        if training is None or training.over:
            return None
        lost = not training.begun and time.monotonic() - training.made > LOST_SECONDS
        return None if lost else training

    def made(self, session: str) -> Training | None:
        """The page's newest run that left a model; while another goes on, the one before."""
        last = self.of.get(session)
        runs = (last, last.former) if last else ()
        return next((run for run in runs if run and run.finished), None)

    def start(
        self, session: str, values: dict[str, Any], experiment: Experiment | None, paused: bool
    ) -> None:
        """A run that `drive` will begin. The page's last one, if it has a curve, is shown in it."""
        last = self.of.pop(session, None)
        former = last if last is None or last.history.steps else last.former
        self.of[session] = Training(self.line, values, self.device, former, experiment, paused)
        over = [name for name in self.of if not self.going(name)]
        for name in over[: max(len(self.of) - MOST_TRAININGS, 0)]:
            del self.of[name]


def add_to(page: Page) -> Layout:
    """Lay out the tab and wire its events; a link sets the `controls`."""
    layout, shared = Layout(), page.shared
    layout.prompt = page.tabs["generation"].controls["prompt"]
    trainings = Trainings(page.device)
    training = {"concurrency_id": "training", "concurrency_limit": None}
    starts = [(layout.run, None, False), (layout.one, None, True)]
    starts += [(button, experiment, False) for button, experiment in layout.experiments]
    begin, drive, finish = _handlers(layout, trainings, shared)
    for button, experiment, paused in starts:
        streamed = button.click(
            begin(experiment, paused), layout.inputs | {layout.axis},
            {*layout.buttons, *layout.tries, layout.progress, layout.step}, **AT_ONCE,
        ).then(
            one_line_errors(drive), {shared.visitor}, {*layout.streamed, layout.estimate},
            api_visibility="private", trigger_mode="multiple", show_progress="hidden", **training,
        )  # fmt: skip
        for ended in (streamed.success, streamed.failure):
            ended(finish, None, layout.ended, **AT_ONCE)

    async def pause(request: gr.Request) -> Any:
        if going := trainings.going(request.session_hash or ""):
            going.pause()
            return _pause(going)
        return gr.skip()

    async def stop(request: gr.Request) -> None:
        if going := trainings.going(request.session_hash or ""):
            going.stop()

    async def left(request: gr.Request) -> None:
        if last := trainings.of.pop(request.session_hash or "", None):
            last.stop(left=True)

    async def redraw(axis: str, request: gr.Request) -> Any:
        if last := trainings.of.get(request.session_hash or ""):
            last.axis = axis
            return views.loss_view(last)
        return gr.skip()

    layout.pause.click(pause, None, layout.pause, **AT_ONCE)
    layout.stop.click(stop, **AT_ONCE)
    layout.axis.change(redraw, layout.axis, layout.loss, **AT_ONCE)
    _follow(layout, trainings, shared)
    _afterwards(layout, trainings, shared, page.tabs["internals"])
    page.left.append(left)
    return layout


def _pause(going: Training) -> Any:
    return gr.update(value="Go on" if going.paused else "Pause", interactive=True)


def _handlers(layout: Layout, trainings: Trainings, shared: Shared) -> tuple[Any, Any, Any]:
    """What a click does at once, what then streams, and what is left to do at the end."""

    def begin(experiment: Experiment | None, paused: bool) -> Any:
        async def click(data: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
            session = request.session_hash or ""
            going = trainings.going(session)
            before = trainings.of.get(session)
            if going is None and paused and before and before.finished and not before.warned:
                before.warned = True
                told = say(
                    "Step begins a new run, whose model takes the place of the one that is "
                    "finished: press it once more to begin.",
                    "note",
                )
                return {layout.progress: told, layout.step: told}
            if going is None:
                trainings.start(session, layout.values(data), experiment, paused)
                trainings.of[session].axis = data[layout.axis]
            elif paused:
                going.one_step()
            else:
                return gr.skip()
            off, on = gr.update(interactive=False), gr.update(interactive=True)
            pause = _pause(trainings.of[session])
            begun = {layout.run: off, layout.pause: pause, layout.stop: on}
            return {**begun, **dict.fromkeys(layout.tries, off)}

        return click

    async def drive(data: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        training = trainings.of.get(request.session_hash or "")
        if training is None or training.begun:
            yield gr.skip()
            return
        counted = None
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                drawn = zip(layout.streamed, views.STREAMED, strict=True)
                shown = {box: html for box, view in drawn if (html := view(training))}
                if training.plan is not None:
                    data[shared.visitor].training = training.plan.repeated
                    # Its steps are known now, and their seconds; unless others are looked at.
                    if counted is not training.plan:
                        counted = training.plan
                        if not training.looked_away:
                            shown[layout.estimate] = views.estimate_view(counted)
                yield shown

    async def finish(request: gr.Request) -> list[Any]:
        """The buttons as they should be now, which may be the next run's already."""
        session = request.session_hash or ""
        if trainings.going(session):
            return gr.skip()
        last, made = trainings.of.get(session), trainings.made(session)
        if last and not (last.history.steps or last.note):  # it was refused: the one before
            last = last.former
        on, off = gr.update(interactive=True), gr.update(interactive=False)
        pause = gr.update(value="Pause", interactive=False)
        buttons = [on, pause, off, *[on] * len(layout.tries)]
        told = views.progress_view(last) if last else views.EMPTY
        if made is None:
            return [*buttons, off, off, off, off, told]
        early = gr.update(value=made.finished.compared, interactive=True)
        zipped = gr.update(value=str(made.finished.archive), interactive=True)
        return [*buttons, on, on, early, zipped, told]

    return begin, drive, finish


def _follow(layout: Layout, trainings: Trainings, shared: Shared) -> None:
    """What follows the choices: boxes, numbers of a size, the estimate, the text in tokens."""
    settings = layout.settings

    async def looked_at(data: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
        last, values = trainings.of.get(request.session_hash or ""), layout.values(data)
        if last is not None:
            last.looked_away = last.values != values
        promised = last is None or not last.history.evaluated  # else the curve stays
        try:
            found = await anyio.to_thread.run_sync(plan, values)
        except ValueError as error:
            if not is_mistake(error):
                raise
            line = say(str(error), "note")
            # What is wrong with one's own text stands below its boxes too: the rest is far down.
            told = {layout.estimate: line, layout.problem: line, layout.split: ""}
            return {**told, layout.loss: ""} if promised else told
        # A link to the run that was made has its steps: another machine's budget buys others.
        made = last.plan if last and last.values == values else None
        data[shared.visitor].training = (made or found).repeated
        told = {layout.estimate: views.estimate_view(found), layout.problem: ""}
        told[layout.split] = views.split_view(found)
        return {**told, layout.loss: views.promise_view(found)} if promised else told

    changes = [component.change for component in settings.values()]
    gr.on(
        [*changes, layout.pasted.input, layout.pasted.blur, layout.file.change,
         opening_of(layout.estimate)],
        one_line_errors(looked_at), layout.inputs | {shared.visitor},
        {layout.estimate, layout.problem, layout.split, layout.loss},
        api_visibility="private", show_progress="hidden", trigger_mode="always_last",
        concurrency_id="train-plan", concurrency_limit=2,
    )  # fmt: skip
    multiple = {**AT_ONCE, "trigger_mode": "multiple"}  # two "always_last" would never end
    settings["text"].change(
        lambda chosen: [gr.update(visible=chosen == OWN)] * 3,
        settings["text"], [layout.pasted, layout.file, layout.problem], **multiple,
    )  # fmt: skip
    settings["vocabulary"].change(
        lambda chosen: gr.update(visible=chosen == PAIRS),
        settings["vocabulary"], settings["pairs"], **multiple,
    )  # fmt: skip
    shape = list(SIZES["small"][1])

    def sized(size: str) -> list[Any]:
        if size not in SIZES:  # the boxes of one's own
            return [gr.skip()] * len(shape) + [gr.update(open=True)]
        return [SIZES[size][1][n] for n in shape] + [gr.skip()]

    numbers = [settings[name] for name in shape]
    settings["size"].input(sized, settings["size"], [*numbers, layout.fold], **AT_ONCE)
    gr.on(
        [settings[name].input for name in shape if name != "rate"],
        lambda: YOURS, None, settings["size"], **AT_ONCE,
    )  # fmt: skip
    layout.reset.click(
        lambda: list(DEFAULTS.values()), None, [settings[name] for name in DEFAULTS], **AT_ONCE
    )


def _afterwards(layout: Layout, trainings: Trainings, shared: Shared, inside: InternalsTab) -> None:
    """The model is chosen in the other tabs, and what it wrote is what they look at."""
    comparing = inside.sections.accordions["compare"]
    way = next(p.controls["way"] for p in inside.sections.panels if "way" in p.controls)

    def to(tab: str, more: dict[Any, Any]) -> Any:
        async def use(data: dict[Any, Any], request: gr.Request) -> dict[Any, Any]:
            last = trainings.made(request.session_hash or "")
            if last is None:
                raise ValueError("there is no trained model: press Train first.")
            visitor, made = data[shared.visitor], last.finished
            tokenizer, options = last.plan.corpus.tokenizer, last.plan.options
            written = tuple(tokenizer.encode(last.history.sample.text))
            ids = written or (tokenizer.end_of_text_id,)
            visitor.visit = Visit(model=made.source, prompt=options.prompt, ids=ids)
            chosen = shared.use_model(visitor, made.label, made.source)
            told = {layout.prompt: options.prompt, shared.tabs: gr.update(selected=tab)}
            return {**chosen, **told, **more}

        return one_line_errors(use)

    early = {comparing: gr.update(open=True), way: EARLIER}
    for button, tab, more, then in (
        (layout.write, "generation", {}, "'#gen-run', (button) => button.click()"),
        (layout.inside, "internals", {}, ""),
        (layout.early, "internals", early, "'#int-section-compare', (to) => to.scrollIntoView()"),
    ):
        used = button.click(
            to(tab, more), {shared.visitor}, [shared.tabs, *shared.pickers, layout.prompt, *more],
            api_visibility="private", show_progress="hidden", concurrency_limit=None,
        )  # fmt: skip
        if then:
            used.success(js=f"() => gptPage.when({then})")
    layout.early.click(js="() => { gptPage.next = '#int-cmp-run'; }")
