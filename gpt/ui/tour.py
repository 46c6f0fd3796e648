"""The 5-minute tour: cards that show the page's places in the order of a text's making."""

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from gpt.accounting.parameters import count_parameters
from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import config_of
from gpt.sampling import SamplingOptions, probabilities
from gpt.ui.parts.errors import of_event
from gpt.ui.parts.numbers import percent
from gpt.ui.visit import AT_ONCE

STORYTELLER = "storyteller"
SENTENCE = "Once upon a time there was a king"
# Each is a stop: the tab and where in it (a selector), two sentences, something to try, and what it
# sets (selectors of inputs, and their values).
FILE = Path(__file__).resolve().parents[2] / "assets" / "tour.json"
CARDS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
BUTTONS = "".join(
    f'<button type="button" class="{text.lower()}">{text}</button>'
    for text in ("Back", "Next", "Leave")
)


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


def marked(given: list[str]) -> list[str]:
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
    asked = "".join(
        f'<label>{escape(question)} <input inputmode="decimal" size="8" maxlength="40"></label>'
        for question in QUESTIONS
    )
    ask = f'<form>{asked}<button>Check</button></form><div class="said" aria-live="polite"></div>'
    stops = []
    for number, card in enumerate(CARDS, 1):
        text = f"<p>{escape(card['text'])}</p><p><b>Try it:</b> {escape(card['attempt'])}</p>"
        goes = {key: card[key] for key in ("tab", "at", "sets") if key in card}
        stops.append((card["title"], text, f"{number} of {len(CARDS)}", goes))
    return "".join(
        f'<section class="tour-card" role="dialog" aria-label="Tour: {escape(title)}" hidden '
        f'data-goes="{escape(json.dumps(goes))}"><h2 tabindex="-1">{escape(title)} '
        f'<small>{where}</small></h2>{body}<p class="steps">{BUTTONS}</p></section>'
        for title, body, where, goes in (*stops, ("Three questions", ask, "the end", {}))
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
    return "".join(f"<p>{line}</p>" for line in marked(given))
