"""What the tab's events do: methods over a page's story, its controls and the runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import gradio as gr

from gpt.ui.generation.continuation import HINT, guess_html, guessed, panel_html
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.runs import Claim, Order, Runs, Writing
from gpt.ui.generation.settings import OPENING
from gpt.ui.generation.story import FRESH, Draft, Job, Jobs, Story, Values, draft_of
from gpt.ui.generation.versions import columns_html, versions
from gpt.ui.parts.errors import of_event
from gpt.ui.parts.numbers import whole
from gpt.ui.parts.sentences import say
from gpt.ui.visit import Shared, Visitor

PATIENCE_SECONDS = 5  # for a stopped run to end


def _position(told: Any) -> int:
    """A place among the tokens of a text, whatever a script sent."""
    return min(max(int(told), 0), 10**6)


class Handlers:
    """The handlers of one layout; `story` holds a page's text.

    A click that asks for a run calls `start` (its order is noted, the page may write), then `write`
    (what streams) and `finish` (the buttons). The others change the text as it is.
    """

    def __init__(self, layout: Layout, runs: Runs, shared: Shared) -> None:
        self.layout, self.runs, self.shared = layout, runs, shared
        self.jobs = Jobs(layout, runs.registry)
        self.story = gr.State(Story(loaded=layout.model.value))
        self._opening: Draft | None = None
        self._writes_opening = asyncio.Lock()

    def start(self, order: Order) -> Callable[..., Any]:
        """The handler of an event that asks for a run."""
        kind, value = order
        layout = self.layout

        async def claim(story: Story, request: gr.Request, event: gr.EventData = None) -> Values:
            given = value
            if kind == "use":
                given = (story.chosen, of_event(event, "token"))
                deadline = time.monotonic() + PATIENCE_SECONDS
                while story.claim and story.claim.begun and time.monotonic() < deadline:
                    story.claim.stop()
                    await asyncio.sleep(0.02)
            elif kind == "guess":
                given = (of_event(event, "token"), of_event(event, "text", str))
            if story.claim and story.claim.begun:  # a second click, a key held down
                return gr.skip()
            story.claim = self.runs.claim(request.session_hash, (kind, given))
            shown = buttons(layout, busy=True)
            if kind in FRESH:
                story.chosen, story.guess, story.versions = None, None, {}
                shown |= {**dict.fromkeys(layout.streamed, ""), layout.panel: HINT}
            if kind == "example":
                shown |= layout.filled(given, with_seed=True)
            return shown

        return claim

    async def write(self, data: Values) -> AsyncIterator[Values]:
        """What streams."""
        story: Story = data[self.story]
        claim = story.claim
        if claim is None or claim.begun:
            yield gr.skip()
            return
        claim.begun = True
        make = {"versions": self._versions, "guess": self._guess}.get(claim.order[0], self._text)
        try:
            async with aclosing(make(data, story, claim)) as updates:
                async for _ in updates:
                    yield self.shown(story)
        finally:
            source = claim.runs[0].asked.source if claim.runs else ""
            if any(run.written.steps for run in claim.runs):
                story.loaded, source = source, ""
            story.live, story.failed, story.claim = None, source, None

    async def stop(self, request: gr.Request) -> None:
        """Stop was pressed, or the page was closed."""
        self.runs.stop(request.session_hash)

    async def finish(self, story: Story) -> Values:
        """The buttons as they should be now, which may be the next run's already."""
        return gr.skip() if story.claim else buttons(self.layout, busy=False)

    async def failed(self, story: Story, model: str) -> Values:
        """As `finish`, the text as it was, which the click cleared, and the model that wrote."""
        if story.claim:
            return gr.skip()
        last = {self.layout.model: story.loaded} if story.failed == model else {}
        return {**buttons(self.layout, busy=False), **self.shown(story), **last}

    async def _text(self, data: Values, story: Story, claim: Claim) -> AsyncIterator[None]:
        """A text is begun or goes on; comes by at each update."""
        visitor: Visitor = data[self.shared.visitor]
        job = await asyncio.to_thread(self.jobs.of, data, story, visitor.visit)
        if job.done:
            self._keep(Draft(job.asked, job.known, job.most), story, job, visitor)
            yield
            return
        run = story.live = Writing(job.asked, self.runs, job.known, job.most)
        shown, over = run.written.steps, False
        try:
            async with aclosing(self.runs.follow([run], claim)) as updates:
                async for _ in updates:
                    if len(shown) > len(job.known):  # a copy now is of this text
                        story.chosen = story.chosen if job.most is None else len(shown) - 1
                        visitor.visit = story.seen.visit(story.chosen)
                    yield
            over = True
        finally:
            story.live = None
            draft = draft_of(run, run.written.told_html() if job.most is None else "")
            if over or len(draft.steps) > len(job.known):  # else the text is as it was
                self._keep(draft, story, job, visitor)
        yield

    def _keep(self, draft: Draft, story: Story, job: Job, visitor: Visitor) -> None:
        """The draft becomes the text, or waits for a guess."""
        if job.guess and len(draft.steps) > draft.shown:
            story.guess = draft
            return
        if job.most is not None and draft.shown:
            story.chosen = draft.shown - 1
        story.add(draft)
        visitor.visit = draft.visit(story.chosen)

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
            wished = asked.steered(place, ids[0]).with_options(max_new_tokens=place + 1)
            async with aclosing(self.runs.write(wished, claim)) as updates:
                async for run in updates:
                    tried = run.written.steps
                    yield
            if len(tried) <= place:
                return
            probe = tried[place]
        story.add(replace(base, shown=place + 1))
        story.chosen = place
        story.said = (came, guessed(asked.tokenizer, ids, probe, came))
        data[self.shared.visitor].visit = story.present.visit(place)
        yield

    async def _versions(self, data: Values, story: Story, claim: Claim) -> AsyncIterator[None]:
        asked = await asyncio.to_thread(self.jobs.asked, data)
        by, count = data[self.layout.by], whole("how many", data[self.layout.count], 2, 4)
        named = await asyncio.to_thread(versions, self.runs.registry, asked, by, count)
        before = story.versions
        story.versions = {name: Writing(wished, self.runs) for name, wished in named.items()}
        try:
            async with aclosing(self.runs.follow([*story.versions.values()], claim)) as updates:
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
        values = [text, told, chips, self._panel(story), columns_html(story.versions)]
        return dict(zip(self.layout.streamed, values, strict=True))

    def _panel(self, story: Story) -> str:
        guess, seen, at = story.guess, story.seen, story.chosen
        if guess:
            return guess_html(guess.asked.tokenizer, guess.steps[guess.shown])
        if seen is None or at is None or at >= seen.shown:
            return HINT
        step, (of, said) = seen.steps[at], story.said
        return panel_html(seen.asked.tokenizer, step, at, said if step is of else "")

    async def choose(self, story: Story, visitor: Visitor, event: gr.EventData) -> str:
        """A chip was clicked or reached by keys; while the text streams too."""
        story.chosen = of_event(event, "position", _position)
        if story.present and not story.live:
            visitor.visit = story.present.visit(story.chosen)
        return self._panel(story)

    async def why(self, story: Story, visitor: Visitor) -> Any:
        """Internals is shown, at the place that predicted the chosen token."""
        if story.seen is None or story.chosen is None:
            return gr.skip()
        visitor.visit = story.seen.visit(story.chosen)
        return gr.update(selected="internals")

    def change(self, name: str) -> Callable[..., Any]:
        """The handler of Back, Undo, Redo and Take; each gives the controls of its draft back."""

        async def changed(
            story: Story, visitor: Visitor, prompt: str, event: gr.EventData = None
        ) -> Values:
            typed = None
            if story.live or not (story.present or name == "take"):
                return gr.skip()
            if name == "undo" and prompt != story.present.asked.prompt:
                story.edited = story.at, prompt  # an edit is undone first
            elif name == "redo" and story.edited and story.edited[0] == story.at:
                (_, typed), story.edited = story.edited, None
            elif name == "back":
                if not story.present.shown:
                    return gr.skip()
                story.add(replace(story.present, shown=story.present.shown - 1, told=""))
                story.chosen = None
            elif name == "take":
                column, place = of_event(event, "column"), getattr(event, "position", None)
                runs = [*story.versions.values()]
                if not 0 <= column < len(runs) or not all(run.over for run in runs):
                    return gr.skip()
                story.chosen = None if place is None else of_event(event, "position", _position)
                story.add(draft_of(runs[column]))
            elif not story.move(-1 if name == "undo" else 1):
                return gr.skip()
            visitor.visit = story.present.visit(story.chosen)
            filled = self.layout.filled(story.present.visit())
            if typed is not None:
                filled[self.layout.prompt] = typed
            return {**self.shown(story), **filled}

        return changed

    async def open(self, story: Story, visitor: Visitor, request: gr.Request) -> Values:
        """The finished example that a page opens with: a real run, made once."""
        linked = request and {"prompt", "model"} & set(request.query_params)
        if story.present or story.live or linked:
            return gr.skip()
        async with self._writes_opening:  # the first visitor does, and others wait for it
            if self._opening is None:
                run = Writing(await asyncio.to_thread(self.jobs.replayed, OPENING), self.runs)
                await run.start(lambda: None)
                self._opening = draft_of(run)
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
