"""Heads built by hand score 1 for what they were built to do."""

from __future__ import annotations

import pytest
import torch

from gpt.config import GPTConfig
from gpt.internals.heads import KINDS, best_heads, even_share, head_scores
from gpt.model import GPTModel

LENGTH = 8


def handmade(back):
    """One head that looks `back` positions behind itself, by position alone."""
    cfg = GPTConfig(
        vocab_size=50, context_length=2 * LENGTH, emb_dim=32, n_heads=1, n_layers=1, drop_rate=0.0
    )
    model = GPTModel(cfg).eval()
    with torch.no_grad():
        model.tok_emb.weight.zero_()
        model.pos_emb.weight.copy_(torch.eye(2 * LENGTH, 32))
        att = model.trf_blocks[0].att
        att.W_key.weight.copy_(torch.eye(32))
        query = torch.zeros(32, 32)
        for at in range(2 * LENGTH):
            query[max(at - back, 0), at] = 40.0  # position `at` asks for `at - back`
        att.W_query.weight.copy_(query)
    return model


@pytest.mark.parametrize(
    ("kind", "back"),
    [("previous token", 1), ("first token", 99), ("same token", LENGTH), ("induction", LENGTH - 1)],
)
def test_a_head_built_for_one_habit_scores_one_for_it_and_nothing_for_the_others(kind, back):
    scores = head_scores(handmade(back))
    assert list(scores) == list(KINDS)
    for name, found in scores.items():
        assert found.shape == (1, 1)
        # at one position, the first of the second copy, the same token is the very first one
        aside = {kind, name} == {"same token", "first token"}
        expected = 1.0 if name == kind else 1 / LENGTH * aside
        assert found.item() == pytest.approx(expected, abs=1e-3)


def test_a_head_that_looks_evenly_scores_the_even_share_of_its_context():
    """A short context shortens the sequence: heads of 16 tokens were compared with those of 50."""
    model = handmade(1)
    with torch.no_grad():
        model.trf_blocks[0].att.W_query.weight.zero_()
    for found in head_scores(model).values():
        assert found.item() == pytest.approx(even_share(model.cfg.context_length))


def test_the_best_heads_come_first_with_where_they_are():
    found = best_heads(torch.tensor([[0.1, 0.9], [0.4, 0.9]]), 3)
    assert [place for *place, _ in found] == [[0, 1], [1, 1], [1, 0]]
    assert [score for *_, score in found] == pytest.approx([0.9, 0.9, 0.4])
