"""Texts generated from a seed, whose entropy is known: stories, additions, capitals.

A text is a sequence of documents drawn one by one, each with a known probability. The mean of
-ln(probability) is the entropy of a document; over the tokens of a document it is the loss that
no model can beat on such a text, however large it is and however long it learns.
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.tokenizer import END_OF_TEXT

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
    If no two derivations write the same text, the probability of a derivation is that of its text.
    """

    def __init__(self, rules: Mapping[str, str | Sequence[str] | Mapping[str, float]]) -> None:
        self.rules = {name: _weighted(given) for name, given in rules.items()}
        self._parts = {t: parts_of(t) for templates in self.rules.values() for t in templates}

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


def _weighted(given: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str):
        given = given.split(" / ") if " / " in given else given.split()
    return dict.fromkeys(given, 1.0)


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


_GIRLS = ("Anna", "Ella", "Clara", "Rosa", "Greta", "Mina", "Ida", "Nora", "Lotte", "Hanna")
_BOYS = ("Tom", "Max", "Hugo", "Karl", "Otto", "Finn", "Emil", "Paul", "Anton", "Jonas")
_NAMES = [f"{name}|she|her|She" for name in _GIRLS] + [f"{name}|he|him|He" for name in _BOYS]

STORIES = Grammar(
    {
        "document": ["<opening> <owning><habit> <meeting> <request> <ending>"],
        "opening": [
            "<time>, a <nature as nature> <animal as kind> called <name as hero> lived "
            "<place as home>."
        ],
        "owning": [
            "{hero} had a <colour as colour> <thing as thing> and kept it <place as hidden>.",
            "{hero.3} owned nothing but a <colour as colour> <thing as thing>.",
            "There {hero.1} found a <colour as colour> <thing as thing> one <season>.",
        ],
        "habit": {
            "": 2,
            " Every <day> {hero.1} <chore> and dreamed of <food>.": 3,
            " The {kind} <chore> until the {thing} shone.": 1,
        },
        "meeting": [
            "One <day> <daytime>, while <weather>, <name as friend not hero> the "
            "<animal as other not kind> <arrived>."
        ],
        "request": [
            '"May I <use> your {colour} {thing}?" <asked> {friend}.',
            '"Dear {hero}, I am <nature as mood not nature>. Lend me that {thing}!" <asked> '
            "the {other}.",
        ],
        "ending": {
            '"Yes," said the {kind}, "if you bring me <food as pay>." Soon {friend} came back '
            "with the {pay}, and {hero} gave {friend.2} the {thing}. <asked_given>": 4,
            '"No," said the {kind}, "it is mine." So the {other} turned round and ate '
            "<food as meal> alone. <asked_kept>": 3,
            "But the {thing} was gone! They looked <place as first>, but it was not there. Then "
            "{friend} looked <place as second not first>, and there it lay. <asked_found>": 3,
        },
        # The answers are in the story, up to 400 characters before.
        "asked_given": [
            "Who has the {colour} {thing} now? {friend} has it.",
            "What does {hero} eat now? {hero.3} eats {pay}.",
            "Where does the {nature} {kind} live? {hero.3} lives {home}.",
        ],
        "asked_kept": [
            "Who has the {colour} {thing} now? {hero} has it.",
            "What did {friend} eat? {friend.3} ate {meal}.",
            "Where does the {nature} {kind} live? {hero.3} lives {home}.",
        ],
        "asked_found": [
            "Where was the {colour} {thing}? It was {second}.",
            "Who found the {thing}? {friend} found it for {hero}.",
            "Where was it not? It was not {first}.",
        ],
        "name": _NAMES,
        "nature": "small clever lazy brave shy proud quiet merry kind grey tired polite",
        "animal": "fox hare wolf bear cat dog goat mouse frog owl duck goose crow hen pig sheep "
        "badger mole otter deer squirrel beaver stork rat",
        "colour": "red blue green yellow white black brown silver golden purple",
        "thing": "ball kite drum lamp spoon basket bell book key hat scarf boat ring cup flute "
        "mirror coin ladder blanket whistle button wheel candle cart",
        "food": "bread honey cheese soup apples nuts berries pancakes cake milk porridge plums "
        "carrots pears butter jam",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "daytime": "morning evening night",
        "season": "spring summer autumn winter",
        "use": "borrow hold see paint carry mend",
        "asked": "asked begged cried whispered called",
        "chore": "swept the floor / sang to the birds / polished it / carried water / cut wood / "
        "picked flowers / mended shoes / counted clouds",
        "arrived": "came running / knocked three times / jumped over the fence / passed that way / "
        "fell through the roof / stopped to rest",
        "time": "Once upon a time / Long ago / Many winters ago / In the days of the old king / "
        "Before there were roads / When the moon was young",
        "place": "under the oak / by the river / behind the mill / near the bridge / in the deep "
        "forest / on top of the hill / beside the lake / below the castle / in a hollow tree / "
        "among the reeds / next to the church / inside the barn / at the well / over the bakery / "
        "between two rocks / across the field",
        "weather": "rain was falling / the sun was shining / snow lay everywhere / a cold wind "
        "blew / the mist was thick / thunder rolled / nobody else was awake / bees were humming",
    }
)

# (country, capital), in English and in the letters of ASCII
_FILE = Path(__file__).resolve().parents[2] / "assets" / "capitals.txt"
CAPITALS = [tuple(line.split(", ")) for line in _FILE.read_text(encoding="utf-8").splitlines()]
CAPITAL_SENTENCES = Grammar(
    {"document": [f"The capital of {country} is {capital}." for country, capital in CAPITALS]}
)
