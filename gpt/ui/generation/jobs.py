"""What an order of the visitor asks to be written: a job, made of the controls and the story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.generate import Step
from gpt.serving.registry import Registry
from gpt.ui.generation.layout import Layout
from gpt.ui.generation.run import Wish, Writing, lasting, steered, wish
from gpt.ui.generation.settings import AUTO, DEFAULTS, MAX_NEW_TOKENS, sampling_options
from gpt.ui.generation.story import Draft, Story
from gpt.ui.visit import Visit

Values = dict[Any, Any]
AHEAD = 10  # tokens that a single step writes beyond what it shows: the next ones come at once
FRESH = ("write", "example", "again", "reseed", "replay")  # orders that begin a text
NO_TEXT = "there is no text yet: press Generate first."


@dataclass(frozen=True)
class Job:
    """A run to make: what is asked for, what is known of it, how much is shown (None: all).

    With `guess` the step after those that are shown must be known too.
    """

    asked: Wish
    prompt: str
    settings: Mapping[str, Any]
    known: tuple[Step, ...] = ()
    most: int | None = None
    guess: bool = False

    def draft(self, steps: tuple[Step, ...], shown: int, told: str = "") -> Draft:
        return Draft(self.asked, self.prompt, self.settings, steps, shown, told)

    def version(self, run: Writing) -> Draft:
        """What a run that was asked for beside this one wrote, with the settings that differ."""
        asked, other = self.asked, run.asked
        settings = dict(self.settings)
        if other.options.temperature != asked.options.temperature:
            settings["temperature"] = other.options.temperature
        if other.precision != asked.precision:
            settings["precision"] = other.precision
        steps = tuple(run.written.steps)
        return Draft(other, self.prompt, settings, steps, len(steps))


class Jobs:
    """Makes the jobs of one layout. Raises ValueError for what cannot be written."""

    def __init__(self, layout: Layout, registry: Registry) -> None:
        self.layout, self.registry = layout, registry

    def of(self, data: Values, story: Story, visit: Visit) -> Job:
        """What is to be written. Raises ValueError if it cannot be."""
        kind, value = story.order
        base = story.present
        if kind == "replay":
            return self.replayed(value or visit)
        if kind in FRESH or kind == "next":
            seed = {"again": base.asked.options.seed, "reseed": -1} if base else {"reseed": -1}
            job = self.asked(data, seed.get(kind))
            if kind != "next":
                return job
            if base is None or not base.continues(job.asked):
                base = job.draft((), 0)
            guess = bool(data[self.layout.guess]) and value == 1
            count, most = base.shown + value + AHEAD, base.shown + value - guess
            limit = max(most + guess, min(count, MAX_NEW_TOKENS))
            return self._going_on(base, base.asked, len(base.steps), limit, most, guess)
        if base is None:
            raise ValueError(NO_TEXT)
        if kind == "more":
            added = sampling_options(self.layout.values(data)).max_new_tokens
            return self._going_on(base, base.asked, len(base.steps), base.shown + added)
        position, token_id = value
        if position is None or position >= base.shown:
            raise ValueError("choose a token of the text first: click one.")
        asked = steered(base.asked, position, token_id)
        return Job(asked, base.prompt, base.settings, base.known(position))

    def _going_on(
        self, base: Draft, asked: Wish, known: int, limit: int, most: int | None = None,
        guess: bool = False,
    ) -> Job:  # fmt: skip
        if base.ended:
            raise ValueError("the text has ended here: use another token in its place, or Back.")
        if limit > MAX_NEW_TOKENS:
            raise ValueError(f"the text would have {limit:,} tokens: use at most {MAX_NEW_TOKENS}.")
        steps = base.known(known)
        return Job(lasting(asked, limit), base.prompt, base.settings, steps, most, guess)

    def asked(self, data: Values, seed: int | None = None) -> Job:
        """What the controls ask for, with another seed if one is given."""
        layout = self.layout
        values = layout.values(data)
        if seed is not None:
            values["seed"] = seed
        prompt, source = data[layout.prompt], data[layout.model]
        asked = wish(
            self.registry, prompt, sampling_options(values), source, data[layout.device],
            data[layout.precision],
        )  # fmt: skip
        chosen = {**values, "precision": data[layout.precision], "device": data[layout.device]}
        standard = {**DEFAULTS, "precision": AUTO, "device": "cpu", "seed": chosen["seed"]}
        return Job(asked, prompt, {k: v for k, v in chosen.items() if v != standard[k]})

    def replayed(self, visit: Visit) -> Job:
        """The text of a visit, as it was written. Raises ValueError for impossible settings."""
        unknown = set(visit.settings) - {*DEFAULTS, "precision", "device"}
        if unknown:
            raise ValueError(
                f"there is no setting {min(unknown)[:40]!r}: use {', '.join(DEFAULTS)}."
            )
        values = {**DEFAULTS, "precision": AUTO, "device": "cpu", **visit.settings}
        if visit.seed is not None:
            values["seed"] = visit.seed
        options = sampling_options(values, visit.steering)
        asked = wish(
            self.registry, visit.prompt, options, visit.model or self.layout.model.value,
            values["device"], values["precision"],
        )  # fmt: skip
        length = min(visit.tokens or options.max_new_tokens, MAX_NEW_TOKENS)
        return Job(lasting(asked, length), visit.prompt, visit.settings)


def guess_ids(draft: Draft, text: str) -> list[int]:
    """The tokens of a guess, as a new word where the text does not end with a space.

    Raises ValueError if it has none.
    """
    tokenizer = draft.asked.tokenizer
    before = draft.prompt + draft.written().text
    text = text if before[-1:].isspace() or text[:1].isspace() else f" {text}"
    if not text.strip():
        raise ValueError("the guess is empty: type a word.")
    return tokenizer.encode(text[:60])
