"""A visitor's text: its states, with undo and redo over all of them, and what writes the next one.

An order of the visitor, with the controls and the text as they are, is a job: a run to make.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from gpt.generate import Step
from gpt.serving.registry import Registry
from gpt.ui.generation.continuation import Continuation
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.runs import AHEAD, Claim, Writing
from gpt.ui.generation.settings import DRAW_A_SEED, MAX_NEW_TOKENS, sampling_options
from gpt.ui.generation.wish import Wish, wish
from gpt.ui.visit import Visit

Values = dict[Any, Any]
MOST_DRAFTS = 40
MOST_STEPS = 4_000  # of all drafts together; a step takes about a kilobyte
FRESH = ("write", "example", "again", "reseed", "replay")  # orders that begin a text


@dataclass(frozen=True)
class Job:
    """A run to make: what is asked for, what is known of it, how much is shown (None: all).

    With `guess` the step after those that are shown must be known too.
    """

    asked: Wish
    known: tuple[Step, ...] = ()
    most: int | None = None
    guess: bool = False

    @property
    def done(self) -> bool:
        """Whether all of it is known already."""
        return self.most is not None and len(self.known) >= self.most + self.guess


@dataclass(frozen=True)
class Draft:
    """One state of the text: what was asked for, the steps that are known, and those shown."""

    asked: Wish
    steps: tuple[Step, ...] = ()
    shown: int = 0
    told: str = ""  # the measurements of the run that wrote it, as HTML

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

    def going_on(self, limit: int, ahead: int = 0, guess: bool = False) -> Job:
        """More of the same text, to so many new tokens; `ahead` more are written, and not shown."""
        if self.ended:
            raise ValueError("the text has ended here: use another token in its place, or Back.")
        if limit > MAX_NEW_TOKENS:
            raise ValueError(f"the text would have {limit:,} tokens: use at most {MAX_NEW_TOKENS}.")
        asked = self.asked.with_options(max_new_tokens=limit)
        return Job(asked, self.known(limit + ahead), limit - guess if ahead else None, guess)

    def guess_ids(self, text: str) -> list[int]:
        """The tokens of a guess, as a new word where the text does not end with a space.

        Raises ValueError if it has none.
        """
        before = self.asked.prompt + self.written().text
        text = text if before[-1:].isspace() or text[:1].isspace() else f" {text}"
        if not text.strip():
            raise ValueError("the guess is empty: type a word.")
        return self.asked.tokenizer.encode(text[:60])

    def written(self) -> Continuation:
        """What the page shows of it."""
        written = Continuation(self.asked, self.shown, self.steps)
        written.finish()
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


def draft_of(run: Writing, told: str = "") -> Draft:
    """What a run has written so far."""
    written = run.written
    return Draft(run.asked, (*written.steps, *written.ahead), len(written.steps), told)


@dataclass
class Story:
    """The drafts of one page, what is chosen in them, and what was asked for last."""

    drafts: list[Draft] = field(default_factory=list)
    at: int = -1
    claim: Claim | None = None  # of the run that is asked for, until it has ended
    live: Writing | None = None  # while it is written
    chosen: int | None = None  # a new token, by its place
    guess: Draft | None = None  # a next token that waits for the visitor's guess
    said: tuple[Step | None, str] = (None, "")  # about a guess, in the panel of its step
    edited: tuple[int, str] | None = None  # a prompt that was typed and undone, and where
    versions: dict[str, Writing] = field(default_factory=dict)  # side by side, by name
    loaded: str = ""  # the last model that wrote
    failed: str = ""  # one that wrote nothing, if the last run's did

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
        return draft_of(self.live) if self.live else self.present


class Jobs:
    """Makes the jobs of one layout. Raises ValueError for what cannot be written."""

    def __init__(self, layout: Layout, registry: Registry) -> None:
        self.layout, self.registry = layout, registry

    def of(self, data: Values, story: Story, visit: Visit) -> Job:
        """What the page's order asks for; `visit` is what a "replay" of no other writes."""
        kind, value = story.claim.order
        base = story.present
        if kind == "replay":
            return Job(self.replayed(value or visit))
        if kind in FRESH:
            if kind in ("again", "reseed"):
                seed = base.asked.options.seed if base and kind == "again" else DRAW_A_SEED
                return Job(self.asked(data, seed=seed))
            return Job(self.asked(data))
        if kind == "next":
            asked = self.asked(data)
            if base is None or not base.asked.same_text(asked):
                base = Draft(asked)
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
        return Job(base.asked.steered(position, token_id), base.known(position))

    def asked(self, data: Values, **changed: Any) -> Wish:
        """What the controls ask for, but for the settings in `changed`."""
        layout, values = self.layout, {**self.layout.values(data), **changed}
        return wish(self.registry, data[layout.prompt], values, data[layout.model])

    def replayed(self, visit: Visit) -> Wish:
        """The text of a visit, as it was written."""
        values, source = dict(visit.settings), visit.model or self.layout.model.value
        if visit.seed is not None:
            values["seed"] = visit.seed
        asked = wish(self.registry, visit.prompt, values, source, visit.steering)
        length = visit.tokens or asked.options.max_new_tokens
        return asked.with_options(max_new_tokens=min(length, MAX_NEW_TOKENS))
