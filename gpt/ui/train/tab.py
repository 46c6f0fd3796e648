"""The Train tab: a text, a model, its loss as it falls, and what then can be done with it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.training.choices import OWN
from gpt.ui.internals.sections.side_by_side import EARLIER
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.tabs import Page
from gpt.ui.train.handlers import Handlers
from gpt.ui.train.layout import Layout
from gpt.ui.train.run import Trainings
from gpt.ui.train.settings import DEFAULTS, PAIRS, SIZES, YOURS
from gpt.ui.visit import AT_ONCE, EACH, opening_of


def add_to(page: Page) -> Layout:
    """Lay out the tab and wire its events; a link sets the `controls`."""
    layout = Layout()
    handlers = Handlers(layout, Trainings(page.device), page.shared)
    for button, start in (
        (layout.run, handlers.start()),
        (layout.one, handlers.start(paused=True)),
        *((button, handlers.start(experiment)) for button, experiment in layout.experiments),
    ):
        streamed = button.click(
            start, layout.inputs | {layout.axis},
            {*layout.buttons, *layout.tries, layout.progress, layout.step}, **AT_ONCE,
        ).then(
            one_line_errors(handlers.drive), {page.shared.visitor},
            {*layout.streamed, layout.estimate}, api_visibility="private",
            trigger_mode="multiple", show_progress="hidden",
            concurrency_id="training", concurrency_limit=None,
        )  # fmt: skip
        for ended in (streamed.success, streamed.failure):
            ended(handlers.finish, None, layout.ended, **AT_ONCE)
    layout.pause.click(handlers.pause, None, layout.pause, **AT_ONCE)
    layout.stop.click(handlers.stop, **AT_ONCE)
    layout.axis.change(handlers.redraw, layout.axis, layout.loss, **AT_ONCE)
    page.left.append(handlers.left)
    _follow(layout, handlers, page)
    _afterwards(layout, handlers, page)
    return layout


def _follow(layout: Layout, handlers: Handlers, page: Page) -> None:
    """What follows the choices: boxes, numbers of a size, the estimate, the text in tokens."""
    settings = layout.settings
    gr.on(
        [*(component.change for component in settings.values()), layout.pasted.input,
         layout.pasted.blur, layout.file.change, opening_of(layout.estimate)],
        one_line_errors(handlers.look), layout.inputs | {page.shared.visitor},
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


def _afterwards(layout: Layout, handlers: Handlers, page: Page) -> None:
    """The model is chosen in the other tabs, and what it wrote is what they look at."""
    shared, prompt = page.shared, page.tabs["generation"].controls["prompt"]
    sections = page.tabs["internals"].sections
    way = next(p.controls["way"] for p in sections.panels if "way" in p.controls)
    early = {sections.accordions["compare"]: gr.update(open=True), way: EARLIER}
    for button, tab, more, then in (
        (layout.write, "generation", {}, "'#gen-run', (button) => button.click()"),
        (layout.inside, "internals", {}, ""),
        (layout.early, "internals", early, "'#int-section-compare', (to) => to.scrollIntoView()"),
    ):
        used = button.click(
            one_line_errors(handlers.use(tab, prompt, more)), {shared.visitor},
            [shared.tabs, *shared.pickers, prompt, *more],
            api_visibility="private", show_progress="hidden", concurrency_limit=None,
        )  # fmt: skip
        if then:
            used.success(js=f"() => gptPage.when({then})")
    layout.early.click(js="() => { gptPage.next = '#int-cmp-run'; }")
