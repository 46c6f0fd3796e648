"""Made texts: what is written follows the rules, and its entropy is what is said."""

from __future__ import annotations

import functools
import math
import random
import re
from collections import Counter, defaultdict, namedtuple

import pytest

from gpt.tokenizer import END_OF_TEXT
from gpt.training.corpus import split_documents
from gpt.training.texts import (
    CAPITALS,
    SLOT,
    STORIES,
    Additions,
    Grammar,
    make_text,
)

Part = namedtuple("Part", "literal rule name other again form")


@functools.cache
def parts_of(template):
    """The template cut after each of its slots: a literal, and the groups of the slot if any."""
    cut = [*SLOT.split(template), *[None] * 5]
    return [Part(*cut[at : at + 5], int(cut[at + 5] or 0)) for at in range(0, len(cut), 6)]


def derivations(grammar, rule, text, at=0, known=None, unwanted=None):
    """Every way to write `text` from `at` on by `rule`: (end, names, choices) each.

    A choice is (rule, what was not allowed, template). Written from the meaning of templates,
    without the grammar's own code for writing and counting.
    """
    for template in grammar.rules[rule]:
        if template == unwanted:
            continue
        choice = ((rule, unwanted, template),)
        if "|" in template or template.isalpha():
            if text.startswith(word := template.split("|")[0], at):
                yield at + len(word), known or {}, choice
            continue
        for end, names, below in _sequence(grammar, parts_of(template), text, at, known or {}):
            yield end, names, choice + below


def _sequence(grammar, parts, text, at, known):
    if not parts:
        yield at, known, ()
        return
    part, *rest = parts
    if not text.startswith(part.literal, at):
        return
    at += len(part.literal)
    if part.again:
        word = known[part.again].split("|")[part.form]
        if text.startswith(word, at):
            yield from _sequence(grammar, rest, text, at + len(word), known)
    elif part.rule:
        unwanted = known.get(part.other)
        for end, names, below in derivations(grammar, part.rule, text, at, known, unwanted):
            named = {**names, part.name: below[0][2]} if part.name else names
            for last, others, after in _sequence(grammar, rest, text, end, named):
                yield last, others, below + after
    else:
        yield from _sequence(grammar, rest, text, at, known)


def whole(grammar, text):
    return [below for end, _, below in derivations(grammar, "document", text) if end == len(text)]


def entropy_of(grammar, rule="document"):
    """Nats of all choices from `rule` down, in the mean."""
    templates, total = grammar.rules[rule], sum(grammar.rules[rule].values())
    nats = 0.0
    for template, weight in templates.items():
        below = 0.0
        for part in filter(lambda part: part.rule, parts_of(template)):
            others = len(grammar.rules[part.rule]) - 1  # all are equally likely
            below += math.log(others) if part.other else entropy_of(grammar, part.rule)
        nats += weight / total * (below - math.log(weight / total))
    return nats


@pytest.fixture(scope="module")
def made():
    """A million characters, which are the tokens of a vocabulary of characters."""
    return make_text(STORIES, 1_000_000, seed=1)


@pytest.fixture(scope="module")
def stories(made):
    return made[0]


@pytest.fixture(scope="module")
def found(stories):
    """For each story all its derivations, from its text alone."""
    return [whole(STORIES, text) for text in documents(stories)]


def documents(text):
    return text.removesuffix(f"\n{END_OF_TEXT}\n").split(f"\n{END_OF_TEXT}\n")


def test_every_story_has_one_derivation(found):
    assert {len(ways) for ways in found} == {1}


def test_a_grammar_with_two_ways_to_one_text_would_be_seen():
    grammar = Grammar({"document": ["<word> <word>"], "word": ["a", "a a", "b"]})
    assert len(whole(grammar, "a a a")) == 2


def test_the_computed_entropy_is_that_of_a_million_tokens(found):
    """Frequencies of the choices that the text shows, with the correction of Miller and Madow.

    The rule "" of an empty habit was never chosen at first: the estimate was 3 % above.
    """
    counts = defaultdict(Counter)
    for (choices,) in found:
        for rule, unwanted, template in choices:
            counts[rule, unwanted][template] += 1
    nats = 0.0
    for chosen in counts.values():
        n = sum(chosen.values())
        entropy = -sum(k / n * math.log(k / n) for k in chosen.values())
        nats += n * entropy + (len(chosen) - 1) / 2
    assert nats / len(found) == pytest.approx(entropy_of(STORIES), rel=0.01)


def test_the_probability_of_a_text_is_in_the_mean_its_entropy(made):
    text, nats = made
    nats /= len(documents(text))
    assert nats == pytest.approx(entropy_of(STORIES), rel=0.01)


def test_a_small_grammar_is_counted_by_hand():
    """Weights 3 to 1, a pair without repetition, a form of a word: all documents listed."""
    grammar = Grammar(
        {
            "document": {"<word as x> <word not x>": 3, "so <word as y>, {y.1}": 1},
            "word": ["a|A", "bb|BB", "c|C"],
        }
    )
    pairs = {f"{x} {y}": 3 / 4 / 6 for x in ("a", "bb", "c") for y in ("a", "bb", "c") if x != y}
    known = pairs | {f"so {x}, {x.upper()}": 1 / 4 / 3 for x in ("a", "bb", "c")}
    assert entropy_of(grammar) == pytest.approx(-sum(p * math.log(p) for p in known.values()))
    rng = random.Random(0)
    for _ in range(50):
        text, nats = grammar.document(rng)
        assert nats == pytest.approx(-math.log(known[text]))


def test_questions_are_answered_from_their_story(stories):
    """The sentences refer back: the question's answer stands earlier in every story."""
    for text in documents(stories)[:300]:
        *_, sentence = re.split(r"(?<=\?) ", text)
        story = text[: text.rindex("?")]
        answer = re.sub(r"^(It was not|It was|She|He)? ?(lives|eats|ate)? ?", "", sentence)
        answer = re.sub(r" (has it|found it for \w+)\.$|\.$", "", answer)
        assert answer in story, text


def test_a_story_has_about_three_hundred_words(stories):
    words = set(re.findall(r"[a-z]+", stories.replace(END_OF_TEXT, "").lower()))
    assert 250 <= len(words) <= 350


def test_a_seed_is_a_text():
    assert make_text(STORIES, 2000, seed=3) == make_text(STORIES, 2000, seed=3)
    assert make_text(STORIES, 2000, seed=3) != make_text(STORIES, 2000, seed=4)


def test_a_made_text_is_read_as_its_documents():
    text, _ = make_text(Additions(), 100, seed=1)
    assert split_documents(text) == documents(text)


def test_no_addition_is_both_learnt_and_held_out():
    learnt, held_out = set(Additions().pairs), set(Additions(held_out=True).pairs)
    assert not learnt & held_out
    assert len(learnt | held_out) == 90 * 90
    assert len(held_out) == 810


def test_each_country_has_one_capital():
    assert len(dict(CAPITALS)) == len(CAPITALS) > 100
    assert dict(CAPITALS)["New Zealand"] == "Wellington"
    assert all(len(pair) == 2 for pair in CAPITALS)
