"""Sentences of the Internals tab for one small run, number by number against its tensors."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.internals.ablation import Part, ablate
from gpt.internals.heads import head_stages
from gpt.tokenizer import Tokenizer
from gpt.ui.internals.lab import Lab
from gpt.ui.internals.sections import block_vectors, logit_ledger
from gpt.ui.internals.sections.attention_heads import attention_views
from gpt.ui.internals.sections.what_if import ablation_html
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


def test_what_is_called_before_layernorm_gives_through_the_norm_what_is_called_after(
    lab, monkeypatch
):
    """The two histograms could be swapped."""
    drawn = {}

    def seen(first, second, names):
        drawn.update(zip(names, (first, second), strict=True))
        return ""

    monkeypatch.setattr(block_vectors, "histogram_pair", seen)
    visit = lab.read("words", "Hello, I am a little").at(AT)
    block_vectors.vector_views(lab, visit, 1, block_vectors.VECTORS[0], "norm1")
    with lab.borrow(visit) as model, torch.no_grad():
        after = model.trf_blocks[1].norm1(torch.from_numpy(drawn["before LayerNorm"]))
    torch.testing.assert_close(torch.from_numpy(drawn["after"]), after, rtol=1e-4, atol=1e-5)


def test_an_ablations_divergence_is_from_the_odds_with_to_those_without(lab):
    """The columns with and without could be swapped."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    text = ablation_html(lab, visit, "one head", 1, 2, "zeros")
    with lab.borrow(visit) as model:
        without = ablate(model, lab.run(visit), AT, Part("head", 1, 2), "zero").double()
    p, q = lab.logits(visit).double().log_softmax(-1), without.log_softmax(-1)
    nats = (p.exp() * (p - q)).sum().item()
    assert "KL(with ‖ without)" in text
    assert f"{significant(nats)} nats over the whole vocabulary" in text
