"""What an order of the visitor asks to be written: a job, made of the controls and the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt.generate import Step
from gpt.serving.registry import Registry
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.settings import MAX_NEW_TOKENS, STANDARD, sampling_options
from gpt.ui.generation.story import Draft, Story
from gpt.ui.generation.wish import Wish, wish
from gpt.ui.visit import Visit

Values = dict[Any, Any]
AHEAD = 10  # tokens that a single step writes beyond what it shows: the next ones come at once
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

    def draft(self, steps: tuple[Step, ...], shown: int, told: str = "") -> Draft:
        """What is written of it; that steps were written ahead is no wish of the visitor's."""
        limit = self.asked.options.max_new_tokens if self.most is None else max(shown, 1)
        return Draft(self.asked.with_options(max_new_tokens=limit), steps, shown, told)

    @property
    def done(self) -> bool:
        """Whether all of it is known already."""
        return self.most is not None and len(self.known) >= self.most + self.guess


class Jobs:
    """Makes the jobs of one layout. Raises ValueError for what cannot be written."""

    def __init__(self, layout: Layout, registry: Registry) -> None:
        self.layout, self.registry = layout, registry

    def of(self, data: Values, story: Story, visit: Visit) -> Job:
        """What the page's order asks for; `visit` is what a "replay" of no other writes."""
        kind, value = story.order
        base = story.present
        if kind == "replay":
            return Job(self.replayed(value or visit))
        if kind in FRESH:
            again = kind == "again" and base
            new = {"seed": base.asked.options.seed if again else -1}
            return Job(self.asked(data, **(new if kind in ("again", "reseed") else {})))
        if kind == "next":
            asked = self.asked(data)
            if base is None or not base.asked.same_text(asked):
                base = Draft(asked)
            guess = bool(data[self.layout.guess]) and value == 1
            most = base.shown + value - guess
            limit = min(base.shown + value + AHEAD, MAX_NEW_TOKENS)
            return _going_on(base, max(most + guess, limit), most, guess)
        if base is None:
            raise ValueError("there is no text yet: press Generate first.")
        if kind == "more":
            added = sampling_options(self.layout.values(data)).max_new_tokens
            return _going_on(base, base.shown + added)
        position, token_id = value
        if position is None or position >= base.shown:
            raise ValueError("choose a token of the text first: click one.")
        return Job(base.asked.steered(position, token_id), base.known(position))

    def asked(self, data: Values, **changed: Any) -> Wish:
        """What the controls ask for, but for the settings in `changed`."""
        layout, values = self.layout, {**self.layout.values(data), **changed}
        names = (layout.model, layout.device, layout.precision)
        return wish(self.registry, data[layout.prompt], values, *(data[name] for name in names))

    def replayed(self, visit: Visit) -> Wish:
        """The text of a visit, as it was written."""
        if unknown := set(visit.settings) - set(STANDARD):
            raise ValueError(
                f"there is no setting {min(unknown)[:40]!r}: use {', '.join(STANDARD)}."
            )
        values = {**STANDARD, **visit.settings}
        if visit.seed is not None:
            values["seed"] = visit.seed
        asked = wish(
            self.registry, visit.prompt, values, visit.model or self.layout.model.value,
            values["device"], values["precision"], visit.steering,
        )  # fmt: skip
        length = visit.tokens or asked.options.max_new_tokens
        return asked.with_options(max_new_tokens=min(length, MAX_NEW_TOKENS))


def _going_on(base: Draft, limit: int, most: int | None = None, guess: bool = False) -> Job:
    """More of the same text, to so many new tokens."""
    if base.ended:
        raise ValueError("the text has ended here: use another token in its place, or Back.")
    if limit > MAX_NEW_TOKENS:
        raise ValueError(f"the text would have {limit:,} tokens: use at most {MAX_NEW_TOKENS}.")
    known = base.known(limit)
    return Job(base.asked.with_options(max_new_tokens=limit), known, most, guess)


def guess_ids(draft: Draft, text: str) -> list[int]:
    """The tokens of a guess, as a new word where the text does not end with a space.

    Raises ValueError if it has none.
    """
    before = draft.asked.prompt + draft.written().text
    text = text if before[-1:].isspace() or text[:1].isspace() else f" {text}"
    if not text.strip():
        raise ValueError("the guess is empty: type a word.")
    return draft.asked.tokenizer.encode(text[:60])
