"""The choice of a token: ranks, spread, intervals and tallies agree with the sampling itself."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import IDS, TINY, tiny_model

from gpt.internals.distribution import (
    best_and_tail,
    foreseen,
    loss,
    ranking,
    ranks,
    spread,
    tally,
    uniform_interval,
)
from gpt.internals.traced_pass import read_prompt, resolve_position
from gpt.sampling import SamplingOptions, draw, probabilities, uniforms

LOGITS = torch.randn(97, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        SamplingOptions(temperature=0),
        SamplingOptions(temperature=0.5, top_k=7),
        SamplingOptions(top_k=50, top_p=0.6),
    ],
)
def test_rows_and_tail_hold_the_whole_vocabulary(options):
    distribution = probabilities(LOGITS, options)
    choice = best_and_tail(LOGITS, distribution, 12)
    assert len(choice.rows) + choice.tail.tokens == 97
    assert sum(r.probability for r in choice.rows) + choice.tail.probability == pytest.approx(1)
    assert sum(r.softmax for r in choice.rows) + choice.tail.softmax == pytest.approx(1)
    kept = sum(r.kept for r in choice.rows) + choice.tail.kept
    assert kept == int((distribution > 0).sum())
    assert [r.logit for r in choice.rows] == sorted(LOGITS.tolist(), reverse=True)[:12]
    assert [r.rank for r in choice.rows] == list(range(1, 13))


def test_more_rows_than_tokens_leave_an_empty_tail():
    choice = best_and_tail(LOGITS, probabilities(LOGITS, SamplingOptions()), 500)
    assert len(choice.rows) == 97
    assert choice.tail.tokens == 0
    assert choice.tail.probability == 0


def test_equal_logits_rank_the_lower_id_first():
    logits = torch.tensor([1.0, 2.0, 2.0, 0.0])
    assert ranking(logits).tolist() == [1, 2, 0, 3]
    assert ranks(logits.expand(4, -1), torch.arange(4)).tolist() == [3, 1, 2, 4]


def test_the_spread_of_an_even_distribution_is_the_logarithm_of_its_size():
    even = spread(torch.full((64,), 1 / 64, dtype=torch.float64), torch.arange(64))
    assert even.entropy_nats == pytest.approx(math.log(64))
    assert even.entropy_bits == pytest.approx(6)
    assert even.perplexity == pytest.approx(64)
    assert even.tokens_for_90 == 58  # 58 of 64 hold 90.6 %, 57 hold 89.1 %


def test_a_certain_token_has_no_entropy():
    certain = spread(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1, 0, 2]))
    assert (certain.entropy_nats, certain.tokens_for_90) == (0.0, 1)


def test_the_number_that_is_drawn_lies_in_the_interval_of_the_token_that_came():
    distribution = probabilities(LOGITS, SamplingOptions(top_k=9))
    for seed in range(50):
        uniform = uniforms(torch.Generator().manual_seed(seed))
        token = int(draw(distribution[None], uniform))
        low, high = uniform_interval(distribution, token)
        assert low - 1e-9 <= float(uniform) <= high + 1e-9
        assert high - low == pytest.approx(distribution[token].item(), abs=1e-6)


def test_many_draws_at_once_are_the_single_draws_in_order():
    distribution = probabilities(LOGITS, SamplingOptions())[None]
    many = draw(distribution, uniforms(torch.Generator().manual_seed(5), 40)[None])[0]
    generator = torch.Generator().manual_seed(5)
    assert many.tolist() == [int(draw(distribution, uniforms(generator))) for _ in range(40)]


def test_a_tally_counts_each_draw_and_expects_its_share():
    distribution = probabilities(LOGITS, SamplingOptions(top_k=5))
    drawn = draw(distribution[None], uniforms(torch.Generator().manual_seed(1), 4000)[None])[0]
    ids, counts, expected = tally(drawn, distribution, 20)
    assert len(ids) == 5  # a rejected token has no row
    assert sum(counts) == 4000
    assert sum(expected) == pytest.approx(4000, rel=1e-4)
    for count, each in zip(counts, expected, strict=True):
        spread_of_count = math.sqrt(each * (1 - each / 4000))
        assert abs(count - each) < 5 * spread_of_count


def test_surprisals_average_to_the_cross_entropy_of_the_prompt():
    run = read_prompt(tiny_model(), IDS)
    entries = foreseen(run.logits, run.ids)
    reference = torch.nn.functional.cross_entropy(run.logits[:-1], torch.tensor(IDS[1:]))
    assert loss(entries) == pytest.approx(reference.item(), rel=1e-5)
    for entry in entries:
        before = run.logits[entry.position - 1]
        assert entry.rank == int(ranks(before, torch.tensor(entry.token_id)))
        assert entry.probability == pytest.approx(before.softmax(-1)[entry.token_id].item(), 1e-4)


def test_a_surprisal_is_finite_where_the_probability_is_too_small_for_a_float():
    """It was infinite from 746 nats on, and so was the loss of the prompt."""
    (entry,) = foreseen(torch.tensor([[800.0, 0.0], [0.0, 0.0]]), [0, 1])
    assert (entry.probability, entry.surprisal) == (0.0, 800.0)


def test_a_single_token_has_no_loss():
    run = read_prompt(tiny_model(), [4])
    assert loss(foreseen(run.logits, run.ids)) is None


def test_positions_count_from_either_end():
    assert [resolve_position(p, 5) for p in (0, 4, -1, -5)] == [0, 4, 4, 0]


@pytest.mark.parametrize("position", [5, -6])
def test_a_position_outside_the_prompt_is_one_clear_line(position):
    with pytest.raises(ValueError, match=r"outside the prompt of 5 tokens: use 0 to 4, or -1"):
        resolve_position(position, 5)


def test_a_model_with_active_dropout_is_refused():
    model = tiny_model().train()
    assert TINY.drop_rate > 0
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        read_prompt(model, IDS)
