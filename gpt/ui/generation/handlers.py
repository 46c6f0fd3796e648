"""What the tab's events do: methods over a page's story, its controls and the runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from gpt.ui.generation.jobs import FRESH, Job, Jobs, guess_ids
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.panel import guess_html, guessed, hint_html, panel_html
from gpt.ui.generation.run import Writing, lasting, steered
from gpt.ui.generation.runs import Runs
from gpt.ui.generation.settings import AUTO, DEFAULTS, OPENING
from gpt.ui.generation.story import Draft, Story
from gpt.ui.generation.versions import columns_html, versions
from gpt.ui.visit import Shared, Visit, Visitor

Order = tuple[str, Any]  # what a run is to do, and with what
Values = dict[Any, Any]


class Handlers:
    """The handlers of one layout; `story` holds a page's text, `loaded` the last model that wrote.

    `start` and `finish` answer at once, `write` streams, the others change the text as it is.
    """

    def __init__(self, layout: Layout, runs: Runs, shared: Shared) -> None:
        self.layout, self.runs, self.shared = layout, runs, shared
        self.jobs = Jobs(layout, runs.registry)
        self.story = gr.State(Story())
        self.loaded = gr.State(layout.model.value)
        self._opening: Draft | None = None

    def start(self, order: Order) -> Callable[..., Any]:
        """The handler of an event that asks for a run."""
        kind, value = order
        layout = self.layout

        async def claim(
            story: Story,
            request: gr.Request,
            event: gr.EventData = None,  # type: ignore[assignment]
        ) -> list[Any]:
            given, session = value, request.session_hash or ""
            if kind == "use":
                given = (story.chosen, int(event.token))
                await self.runs.ended(session)
            elif kind == "guess":
                given = (int(event.token), str(event.text))
            filled = [gr.skip()] * len(layout.filled_by_examples)
            streamed = [gr.skip()] * len(layout.streamed)
            if not self.runs.claim(session):  # a second click, a key held down
                return [*filled, *streamed, gr.skip(), gr.skip()]
            story.order = (kind, given)
            if kind in FRESH:
                story.chosen, story.columns = None, ""
                streamed = ["", "", "", hint_html(), ""]
            if kind == "example":
                values = layout.filled(given)
                filled = [values.get(c, gr.skip()) for c in layout.filled_by_examples]
            return [*filled, *streamed, *buttons(True)]

        return claim

    async def write(self, data: Values, request: gr.Request) -> AsyncIterator[Values]:
        """What streams."""
        session, layout = request.session_hash or "", self.layout
        claim = self.runs.begin(session)
        if claim is None:
            yield dict.fromkeys({*layout.streamed, self.loaded}, gr.skip())
            return
        story: Story = data[self.story]
        shown = {self.loaded: data[self.loaded]}
        make = {"versions": self._versions, "guess": self._guess}.get(story.order[0], self._text)
        try:
            async with aclosing(make(data, story, session)) as updates:
                async for running in updates:
                    if claim.stopped:  # before there was a run to stop
                        self.runs.stop(session)
                    if running:
                        shown[self.loaded] = data[layout.model]
                    yield {**shown, **self.shown(story)}
        finally:
            story.live = None
            if self.runs.claims.get(session) is claim:
                del self.runs.claims[session]

    async def finish(self, model: str, last: str, request: gr.Request) -> list[Any]:
        """The buttons as they should be now, which may be the next run's already."""
        if (request.session_hash or "") in self.runs.claims:
            return [gr.skip()] * 3
        failed = self.runs.failed_to_load.pop(request.session_hash or "", None) == model
        return [*buttons(False), last if failed else gr.skip()]

    async def _text(self, data: Values, story: Story, session: str) -> AsyncIterator[bool]:
        """A text is begun or goes on; comes by at each update, True once the model has written."""
        visitor: Visitor = data[self.shared.visitor]
        job = await asyncio.to_thread(self.jobs.of, data, story, visitor.visit)
        if job.most is not None and len(job.known) >= job.most + job.guess:
            self._keep(job.draft(job.known, job.most), story, job, visitor)
            yield False
            return
        run = Writing(job.asked, self.runs.begin_row, job.known, job.most)
        story.live, story.job = run, job
        try:
            async with aclosing(self.runs.follow([run], session)) as updates:
                async for _ in updates:
                    count = len(run.written.steps)
                    if story.order[0] == "next" and count > len(job.known):
                        story.chosen = count - 1
                    yield count > 0
        finally:
            written = run.written
            told = written.told_html() if job.most is None else ""
            story.live, steps = None, (*written.steps, *written.ahead)
            if steps or written.stopped:
                draft = job.draft(steps, len(written.steps), told)
                self._keep(draft, story, job, visitor)
        yield bool(written.steps)

    def _keep(self, draft: Draft, story: Story, job: Job, visitor: Visitor) -> None:
        """The draft becomes the text, or waits for a guess."""
        if job.guess and len(draft.steps) > draft.shown:
            story.guess = draft
            return
        if story.order[0] == "next" and draft.shown:
            story.chosen = draft.shown - 1
        story.add(draft)
        visitor.visit = draft.visit(story.chosen)

    async def _guess(self, data: Values, story: Story, session: str) -> AsyncIterator[bool]:
        """The visitor's guess beside what came; one outside the ten best is put in to be read."""
        base, (token_id, text) = story.guess, story.order[1]
        if base is None:
            raise ValueError("press Next token first: the guess is about the one that comes.")
        place, asked = base.shown, base.asked
        ids = [token_id] if token_id >= 0 else guess_ids(base, text)
        came = base.steps[place]
        ranks = {c.token_id: (i + 1, c.probability) for i, c in enumerate(came.candidates)}
        if ids[0] in ranks:
            rank, chance = ranks[ids[0]]
            probe = replace(came, token_id=ids[0], rank=rank, probability=chance)
        else:
            wished = lasting(steered(asked, place, ids[0]), place + 1)
            run = Writing(wished, self.runs.begin_row)
            async with aclosing(self.runs.follow([run], session)) as updates:
                async for _ in updates:
                    yield False
            if len(run.written.steps) <= place:
                return
            probe = run.written.steps[place]
        story.add(replace(base, shown=place + 1))
        story.chosen = place
        story.said = (place, guessed(asked.tokenizer, ids, probe, came))
        data[self.shared.visitor].visit = story.present.visit(place)
        yield True

    async def _versions(self, data: Values, story: Story, session: str) -> AsyncIterator[bool]:
        job = await asyncio.to_thread(self.jobs.asked, data)
        by, count = data[self.layout.by], int(data[self.layout.count] or 0)
        named = versions(self.runs.registry, job.asked, by, count)
        names = [name for name, _ in named]
        runs = [Writing(asked, self.runs.begin_row) for _, asked in named]
        async with aclosing(self.runs.follow(runs, session)) as updates:
            async for _ in updates:
                story.columns = columns_html(names, runs)
                yield any(run.written.steps for run in runs)
        story.columns = columns_html(names, runs)
        story.versions = [job.version(run) for run in runs]
        yield True

    # What is shown, and what changes the text without a run

    def shown(self, story: Story) -> Values:
        """The text, its statistics and chips, the panel and the versions."""
        layout, run = self.layout, story.live
        text, told, chips = "", "", ""
        if run is not None:
            text, chips = run.written.text, run.written.chips
            told = f'<p class="stats">{escape(run.stage)}</p>' if run.stage else ""
            told = told or run.written.told_html()
        elif story.present:
            written = story.present.written()
            text, chips = written.text, written.chips
            told = story.present.told or written.told_html()
        values = [text, told, chips, self._panel(story), story.columns]
        return dict(zip(layout.streamed, values, strict=True))

    def _panel(self, story: Story) -> str:
        draft = story.guess or story.present
        if story.guess:
            return guess_html(story.guess.asked.tokenizer, story.guess.steps[story.guess.shown])
        asked = story.live.asked if story.live else draft and draft.asked
        steps = story.on_page
        if asked is None or story.chosen is None or story.chosen >= len(steps):
            return hint_html()
        said = story.said[1] if story.said[0] == story.chosen else ""
        return panel_html(asked.tokenizer, steps[story.chosen], story.chosen, said)

    async def choose(self, story: Story, visitor: Visitor, event: gr.EventData) -> str:
        """A chip was clicked or reached by keys; while the text streams too."""
        story.chosen = int(event.position)
        if story.present and not story.live:
            visitor.visit = story.present.visit(story.chosen)
        return self._panel(story)

    async def why(self, story: Story, visitor: Visitor) -> Any:
        """Internals is shown, at the place that predicted the chosen token."""
        draft = story.present
        if story.live and story.job:
            draft = story.job.draft(story.on_page, len(story.on_page))
        if draft is None or story.chosen is None:
            return gr.skip()
        visitor.visit = draft.visit(story.chosen)
        return gr.update(selected="internals")

    def change(self, name: str) -> Callable[..., Any]:
        """The handler of Back, Undo, Redo and Take; each gives the controls of its draft back."""

        async def changed(
            story: Story,
            visitor: Visitor,
            prompt: str,
            event: gr.EventData = None,  # type: ignore[assignment]
        ) -> list[Any]:
            outputs = [*self.layout.streamed, *self.layout.filled_by_examples]
            typed = None
            if story.live or not (story.present or name == "take"):
                return [gr.skip()] * len(outputs)
            if name == "undo" and prompt != story.present.prompt:
                story.edited = prompt  # an edit is undone first
            elif name == "redo" and story.edited is not None:
                typed, story.edited = story.edited, None
            elif name == "back":
                if not story.present.shown:
                    return [gr.skip()] * len(outputs)
                story.add(replace(story.present, shown=story.present.shown - 1, told=""))
                story.chosen = None
            elif name == "take":
                story.add(story.versions[int(event.column)])
                story.chosen = None
            elif not story.move(-1 if name == "undo" else 1):
                return [gr.skip()] * len(outputs)
            visitor.visit = story.present.visit()
            filled = self.filled(story.present.visit())
            if typed is not None:
                filled[self.layout.prompt] = typed
            values = {**self.shown(story), **filled}
            return [values.get(component, gr.skip()) for component in outputs]

        return changed

    def filled(self, visit: Visit) -> Values:
        """The controls of a visit; its seed stays where a new one is drawn."""
        values = {**DEFAULTS, "precision": AUTO, **visit.settings}
        layout = self.layout
        filled = {c: values[name] for name, c in layout.settings.items() if name != "seed"}
        return {
            **filled,
            layout.prompt: visit.prompt,
            layout.model: visit.model,
            layout.precision: values["precision"],
        }

    async def open(self, story: Story, request: gr.Request) -> list[Any]:
        """The finished example that a page opens with: a real run, made once."""
        skipped = [gr.skip()] * len(self.layout.streamed)
        if OPENING is None or story.present or story.live or _is_link(request):
            return skipped
        if self._opening is None:
            job = await asyncio.to_thread(self.jobs.replayed, OPENING.visit)
            run = Writing(job.asked, self.runs.begin_row)
            async with aclosing(self.runs.follow([run], "")) as updates:
                async for _ in updates:
                    pass
            self._opening = job.draft(tuple(run.written.steps), len(run.written.steps))
        if story.present or story.live:  # the visitor was quicker
            return skipped
        story.add(self._opening)
        return [self.shown(story)[component] for component in self.layout.streamed]


def _is_link(request: gr.Request) -> bool:
    """Whether the page's address names a text of its own."""
    return bool(request and {"prompt", "model"} & set(request.query_params))


def buttons(busy: bool) -> list[Any]:
    """Generate and Stop: one of them is shown."""
    return [gr.update(visible="hidden" if hidden else True) for hidden in (busy, not busy)]
