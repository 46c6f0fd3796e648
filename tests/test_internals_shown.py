"""Sentences of the Internals tab for one small run, number by number against its tensors."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.internals.interventions import ablate
from gpt.internals.residual import read_norm
from gpt.ui.internals.lab import Lab
from gpt.ui.internals.sections import why_this_token
from gpt.ui.internals.sections.attention_heads import attention_views
from gpt.ui.internals.sections.logit_lens import lens_html
from gpt.ui.internals.sections.residual_stream import NORMS, vector_views
from gpt.ui.internals.sections.what_if import ablation_html
from gpt.ui.parts.numbers import percent, significant

AT = 3


@pytest.fixture(scope="module")
def lab():
    model = tiny_model(replace(TINY, vocab_size=50257, context_length=160))
    return Lab(TinyRegistry({"words": model}))


def test_the_share_of_attention_follows_from_the_very_score_that_is_shown(lab):
    """The score of the transposed cell beside the share was seen by no test."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    run = lab.run(visit)
    every = [(layer, head) for layer in range(TINY.n_layers) for head in range(TINY.n_heads)]
    looking = {
        at: int(run.layer(at[0], "att.attention")[at[1], AT].argmax()) for at in every
    }  # where each head looks: not at AT itself, whose cell is its own transposed one
    at, most = next((at, most) for at, most in looking.items() if most != AT)
    row = run.layer(at[0], "att.attention")[at[1], AT]
    words = attention_views(lab, visit, *at, "softmax", False)
    score = run.layer(at[0], "att.scores")[at[1], AT, most].item()
    assert (
        f"{percent(row[most].item())} from q·k = {significant(score, 4)}; {significant(score, 4)} "
        f"÷ √{run.cfg.head_dim} = {significant(score / math.sqrt(run.cfg.head_dim), 4)}"
    ) in words
    assert f"looks most at position {most} (" in words
    assert f"{percent(row[0].item())} rests on the first token" in words


def test_the_terms_without_a_bar_of_their_own_are_one_bar(lab, monkeypatch):
    """Small models have fewer terms than bars: the last bar, the rest, could be left out."""
    monkeypatch.setattr(why_this_token, "BARS", 3)
    visit = lab.read("words", "Hello, I am a little").at(AT)
    text = why_this_token.ledger_html(lab, visit, "", why_this_token.ALONE)
    assert text.count('<div class="row') == 4
    *shown, rest = re.findall(r"<span>([+−\d.,e]+)</span></span></div>", text)
    assert re.search(r'title="\d+ others"', text)
    total = sum(float(n.replace("−", "-")) for n in (*shown, rest))
    logit = lab.logits(visit).max().item()
    assert total == pytest.approx(logit, abs=0.02)  # of numbers with three figures
    assert f"{logit:.4f}".replace("-", "−") in text


def test_a_hyphen_is_named_as_the_token_that_it_is(lab):
    """The ledger's sentence called the token a minus sign, as its negative numbers have one."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    text = why_this_token.ledger_html(lab, visit, "-", why_this_token.ALONE)
    assert "The logit of “-” (id 12) after" in text


def test_the_rounding_of_a_lens_whose_layers_agree_is_not_coloured():
    """The largest divergence has the full colour, also where all of them are rounding."""
    model = tiny_model(replace(TINY, vocab_size=50257))
    with torch.no_grad():
        for block in model.trf_blocks:
            for last in (block.att.out_proj, block.ff.layers[2]):
                last.weight *= 1e-8
                last.bias *= 1e-8
    lab = Lab(TinyRegistry({"still": model}))
    text = lens_html(lab, lab.read("still", "Hello"), "KL to the final distribution", "")
    assert f"0 to {significant(1e-9)} nats" in text


def test_the_histograms_before_and_after_a_layernorm_are_those_of_their_names(lab):
    """The two could be swapped: only their number was tested."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    name, norm = next(iter(NORMS.items()))
    _, spread, _, _ = vector_views(lab, visit, 1, "queries", name)
    model = lab.registry.models["words"]
    _, *rows = read_norm(model, lab.run(visit), 1, norm, AT)
    middles = np.array(spread.data[0].x)
    edges = np.append(middles - np.diff(middles)[0] / 2, middles[-1] + np.diff(middles)[0] / 2)
    for bars, values in zip(spread.data, rows, strict=True):
        assert np.abs(np.histogram(values.numpy(), edges)[0] - np.array(bars.y)).sum() <= 2
    assert [bars.name for bars in spread.data] == ["before", "after"]


def test_an_ablations_divergence_is_from_the_odds_with_to_those_without(lab):
    """The columns with and without could be swapped."""
    visit = lab.read("words", "Hello, I am a little").at(AT)
    text = ablation_html(lab, visit, "one head", 1, 2, "zeros")
    with lab.registry.borrow(visit.source) as model:
        without = ablate(model, lab.run(visit), AT, ("head", 1, 2), "zero").double()
    p, q = lab.logits(visit).double().log_softmax(-1), without.log_softmax(-1)
    nats = (p.exp() * (p - q)).sum().item()
    assert "KL(with ‖ without)" in text
    assert f"{significant(nats)} nats over the whole vocabulary" in text
