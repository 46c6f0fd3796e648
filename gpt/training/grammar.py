"""A grammar that writes documents from templates, and knows their probability and entropy."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A slot of a template: `<rule>` writes by a rule; `<rule as name>` also keeps what was written,
# `<rule as name not other>` something else than `other`; `{name}` repeats it, and `{name.1}`
# the second of the forms of a word "Anna|she|her|She".
_SLOT = re.compile(r"<(\w+)(?: as (\w+))?(?: not (\w+))?>|\{(\w+)(?:\.(\d))?\}")


@dataclass(frozen=True)
class _Part:
    """A piece of a template: its literal text, then at most one slot."""

    literal: str
    rule: str | None
    name: str | None
    other: str | None
    again: str | None
    form: int


def parts_of(template: str) -> list[_Part]:
    """The template cut after each of its slots."""
    cut = [*_SLOT.split(template), *[None] * 5]  # a literal, a slot's five groups, a literal, ...
    return [_Part(*cut[at : at + 5], int(cut[at + 5] or 0)) for at in range(0, len(cut), 6)]


class Grammar:
    """Templates that a rule chooses among; choices depend on no earlier one but through `not`.

    `rules` gives each rule's templates: with weights, or equally likely, as a list or as words
    in one string (or phrases with " / " between them). "document" is the first rule.
    If no two derivations write the same text, the entropy of a derivation, which is what
    `nats_per_document` sums up, is that of the text.
    """

    def __init__(self, rules: Mapping[str, str | Sequence[str] | Mapping[str, float]]) -> None:
        self.rules = {name: _weighted(given) for name, given in rules.items()}
        self._parts = {t: parts_of(t) for templates in self.rules.values() for t in templates}
        self.nats_per_document = self._entropy("document")

    def document(self, rng: random.Random) -> tuple[str, float]:
        """One document and -ln of its probability."""
        return self._write("document", None, {}, rng)

    def _write(
        self, rule: str, unwanted: str | None, known: dict[str, str], rng: random.Random
    ) -> tuple[str, float]:
        choices = {t: weight for t, weight in self.rules[rule].items() if t != unwanted}
        (template,) = rng.choices(list(choices), list(choices.values()))
        text, nats = "", math.log(sum(choices.values()) / choices[template])
        for part in self._parts[template]:
            text += part.literal
            if part.rule:
                words, its_nats = self._write(part.rule, known.get(part.other), known, rng)
                text, nats = text + words.split("|")[0], nats + its_nats
                if part.name:
                    known[part.name] = words
            elif part.again:
                text += known[part.again].split("|")[part.form]
        return text, nats

    def _entropy(self, rule: str) -> float:
        """Nats of all choices from `rule` down, in the mean."""
        templates, total = self.rules[rule], sum(self.rules[rule].values())
        nats = 0.0
        for template, weight in templates.items():
            below = sum(self._slot_entropy(part) for part in self._parts[template] if part.rule)
            nats += weight / total * (math.log(total / weight) + below)
        return nats

    def _slot_entropy(self, part: _Part) -> float:
        # `not` is for words that are equally likely: one of them fewer.
        return math.log(len(self.rules[part.rule]) - 1) if part.other else self._entropy(part.rule)


def _weighted(given: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str):
        given = given.split(" / ") if " / " in given else given.split()
    return dict.fromkeys(given, 1.0)
