"""The 5-minute tour: cards that show the page's places in the order of a text's making."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
import torch

from gpt.accounting.parameters import count_parameters
from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import config_of
from gpt.sampling import SamplingOptions, probabilities
from gpt.ui.generation.settings import DEFAULTS
from gpt.ui.parts.errors import of_event
from gpt.ui.parts.numbers import percent
from gpt.ui.visit import AT_ONCE

STORYTELLER = "storyteller"
SENTENCE = "Once upon a time there was a king"


@dataclass(frozen=True)
class Card:
    """One stop: the tab and the place it speaks of, two sentences, and something to try.

    `sets` are controls (a selector of the input) and the values that the card gives them.
    """

    title: str
    tab: str
    place: str  # a selector
    text: str
    attempt: str
    sets: Mapping[str, Any] = field(default_factory=dict)


CARDS = (
    Card(
        "Guess", "generation", "#gen-prompt",
        "A GPT does one thing: it guesses how a text goes on, a token at a time. The text below "
        "the prompt was written that way, by a model of this page.",
        "Read the prompt, say aloud what you expect next, then press Generate.",
    ),
    Card(
        "Tokens", "internals", "#int-section-tokens",
        "The model reads numbers, not letters: pairs of bytes were merged, the most common first, "
        "until each piece was a token of the vocabulary. Common words are one token, rare "
        "ones several.",
        "Type a word of your own, or your name, and watch it being merged.",
    ),
    Card(
        "Vectors", "internals", "#int-section-embeddings",
        "Each token and each place has a row of numbers that training found. Their sum is all "
        "that the first block gets to know.",
        "Choose another token in the strip above: its row changes, the row of its place stays.",
    ),
    Card(
        "Attention", "internals", "#int-section-attention",
        "Each head lets a token look back and fetch from tokens before it, never from later ones. "
        "The shares of one look add up to 100 %.",
        "Choose a head from the list of what heads do, and hover over the words, or tap them.",
    ),
    Card(
        "Stream", "internals", "#int-section-stream",
        "Every block adds to one vector that runs through the whole model, the residual stream. "
        "Nothing is overwritten: the end is the sum of all parts.",
        "Compare how much attention and feed-forward add in the first and in the last block.",
    ),
    Card(
        "Lens", "internals", "#int-section-lens",
        "The output layer can be held against the stream after any block, as if the model ended "
        "there. One sees a guess form.",
        "Find the block after which the last guess no longer changes.",
    ),
    Card(
        "Odds", "internals", "#int-section-logits",
        "The last vector gives each of the tokens one number, its logit, and the softmax turns "
        "them into shares of 100 %. These odds are all that the model says.",
        "Choose a token in the strip whose odds are almost certain, and one where they are not.",
    ),
    Card(
        "Temperature", "generation", "#gen-temperature",
        "Logits are divided by the temperature before the softmax: below 1 the likely gets "
        "likelier, above 1 the odds even out. It is set to 1.5 now.",
        "Press Generate, read, and set it to 0.3 for the next text.",
        {"#gen-temperature input[type=number]": 1.5},
    ),
    Card(
        "Draw", "generation", "#gen-tokens",
        "One random number between 0 and 1 falls on the line of all tokens, and the token it "
        "falls on comes. The same seed gives the same numbers, so the same text.",
        "Click a word of the text, then press “use this” beside another one.",
        {"#gen-temperature input[type=number]": DEFAULTS["temperature"]},
    ),
    Card(
        "Loop", "generation", "#gen-next",
        "The token is appended, and everything begins again with a text that is one token longer. "
        "That is the whole of writing.",
        "Press Next token a few times, then Back, then Next token again: the same one comes.",
    ),
)  # fmt: skip


def _tokens() -> tuple[float, str]:
    ids = tokenizer_of(STORYTELLER).encode(SENTENCE)
    return len(ids), f"each of its words is one token: ids {', '.join(map(str, ids))}."


def _odds() -> tuple[float, str]:
    logits = torch.tensor([2.0, 1.0]).log()  # one token twice as likely as the other
    colder = probabilities(logits, SamplingOptions(temperature=0.5))
    ratio = (colder[0] / colder[1]).item()
    shares = " and ".join(percent(share) for share in colder.tolist())
    return ratio, f"logits divided by 0.5 are doubled, so the odds are squared: {shares}."


def _embedding_share() -> tuple[float, str]:
    counted = count_parameters(config_of(STORYTELLER))
    part = next(row.count for row in counted.rows if row.name == "tok_emb")
    return 100 * part / counted.total, f"{part:,} of {counted.total:,} parameters."


# What is asked at the end, and what computes the number and a sentence that says why.
QUESTIONS: dict[str, Callable[[], tuple[float, str]]] = {
    f"How many tokens has “{SENTENCE}”?": _tokens,
    "One token is twice as likely as another. How many times as likely is it at temperature "
    "0.5?": _odds,
    "What share of the storyteller is its token embedding, in %?": _embedding_share,
}


def checked(given: list[str]) -> list[str]:
    """A line for each question, HTML: right within 2 % or not, and the answer with its reason."""
    lines = []
    for answer, text in zip(QUESTIONS.values(), given, strict=False):
        value, reason = answer()
        found = re.fullmatch(r"\s*(\d{1,9}(?:[.,]\d{1,9})?)\s*%?\s*", text[:40])
        guess = float(found[1].replace(",", ".")) if found else None
        right = guess is not None and abs(guess - value) <= max(0.02 * value, 1e-9)
        verdict = "Right" if right else "No guess" if guess is None else "Not quite"
        lines.append(f"<b>{verdict}: {value:.3g}.</b> {escape(reason.capitalize())}")
    return lines


def tour_html() -> str:
    """All cards, hidden, with what the script needs to know of each; the questions are the last."""
    cards = [
        _card(card.title, f"<p>{escape(card.text)}</p><p><b>Try it:</b> {escape(card.attempt)}</p>",
              f"{number} of {len(CARDS)}", {"tab": card.tab, "at": card.place, "sets": card.sets})
        for number, card in enumerate(CARDS, 1)
    ]  # fmt: skip
    asked = "".join(
        f'<label>{escape(question)} <input inputmode="decimal" size="8" maxlength="40"></label>'
        for question in QUESTIONS
    )
    ask = f'<form>{asked}<button>Check</button></form><div class="said" aria-live="polite"></div>'
    cards.append(_card("Three questions", ask, "the end", {}))
    return "".join(cards)


def _card(title: str, body: str, where: str, goes: Mapping[str, Any]) -> str:
    buttons = "".join(
        f'<button type="button" class="{text.lower()}">{text}</button>'
        for text in ("Back", "Next", "Leave")
    )
    return (
        f'<section class="tour-card" role="dialog" aria-label="Tour: {escape(title)}" hidden '
        f'data-goes="{escape(json.dumps(dict(goes)))}"><h2 tabindex="-1">{escape(title)} '
        f'<small>{where}</small></h2>{body}<p class="steps">{buttons}</p></section>'
    )


def add_tour() -> None:
    """Lay out the cards, and wire the answers to what they ask."""
    tour = gr.HTML(
        tour_html(), elem_id="tour", js_on_load="gptPage.tour(element, trigger);", padding=False
    )
    said = gr.HTML(elem_id="tour-said", js_on_load="gptPage.said(element, watch);")
    tour.submit(_said, None, said, **AT_ONCE)


def _said(event: gr.EventData) -> str:
    given = of_event(event, "given", lambda texts: [str(text) for text in texts])
    return "".join(f"<p>{line}</p>" for line in checked(given))
