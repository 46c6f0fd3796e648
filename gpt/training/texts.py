"""Texts generated from a seed, whose entropy is known: stories, additions, capitals.

A text is a sequence of documents drawn one by one, each with a known probability. The mean of
-ln(probability) is the entropy of a document; over the tokens of a document it is the loss that
no model can beat on such a text, however large it is and however long it learns.
"""

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpt.tokenizer import END_OF_TEXT

# A slot of a template: `<rule>` writes by a rule; `<rule as name>` also keeps what was written,
# `<rule as name not other>` something else than `other`; `{name}` repeats it, and `{name.1}`
# the second of the forms of a word "Anna|she|her|She".
SLOT = re.compile(r"<(\w+)(?: as (\w+))?(?: not (\w+))?>|\{(\w+)(?:\.(\d))?\}")


class Grammar:
    """Templates that a rule chooses among; choices depend on no earlier one but through `not`.

    `rules` gives each rule's templates, with weights or equally likely. "document" is the first.
    If no two derivations write the same text, the probability of a derivation is that of its text.
    """

    def __init__(self, rules: Mapping[str, Sequence[str] | Mapping[str, float]]) -> None:
        self.rules = {
            name: dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
            for name, given in rules.items()
        }

    def document(self, rng: random.Random) -> tuple[str, float]:
        """One document and -ln of its probability."""
        return self._write("document", None, {}, rng)

    def _write(
        self, rule: str, unwanted: str | None, known: dict[str, str], rng: random.Random
    ) -> tuple[str, float]:
        choices = {t: weight for t, weight in self.rules[rule].items() if t != unwanted}
        (template,) = rng.choices(list(choices), list(choices.values()))
        nats = math.log(sum(choices.values()) / choices[template])

        def fill(slot: re.Match[str]) -> str:
            nonlocal nats
            below, name, other, again, form = slot.groups()
            if again:
                return known[again].split("|")[int(form or 0)]
            words, its_nats = self._write(below, known.get(other), known, rng)
            nats += its_nats
            if name:
                known[name] = words
            return words.split("|")[0]

        return SLOT.sub(fill, template), nats


class Additions:
    """Lines such as `27+48=75` of numbers from 10 to 99, each pair equally likely.

    A tenth of the 8,100 pairs is held out, so that right sums of them were not learnt by heart. No
    model can know which, so for all it knows each has the odds of one pair in 8,100.
    """

    def __init__(self, held_out: bool = False) -> None:
        pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
        self.pairs = [(a, b) for a, b in pairs if ((7 * a + 3 * b) % 10 == 0) == held_out]
        self.nats_per_document = math.log(len(pairs))

    def document(self, rng: random.Random) -> tuple[str, float]:
        """One addition and -ln of its probability."""
        a, b = self.pairs[int(rng.random() * len(self.pairs))]
        return f"{a}+{b}={a + b}", self.nats_per_document


Source = Grammar | Additions  # documents of a known entropy, a line each


def make_text(source: Source, characters: int, seed: int) -> tuple[str, float]:
    """Documents of `source`, drawn from `seed` until they have `characters` characters in all.

    With a line `<|endoftext|>` after each, as files of `train` have; and -ln of the probability of
    them all.
    """
    rng = random.Random(seed)
    documents, length, nats = [], 0, 0.0
    while length < characters:
        document, its_nats = source.document(rng)
        documents.append(f"{document}\n{END_OF_TEXT}\n")
        length, nats = length + len(document), nats + its_nats
    return "".join(documents), nats


_ASSETS = Path(__file__).resolve().parents[2] / "assets"
# The rules of a grammar; each story ends with a question about what stands up to 400 characters
# before.
STORIES = Grammar(json.loads((_ASSETS / "stories.json").read_text(encoding="utf-8")))
# (country, capital), in English and in the letters of ASCII
_LINES = (_ASSETS / "capitals.txt").read_text(encoding="utf-8").splitlines()
CAPITALS = [tuple(line.split(", ")) for line in _LINES]
CAPITAL_SENTENCES = Grammar(
    {"document": [f"The capital of {country} is {capital}." for country, capital in CAPITALS]}
)
