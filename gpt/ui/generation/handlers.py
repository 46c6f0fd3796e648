"""What the tab's events do: methods over a page's story, its controls and the runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import gradio as gr

from gpt.checkpoints import tokenizer_of
from gpt.ui.generation.continuation import AHEAD, HINT, Draft, guessed
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.runs import Claim, Order, Runs, Writing
from gpt.ui.generation.settings import DRAW_A_SEED, OPENING, labelled, sampling_options
from gpt.ui.generation.story import Story
from gpt.ui.generation.versions import columns_html, versions
from gpt.ui.generation.wish import Wish, wish
from gpt.ui.parts.errors import NO_EVENT, is_mistake, message_of, of_event
from gpt.ui.parts.numbers import whole
from gpt.ui.parts.sentences import say
from gpt.ui.visit import Shared, Visit, Visitor

Values = dict[Any, Any]
FRESH = ("write", "example", "again", "reseed", "linked")  # orders that begin a text
PATIENCE_SECONDS = 5  # for a stopped run to end
OF_ANOTHER = (
    "this untrained model writes in another model's vocabulary, which its name does not tell: the "
    "version stands here to compare."
)


def _position(told: Any) -> int | None:
    """A place among the tokens of a text, whatever a script sent; None where none was chosen."""
    return None if told is None else min(max(int(told), 0), 10**6)


class Handlers:
    """The handlers of one layout; `story` holds a page's text.

    A click that asks for a run calls `start` (its order is noted, the page may write), then `write`
    (what streams) and `finish` (the buttons). The others change the text as it is.
    """

    def __init__(self, layout: Layout, runs: Runs, shared: Shared) -> None:
        self.layout, self.runs, self.shared = layout, runs, shared
        self.story = gr.State(Story(loaded=layout.model.value))
        self._opening: Draft | None = None
        self._writes_opening = asyncio.Lock()

    def start(self, order: Order) -> Callable[..., Any]:
        """The handler of an event that asks for a run."""
        kind, value = order
        layout = self.layout

        async def claim(
            story: Story, request: gr.Request, event: gr.EventData = NO_EVENT
        ) -> Values:
            given = value
            if kind == "use":
                given = (story.chosen, of_event(event, "token"))
                deadline = time.monotonic() + PATIENCE_SECONDS
                while story.claim and time.monotonic() < deadline:
                    story.claim.stop()
                    await asyncio.sleep(0.02)
            elif kind == "guess":
                given = (of_event(event, "token"), of_event(event, "text", str))
            elif kind == "example":
                seed = {layout.settings["seed"]: value.seed or DRAW_A_SEED}
                given = {**layout.filled(value), **seed}
            if story.claim:  # a second click, a key held down
                return gr.skip()
            story.asked = Claim(self.runs, request.session_hash, (kind, given))
            shown = buttons(layout, busy=True)
            if kind in FRESH:
                story.chosen, story.guess, story.versions = None, None, {}
                shown |= {**dict.fromkeys(layout.streamed, ""), layout.panel: HINT}
            if kind == "example":
                shown |= given
            return shown

        return claim

    async def write(self, data: Values) -> AsyncIterator[Values]:
        """What streams."""
        story: Story = data[self.story]
        claim, story.asked = story.asked, None
        if claim is None:
            yield gr.skip()
            return
        story.claim = claim
        make = {"versions": self._versions, "guess": self._guess}.get(claim.order[0], self._text)
        try:
            async with aclosing(make(data, story, claim)) as updates:
                async for _ in updates:
                    yield self.shown(story)
        except Exception as error:
            story.why = labelled(message_of(error))
            if is_mistake(error):
                raise ValueError(story.why) from error
            raise
        finally:
            source = claim.runs[0].begins.asked.source if claim.runs else ""
            if any(run.written.steps for run in claim.runs):
                story.loaded, source = source, ""
            story.failed, story.claim = source, None

    async def finish(self, story: Story) -> Values:
        """The buttons as they should be now, which may be the next run's already."""
        return gr.skip() if story.claim or story.asked else buttons(self.layout, busy=False)

    async def failed(self, story: Story, model: str) -> Values:
        """As `finish`, the text as it was, which the click cleared, and the model that wrote.

        Why that is another model than the one chosen stays beside the text: the toast goes.
        """
        if story.claim:
            return gr.skip()
        layout = self.layout
        shown = {**buttons(layout, busy=False), **self.shown(story)}
        if story.failed == model != story.loaded:
            shown[layout.model] = story.loaded
            why = f"{story.why} Another model is chosen above in its place."
            shown[layout.stats] = say(why, "note") + shown[layout.stats]
        return shown

    async def _text(self, data: Values, story: Story, claim: Claim) -> AsyncIterator[None]:
        """A text is begun or goes on; comes by at each update."""
        visitor: Visitor = data[self.shared.visitor]
        begins = await asyncio.to_thread(self.ordered, data, story, visitor.visit)
        run = story.live = Writing(begins, self.runs)
        shown, over = run.written.steps, False
        try:
            async with aclosing(claim.write(run)) as updates:
                async for _ in updates:
                    if len(shown) > len(begins.steps):  # a copy now is of this text
                        story.chosen = story.chosen if begins.shown is None else len(shown) - 1
                        visitor.visit = story.seen.visit(story.chosen)
                    yield
            over = True
        finally:
            story.live = None
            draft = run.draft(run.written.told_html() if begins.shown is None else "")
            if draft.guess and draft.done:
                story.guess = draft
            elif over or len(draft.steps) > len(begins.steps):  # else the text is as it was
                if begins.shown is not None and draft.shown:
                    story.chosen = draft.shown - 1
                story.add(draft)
                visitor.visit = draft.visit(story.chosen)
        yield

    def ordered(self, data: Values, story: Story, visit: Visit) -> Draft:
        """What the page's order begins with; `visit` is what "linked" writes where it has no other.

        Raises ValueError for what cannot be written.
        """
        (kind, value), base = story.claim.order, story.present
        if kind == "linked":
            return Draft(self.written_again(value or visit))
        if kind in ("again", "reseed"):
            seed = base.asked.options.seed if base and kind == "again" else DRAW_A_SEED
            return Draft(self.asked(data, seed=seed))
        if kind in FRESH:  # `data` may be from before an example has filled the controls
            return Draft(self.asked({**data, **(value or {})}))
        if kind == "next":
            asked = self.asked(data)
            if base is None or not base.asked.same_text(asked):
                base = Draft(asked, shown=0)
            guess = bool(data[self.layout.guess]) and value == 1
            return base.going_on(base.shown + value, AHEAD, guess)
        if base is None:
            raise ValueError("there is no text yet: press Generate first.")
        if kind == "more":
            added = sampling_options(self.layout.values(data)).max_new_tokens
            return base.going_on(base.shown + added)
        position, token_id = value
        if position is None or position >= base.shown:
            raise ValueError("choose a token of the text first: click one.")
        return Draft(base.asked.steered(position, token_id), base.steps[:position])

    def asked(self, data: Values, **changed: Any) -> Wish:
        """What the controls ask for, but for the settings in `changed`."""
        layout, values = self.layout, {**self.layout.values(data), **changed}
        return wish(self.runs.registry, data[layout.prompt], values, data[layout.model])

    def written_again(self, visit: Visit) -> Wish:
        """The text of a visit, as it was written."""
        values, source = {**visit.settings, "seed": visit.seed}, visit.model
        source = source or self.layout.model.value
        asked = wish(self.runs.registry, visit.prompt, values, source, visit.steering)
        return asked.with_options(max_new_tokens=visit.tokens or asked.options.max_new_tokens)

    async def _guess(self, data: Values, story: Story, claim: Claim) -> AsyncIterator[None]:
        """The visitor's guess beside what came; one outside the ten best is put in to be read."""
        base, (token_id, text) = story.guess, claim.order[1]
        if base is None:
            raise ValueError("press Next token first: the guess is about the one that comes.")
        place, asked = base.shown, base.asked
        ids = [token_id] if token_id >= 0 else base.guess_ids(text)
        came = base.steps[place]
        ranks = {c.token_id: (i + 1, c.probability) for i, c in enumerate(came.candidates)}
        if ids[0] in ranks:
            rank, chance = ranks[ids[0]]
            probe = replace(came, token_id=ids[0], rank=rank, probability=chance)
        else:
            run = Writing(Draft(asked.steered(place, ids[0]), base.steps[:place]), self.runs)
            async with aclosing(claim.write(run)) as updates:
                async for _ in updates:
                    yield
            if len(run.written.steps) <= place:
                return
            probe = run.written.steps[place]
        story.add(replace(base, shown=place + 1, guess=False))
        story.chosen = place
        story.said = (came, guessed(asked.tokenizer, ids, probe, came))
        data[self.shared.visitor].visit = story.present.visit(place)
        yield

    async def _versions(self, data: Values, story: Story, claim: Claim) -> AsyncIterator[None]:
        asked = await asyncio.to_thread(self.asked, data)
        by, count = data[self.layout.by], whole("how many", data[self.layout.count], 2, 4)
        named = await asyncio.to_thread(versions, self.runs.registry, asked, by, count)
        before = story.versions
        story.versions = {name: Writing(Draft(one), self.runs) for name, one in named.items()}
        try:
            async with aclosing(claim.write(*story.versions.values())) as updates:
                async for _ in updates:
                    yield
        except Exception:  # one cannot be written: the former ones stay
            story.versions = before
            raise

    # What is shown, and what changes the text without a run

    def shown(self, story: Story) -> Values:
        """The text, its statistics and chips, the panel and the versions."""
        run, draft = story.live, story.present
        text = told = chips = ""
        if written := run.written if run else draft and draft.written():
            text, chips = written.text, written.chips
            told = say(run.stage, "stats") if run else draft.told
            told = told or written.told_html()
        values = [text, told, chips, story.panel, columns_html(story.versions)]
        return dict(zip(self.layout.streamed, values, strict=True))

    async def choose(self, story: Story, visitor: Visitor, event: gr.EventData) -> str:
        """A chip was clicked or reached by keys; while the text streams too."""
        story.chosen = of_event(event, "position", _position)
        if story.present and not story.live:
            visitor.visit = story.present.visit(story.chosen)
        return story.panel

    async def why(self, story: Story, visitor: Visitor) -> Any:
        """Internals is shown, at the place that predicted the chosen token."""
        if story.seen is None or story.chosen is None:
            return gr.skip()
        visitor.visit = story.seen.visit(story.chosen)
        return gr.update(selected="internals")

    def change(self, name: str) -> Callable[..., Any]:
        """The handler of Back, Undo, Redo and Take; each gives the controls of its draft back."""

        async def changed(
            story: Story, visitor: Visitor, prompt: str, event: gr.EventData = NO_EVENT
        ) -> Values:
            typed: Values = {}
            if story.live or not (story.present or name == "take"):
                return gr.skip()
            if name == "undo" and prompt != story.present.asked.prompt:
                story.edited = story.at, prompt  # an edit is undone first
            elif name == "redo" and story.edited and story.edited[0] == story.at:
                typed, story.edited = {self.layout.prompt: story.edited[1]}, None
            elif name == "back":
                if not story.present.shown:
                    return gr.skip()
                story.add(replace(story.present, shown=story.present.shown - 1, told=""))
                story.chosen = None
            elif name == "take":
                column, place = of_event(event, "column"), of_event(event, "position", _position)
                runs = [*story.versions.values()]
                if not 0 <= column < len(runs) or not all(run.over for run in runs):
                    return gr.skip()
                draft = runs[column].draft()
                if draft.asked.tokenizer.ids != tokenizer_of(draft.asked.source).ids:
                    raise ValueError(OF_ANOTHER)
                story.chosen = place
                story.add(draft)
            elif not story.move(-1 if name == "undo" else 1):
                return gr.skip()
            visitor.visit = story.present.visit(story.chosen)
            return {**self.shown(story), **self.layout.filled(visitor.visit), **typed}

        return changed

    async def open(self, story: Story, visitor: Visitor, request: gr.Request) -> Values:
        """The finished example that a page opens with: a real run, made once."""
        if {"prompt", "model"} & set(request.query_params):  # a link
            return gr.skip()
        async with self._writes_opening:  # the first visitor does, and others wait for it
            if self._opening is None:
                asked = await asyncio.to_thread(self.written_again, OPENING)
                run = Writing(Draft(asked), self.runs)
                await run.start(lambda: None)
                self._opening = run.draft()
        if story.present or story.live:  # the visitor was quicker
            return gr.skip()
        story.add(self._opening)
        if visitor.visit == OPENING:  # and not what another tab shows already
            visitor.visit = self._opening.visit()
        return self.shown(story)


def buttons(layout: Layout, busy: bool) -> Values:
    """Generate and Stop: one of them is shown."""
    shown, hidden = (layout.stop, layout.run) if busy else (layout.run, layout.stop)
    return {shown: gr.update(visible=True), hidden: gr.update(visible="hidden")}
