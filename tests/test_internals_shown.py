"""Sentences of the Internals tab for one small run, number by number against its tensors."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.internals.heads import head_stages
from gpt.tokenizer import Tokenizer
from gpt.ui.internals.lab import Lab
from gpt.ui.internals.sections import logit_ledger
from gpt.ui.internals.sections.attention_heads import attention_views
from gpt.ui.parts.numbers import percent, significant

AT = 3


@pytest.fixture(scope="module")
def lab():
    model = tiny_model(replace(TINY, vocab_size=50257, context_length=160))
    return Lab(TinyRegistry({"words": model}), Tokenizer())


def test_the_share_of_attention_follows_from_the_very_score_that_is_shown(lab):
    """The score of the transposed cell beside the share was seen by no test."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    every = [(layer, head) for layer in range(TINY.n_layers) for head in range(TINY.n_heads)]
    looking = {
        at: int(head_stages(lab.run(visit), *at).attention[AT].argmax()) for at in every
    }  # where each head looks: not at AT itself, whose cell is its own transposed one
    at, most = next((at, most) for at, most in looking.items() if most != AT)
    stages = head_stages(lab.run(visit), *at)
    row = stages.attention[AT]
    words = attention_views(lab, visit, *at, "softmax", False)
    score = stages.scores[AT, most].item()
    assert (
        f"{percent(row[most].item())} from q·k = {significant(score, 4)}; {significant(score, 4)} "
        f"÷ √{stages.head_dim} = {significant(score / math.sqrt(stages.head_dim), 4)}"
    ) in words
    assert f"looks most at position {most} (" in words
    assert f"{percent(row[0].item())} rests on the first token" in words


def test_the_terms_without_a_bar_of_their_own_are_one_bar(lab, monkeypatch):
    """Small models have fewer terms than bars: the last bar, the rest, could be left out."""
    monkeypatch.setattr(logit_ledger, "BARS", 3)
    visit = lab.read("words", "Hello, I am a little").at(AT)
    text = logit_ledger.ledger_html(lab, visit, "", logit_ledger.ALONE)
    assert text.count('<div class="row') == 4
    *shown, rest = re.findall(r"<span>([+−\d.,e]+)</span></span></div>", text)
    assert re.search(r'title="\d+ others"', text)
    total = sum(float(n.replace("−", "-")) for n in (*shown, rest))
    logit = lab.logits(visit).max().item()
    assert total == pytest.approx(logit, abs=0.02)  # of numbers with three figures
    assert f"{logit:.4f}".replace("-", "−") in text
