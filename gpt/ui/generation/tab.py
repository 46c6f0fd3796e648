"""The Generation tab: a prompt, a model, the continuation as it is written, and every way on."""

# Without `from __future__ import annotations`: gr.api reads the return type as an object.
import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import gradio as gr

from gpt.checkpoints import tokenizer_of
from gpt.ui.generation.continuation import Draft
from gpt.ui.generation.handlers import FRESH, Handlers
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.runs import Claim, Order, Runs, Writing
from gpt.ui.generation.settings import OPENING, STANDARD, model_note, precision_note
from gpt.ui.generation.wish import wish
from gpt.ui.tabs import Page
from gpt.ui.visit import AT_ONCE, EACH, IN_QUEUE, Shared, steering_of

# The scheduler has the waiting line, which knows everyone's place: gradio needs none.
WRITING = {"concurrency_id": "writing", "concurrency_limit": None}


def add_to(page: Page) -> Layout:
    """Lay out the tab and wire its events; a link fills its `controls`."""
    shared = page.shared
    tokenizer_of(page.source)  # read now, not by the first visitor
    layout = Layout(page.registry, page.source, page.device)
    shared.add_picker(layout.model)
    runs = Runs(page.registry, page.on_gpu, page.replicas)
    handlers = Handlers(layout, runs, shared)
    for event, order in (
        (layout.run.click, ("write", None)),
        (layout.prompt.submit, ("write", None)),
        (layout.next.click, ("next", 1)),
        (layout.next_10.click, ("next", 10)),
        (layout.more.click, ("more", None)),
        (layout.again.click, ("again", None)),
        (layout.reseed.click, ("reseed", None)),
        (layout.panel.select, ("use", None)),
        (layout.panel.input, ("guess", None)),
        (layout.versions.click, ("versions", None)),
        *((button.click, ("example", visit)) for button, visit in layout.examples),
    ):
        _start(event, order, handlers)
    if page.link_opened is not None:
        written = _start(page.link_opened, ("linked", None), handlers)
        written.success(js="() => gptPage.linked()")
    layout.stop.click(runs.stop, **AT_ONCE)
    shared.blocks.unload(runs.stop)
    gr.api(endpoint(runs, page.source), api_name="generate", **WRITING)
    _follow(layout)
    _change(layout, handlers, shared)
    if OPENING and page.source == OPENING.model:
        shared.visitor.value.visit = OPENING  # what is copied before its text is there
        known = [handlers.story, shared.visitor]
        shared.blocks.load(handlers.open, known, layout.streamed, **AT_ONCE)
    return layout


def _start(event: Callable[..., Any], order: Order, handlers: Handlers) -> Any:
    """A run by three events, since gradio makes a component anew for each output that an update
    skips: each has the outputs that change, and no others. Gives the one that streams.
    """
    layout = handlers.layout
    first = [layout.run, layout.stop, *(layout.streamed if order[0] in FRESH else ())]
    first += layout.controls.values() if order[0] == "example" else ()
    streamed = event(handlers.start(order), [handlers.story], first, **AT_ONCE).then(
        handlers.write,
        layout.inputs | {handlers.story, handlers.shared.visitor},
        layout.streamed,
        trigger_mode="multiple",
        preprocess=False,  # an emptied field would be a traceback: our own checks say a line
        postprocess=False,  # else each update of each output is handed to a thread and back
        **IN_QUEUE | WRITING,
    )
    # Two, since `.then` does not follow an error.
    shown, failed = [layout.run, layout.stop], [handlers.story, layout.model]
    streamed.success(handlers.finish, handlers.story, shown, **AT_ONCE)
    streamed.failure(handlers.failed, failed, [*shown, *failed[1:], *layout.streamed], **AT_ONCE)
    return streamed


def _change(layout: Layout, handlers: Handlers, shared: Shared) -> None:
    """What changes the text, the panel or the tab at once."""
    known = [handlers.story, shared.visitor]
    layout.tokens.select(handlers.choose, known, layout.panel, **EACH)
    # It leads to the section that has the odds, the filters and the draw of that word.
    layout.panel.click(handlers.why, known, shared.tabs, **AT_ONCE).success(
        js="() => gptPage.section('choice')"
    )
    layout.versions.click(  # they stand below the first screen
        js="() => gptPage.when('#gen-columns section', (to) => to.scrollIntoView())"
    )
    for name, event in (
        ("back", layout.back.click), ("undo", layout.undo.click), ("redo", layout.redo.click),
        ("take", layout.columns.select),
    ):  # fmt: skip
        outputs = [*layout.streamed, *layout.controls.values()]
        event(handlers.change(name), [*known, layout.prompt], outputs, **AT_ONCE)


def _follow(layout: Layout) -> None:
    """Notes that follow the controls, and the reset."""
    layout.model.change(model_note, layout.model, layout.note, **EACH)
    gr.on(
        [layout.model.change, layout.precision.change, layout.device.change],
        precision_note,
        [layout.model, layout.precision, layout.device],
        layout.precision_note,
        **AT_ONCE,
    )
    layout.by.change(  # trained beside untrained are two
        lambda by: gr.update(visible=by != "training"), layout.by, layout.count, **EACH
    )
    boxes = [*layout.settings.values()]
    layout.reset.click(lambda: [box.value for box in boxes], None, boxes, **AT_ONCE)


def endpoint(runs: Runs, default_source: str) -> Callable[..., Any]:
    """The handler of /generate; its names, defaults and docstring are public."""

    async def generate(
        prompt: str,
        max_new_tokens: int = STANDARD["max_new_tokens"],
        device: str = STANDARD["device"],
        temperature: float = STANDARD["temperature"],
        top_k: int | None = STANDARD["top_k"],
        top_p: float = STANDARD["top_p"],
        seed: int | None = STANDARD["seed"],
        model: str = default_source,
        precision: str = STANDARD["precision"],
        min_p: float = STANDARD["min_p"],
        stop: str = STANDARD["stop"],
        steering: list[list[int]] | None = None,
        request: gr.Request = None,
    ) -> tuple[str, str]:
        """Continues a prompt: streams the text written so far, without the prompt, and statistics.

        Both are texts that grow; the last pair is the result. 0 turns top_k and min_p off, 1 top_p;
        seed -1 draws one, which the statistics name. The token that completes the text `stop` is
        the last. `steering` has pairs of a position, counted in new tokens from 0, and the id of
        the token that comes there whatever is drawn.
        """
        given = locals()
        values = {name: given[name] for name in STANDARD}
        chosen = steering_of(steering or [])
        asked = await asyncio.to_thread(wish, runs.registry, prompt, values, model, chosen)
        claim = Claim(runs, request.session_hash if request else None)
        run = Writing(Draft(asked), runs, kept=False)  # nothing goes on with it
        async with aclosing(claim.write(run)) as updates:
            async for _ in updates:
                yield run.written.text, "\n".join([run.written.statistics(), *asked.notes])

    return generate
