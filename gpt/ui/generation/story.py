"""A visitor's text and its changes: each state of it, with undo and redo over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from gpt.generate import Step
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.runs import Writing
from gpt.ui.generation.wish import Wish
from gpt.ui.visit import Visit

MOST_DRAFTS = 40
MOST_STEPS = 4_000  # of all drafts together; a step takes about a kilobyte


@dataclass(frozen=True)
class Draft:
    """One state of the text: what was asked for, the steps that are known, and those shown."""

    asked: Wish
    steps: tuple[Step, ...] = ()
    shown: int = 0
    told: str = ""  # the measurements of the run that wrote it, as HTML

    @classmethod
    def of(cls, run: Writing) -> Draft:
        """What a run has written so far."""
        steps = tuple(run.written.steps)
        return cls(run.asked, steps, len(steps))

    @property
    def ended(self) -> bool:
        """Whether the model or a text has ended it where it ends now."""
        last = self.steps[self.shown - 1].stop if self.shown else None
        return last not in (None, "max_new_tokens")

    def known(self, count: int) -> tuple[Step, ...]:
        """The first steps as those of a longer run: the limit did not end them."""
        return tuple(
            replace(step, stop=None) if step.stop == "max_new_tokens" else step
            for step in self.steps[:count]
        )

    def written(self) -> Continuation:
        """What the page shows of it."""
        written = Continuation(self.asked, self.shown)
        for step in self.steps:
            written.add(0.0, step)
        written.stop(by_visitor=False)
        return written

    def visit(self, position: int | None = None) -> Visit:
        """What all tabs know of it; `position` is that of a new token, if one was chosen."""
        asked, new = self.asked, [step.token_id for step in self.steps[: self.shown]]
        return Visit(
            model=asked.source,
            prompt=asked.prompt,
            settings=asked.settings,
            seed=asked.options.seed,
            steering=tuple(pair for pair in asked.options.steering if pair[0] < len(new)),
            tokens=len(new),
            position=None if position is None else len(asked.ids) + position,
            ids=(*asked.ids, *new),
        )


@dataclass
class Story:
    """The drafts of one page, what is chosen in them, and what was asked for last."""

    drafts: list[Draft] = field(default_factory=list)
    at: int = -1
    order: tuple[str, Any] = ("write", None)  # what the next run is to do
    live: Writing | None = None  # while it is written
    chosen: int | None = None  # a new token, by its place
    guess: Draft | None = None  # a next token that waits for the visitor's guess
    said: tuple[int, str] = (-1, "")  # about a guess, in the panel of a place
    edited: str | None = None  # a prompt that was typed and undone
    columns: str = ""  # the versions side by side, as HTML
    versions: list[Draft] = field(default_factory=list)
    loaded: str = ""  # the last model that wrote
    failed: str = ""  # one that could not be had, until the page has told it

    @property
    def present(self) -> Draft | None:
        return self.drafts[self.at] if self.drafts else None

    def add(self, draft: Draft) -> None:
        """Makes it the present one; what was undone is gone, and the oldest beyond the bounds."""
        self.drafts = [*self.drafts[: self.at + 1], draft][-MOST_DRAFTS:]
        while len(self.drafts) > 2 and sum(len(d.steps) for d in self.drafts) > MOST_STEPS:
            del self.drafts[0]
        self.at, self.guess, self.edited = len(self.drafts) - 1, None, None

    def move(self, by: int) -> bool:
        """Undo (-1) or redo (1); whether there was one."""
        if not 0 <= self.at + by < len(self.drafts):
            return False
        self.at, self.chosen, self.guess = self.at + by, None, None
        return True

    @property
    def seen(self) -> Draft | None:
        """What is on the page now, while it is written too."""
        return Draft.of(self.live) if self.live else self.present
