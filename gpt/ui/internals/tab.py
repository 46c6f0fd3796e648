"""The Internals tab: one traced pass from text to the next token, and the sections that read it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync

from gpt.checkpoints import HUB_MODELS, download, is_cached
from gpt.internals.traced_pass import resolve_position
from gpt.ui.internals.lab import MAX_TOKENS, Focus, Lab
from gpt.ui.internals.section import Desk, Values
from gpt.ui.internals.section_list import SectionList, rail_html
from gpt.ui.internals.sections import SECTIONS, STOPS, next_token
from gpt.ui.internals.sections.logits_to_odds import MAX_BARS, read_logits
from gpt.ui.internals.sections.text_to_tokens import prompt_chips, prompt_message
from gpt.ui.parts.chips import CHOOSE_JS
from gpt.ui.parts.errors import NO_EVENT, is_mistake, message_of, mistake, of_event
from gpt.ui.parts.numbers import whole
from gpt.ui.parts.sentences import say
from gpt.ui.visit import IN_QUEUE, Shared, Visit, opening_of

INTRO = (
    "One pass of the model over your text, taken apart from the first token to the choice of the "
    "next one. Every number comes from that pass, in float32 and eval mode (no dropout), or says "
    f"so. At most {MAX_TOKENS} tokens."
)
PROMPT = "Once upon a time there was a little"
ENDED = (
    "this page's visit has ended (the server was restarted, or many others came): reload the page."
)
UNREAD = "no text is looked at now: press “Look inside”, or wait for its pass."
OTHER = "the boxes ask for another text or model: press “Look inside” to start at this position."
PROGRESS = gr.Progress()  # as a default it asks gradio for an event's own
STRIP_JS = CHOOSE_JS.replace("KEY", "data-position") + "gptPage.strip(element, watch);"
RAIL_JS = "gptPage.rail(element, trigger);"


class InternalsTab:
    """The tab laid out and wired, also to Generation's text; `source` is the model at first."""

    def __init__(self, registry: Any, source: str, shared: Shared) -> None:
        self.lab, self.visitor = Lab(registry), shared.visitor
        self.network = asyncio.Semaphore(1)  # one download at a time
        known = dict(registry.sources())
        known.setdefault(source, source)
        self.desk = gr.State(Desk(open={section.key for section in SECTIONS if section.opened}))
        gr.Markdown(INTRO, elem_id="int-intro")
        with gr.Row():
            self.prompt = gr.Textbox(
                PROMPT, label="Prompt", lines=4, max_lines=4, elem_id="int-prompt", scale=3,
                min_width=260, info=f"At most {MAX_TOKENS} tokens. Shift + Enter works too.",
            )  # fmt: skip
            with gr.Column(scale=2, min_width=260):
                self.model = gr.Dropdown(
                    [(label, name) for name, label in known.items()], value=source,
                    label="Model", elem_id="int-model", info="Loaded when you look inside.",
                )  # fmt: skip
                self.position = gr.Number(
                    -1, label="Position", precision=0, elem_id="int-position",
                    info="Whose prediction to look at: 0 is the first token, -1 the last.",
                )  # fmt: skip
        self.run = gr.Button("Look inside", variant="primary", elem_id="int-run")
        self.message = gr.HTML(elem_id="int-message")
        with gr.Group(elem_id="int-strip"):
            self.chips = gr.HTML(elem_id="int-chips", js_on_load=STRIP_JS)
        with gr.Row(elem_id="int-story"):
            rail = gr.HTML(rail_html(STOPS), elem_id="int-rail", js_on_load=RAIL_JS)
            with gr.Column(elem_id="int-sections"):
                self.sections = SectionList(self.lab, SECTIONS, self.desk)
        self.choice = self.sections.panels["choice"].controls  # what drew Generation's text
        shared.add_picker(self.model)
        self._wire(rail)
        endpoint = internals_endpoint(self.lab, source)
        gr.api(endpoint, api_name="internals", concurrency_id="internals")

    def _wire(self, rail: gr.HTML) -> None:
        """One event for another text, one for another position, one for what comes into view.

        A click brings no control along: gradio hands over each input by a thread, so an event with
        many comes after a later one with few, and would bring what they were before. Nor has an
        event outputs that it never changes: gradio makes each of them anew at every message.
        """
        asked = {self.desk, self.prompt, self.model, *self.sections.controls}
        shown = {self.message, self.chips, self.position, *self.sections.outputs}
        looked = shown | {*self.sections.of_model}
        filled = looked | {self.prompt, self.model, *self.choice.values()}
        moves = {**IN_QUEUE, "trigger_mode": "multiple"}
        looks = moves | {"show_progress": "full", "show_progress_on": self.message}
        gr.on([self.run.click, self.prompt.submit], self.look, asked, looked, **looks)
        opened = opening_of(self.chips)(self.opened, {*asked, self.visitor}, filled, **looks)
        opened.then(js="() => gptPage.pressNext()")
        self.chips.select(self.move, {self.desk}, shown, **moves)
        typed = {self.desk, self.position, self.prompt, self.model}
        self.position.input(self.move, typed, shown, **moves)
        rail.select(self.sections.come_into_view, {self.desk}, self.sections.outputs, **moves)

    async def look(self, values: Values, progress: Any = PROGRESS) -> AsyncIterator[Values]:
        """The pass over the prompt, then every open section; a mistake leaves nothing stale."""
        desk, source, wrong = values[self.desk], values[self.model], None
        desk.turn = turn = desk.turn + 1
        desk.looks = look = desk.looks + 1
        desk.awaited = True
        # A control that was heard from is as it was heard: this event may have come late.
        desk.values = {control: values[control] for control in self.sections.controls} | desk.values
        try:
            focus = await run_sync(self._asked, values)
            if source in HUB_MODELS and not is_cached(source):
                async with self.network:  # in the lane, all others would wait for it
                    await run_sync(download, source, progress)
            async with self.sections.lane:
                if desk.looks == look:  # else a later press took over while this one waited
                    await run_sync(self.lab.run, focus, progress)
                    focus, at = _start(desk, focus)
                    above = await run_sync(self._above, focus, at)
                    choices = self.sections.choices(desk, focus)
        except Exception as error:
            wrong = error
        moved = desk.turn != turn  # meanwhile, on the text of before
        if desk.looks != look or (moved and not wrong and focus.key == desk.focus.key):
            yield gr.skip()  # gradio empties every output of who yields nothing
        elif wrong:
            yield {self.message: _line(wrong)} if moved else self._refused(desk, wrong)
        else:
            desk.turn += 1
            desk.look_at(focus)
            async for shown in self.sections.filled(desk, above | choices):
                yield shown
        if wrong and not is_mistake(wrong):
            raise wrong  # for the log

    def _asked(self, values: Values) -> Focus:
        """What the boxes ask for; Generation's focus, or the present one, where it is that."""
        desk = values[self.desk]
        for known in (desk.given, desk.focus):
            if self._is_asked(known, values):
                return known
        return self.lab.read(values[self.model], values[self.prompt])

    def _is_asked(self, focus: Focus | None, values: Values) -> bool:
        """Whether the boxes have its model and its text."""
        if focus is None or focus.source != values[self.model]:
            return False
        return self.lab.using(focus.source).text(focus.ids) == values[self.prompt]

    async def opened(self, values: Values, progress: Any = PROGRESS) -> AsyncIterator[Values]:
        """The tab looks at what was written in Generation, at the token chosen there."""
        desk, written = values[self.desk], values[self.visitor].visit
        if written is desk.written:  # not chosen again, even the same
            yield gr.skip()
            return
        desk.written, desk.typed = written, None
        try:
            filled = self._as_written(desk, written)
        except Exception as error:  # a trained model is kept for an hour
            yield self._refused(desk, error)
            if not is_mistake(error):
                raise  # for the log
            return
        yield filled or gr.skip()
        async for shown in self.look(values | filled, progress):
            yield shown

    def _as_written(self, desk: Desk, written: Visit) -> Values:
        """The controls as Generation's text sets them, none where there is no text."""
        if written.ids:
            given = self.lab.given_by(written.model, written.ids, written.position)
            first = len(written.ids) - (written.tokens or 0)  # of what was written
            if written.position is None and first < len(given.ids):
                written, given = replace(written, position=first), given.at(first - 1)
            desk.given = given
            chosen = next_token.as_written(written)
            drew = {self.choice[name]: value for name, value in chosen.items()}
            desk.values |= drew
            text = self.lab.using(written.model).text(given.ids)
            return {self.prompt: text, self.model: written.model} | drew
        if written.prompt and written.seed is None:  # of a link, which nobody wrote on
            model = {self.model: written.model} if written.model else {}
            return {self.prompt: written.prompt} | model
        return {}

    async def move(self, values: Values, event: gr.EventData = NO_EVENT) -> AsyncIterator[Values]:
        """Another position of the same pass."""
        desk: Desk = values[self.desk]
        try:
            focus = self._moved(desk, values, event)
            desk.turn = turn = desk.turn + 1
            above = await run_sync(self._above, focus, focus.position)
        except ValueError as error:  # a trained model may be gone
            yield {self.message: _line(mistake(error))}
            return
        if desk.turn != turn:
            yield gr.skip()
            return
        desk.look_at(focus)  # only now: a pass may fail
        async for shown in self.sections.filled(desk, above, desk.in_view):
            yield shown

    def _refused(self, desk: Desk, error: Exception) -> Values:
        """The line of an error, and nothing in strip and sections, also of what is on its way."""
        desk.turn, desk.looks, desk.focus = desk.turn + 1, desk.looks + 1, None
        return {self.message: _line(error), self.chips: "", **self.sections.blank(desk)}

    def _above(self, focus: Focus, position: int) -> Values:
        """What stands above the sections, after the pass; in a thread, since both take a while."""
        lab = self.lab.using(focus.source)
        lab.run(focus)
        return {
            self.message: prompt_message(lab, focus),
            self.chips: prompt_chips(lab, focus),
            self.position: position,
        }

    def _moved(self, desk: Desk, values: Values, event: gr.EventData) -> Focus:
        """The focus at the chip that was clicked, or at the number that was typed.

        A number typed beside another text than the present one is kept for its look.
        """
        now = desk.focus
        if self.position in values and not isinstance(event.target, gr.HTML):
            typed = values[self.position]
            typed = -1 if typed is None else whole("position", typed, -MAX_TOKENS, MAX_TOKENS)
            if self._is_asked(now, values):
                return now.at(resolve_position(typed, len(now.ids)))
            desk.typed = typed
        elif now:
            return now.at(of_event(event, "position"))
        raise ValueError(OTHER if now else UNREAD if desk.turn else ENDED)


def _start(desk: Desk, focus: Focus) -> tuple[Focus, int]:
    """`focus` where its look starts, and the box's number for that.

    At what was typed for it; the same text where it was, with another model too; else at its last.
    """
    now = desk.focus
    if desk.typed is not None:
        focus = focus.at(resolve_position(desk.typed, len(focus.ids)))
    elif focus is not desk.given:
        if now is None or now.ids != focus.ids:
            return focus, -1
        focus = focus.at(now.position)
    return focus, focus.position


def _line(error: Exception) -> str:
    return say(message_of(error), "note")


def internals_endpoint(lab: Lab, source: str) -> Callable[..., dict[str, Any]]:
    """The handler of /internals; `source` is the model where none is named."""

    def internals(
        prompt: str, position: int = -1, top_k: int = 20, model: str = source
    ) -> dict[str, Any]:
        """The prediction that a model makes at one position of a prompt, in float32.

        Args:
            prompt: a text of at most 128 tokens.
            position: whose prediction to read; 0 is the first token, -1 the last.
            top_k: how many of the best tokens to list, 1 to 50.
            model: the name of a model of the page.

        Returns: model, precision, tokens, position, vocab_size, entropy_nats, entropy_bits,
            top (rank, id, text, logit and probability of the best tokens) and tail (of all others
            their number, mean logit and probability).
        """
        at = whole("position", position, -MAX_TOKENS, MAX_TOKENS)
        if not isinstance(model, str):
            raise ValueError(f"model is {repr(model)[:40]}: use the name of a model.")
        top_k = whole("top_k", top_k, 1, MAX_BARS)
        focus = lab.read(model, prompt, at)
        return read_logits(lab.using(model), focus, top_k)

    return internals
