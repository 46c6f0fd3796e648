"""From logits to a token: the filters, the ties, the draw."""

import itertools
import math
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpt import GPTConfig, SamplingOptions
from gpt.generate import Row, next_steps
from gpt.sampling import best_ids, choose, draw, probabilities, scores_of, uniforms


def rows(n=40, vocab=23, seed=0):
    """Random logits (n, vocab), rounded so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, vocab, generator=generator) * 3).round() / 2


def steps_of(logits, options):
    """The next steps of texts with these options, from the logits (rows, vocab) of all."""
    model = SimpleNamespace(cfg=GPTConfig(vocab_size=logits.shape[1]), training=False)
    return next_steps(logits, [Row(model, [0], each) for each in options])


def reference(logits, options):
    """The same distribution by sorting one row of floats, in plain Python."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if options.temperature == 0:
        return [float(i == order[0]) for i in range(len(logits))]
    kept = order[: options.top_k or len(order)]
    best = logits[order[0]]
    weight = {i: math.exp((logits[i] - best) / options.temperature) for i in kept}
    total = sum(weight.values())
    mass, chosen = 0.0, []
    for i in kept:
        if mass / total >= options.top_p or weight[i] < options.min_p:
            break
        chosen.append(i)
        mass += weight[i]
    left = sum(weight[i] for i in chosen)
    return [weight[i] / left if i in chosen else 0.0 for i in range(len(logits))]


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        SamplingOptions(temperature=0.3),
        SamplingOptions(temperature=0),
        SamplingOptions(top_k=1),
        SamplingOptions(top_k=5),
        SamplingOptions(top_k=1000),
        SamplingOptions(top_p=0.37),
        SamplingOptions(top_p=1e-9),
        SamplingOptions(min_p=0.2),
        SamplingOptions(min_p=1.0),
        SamplingOptions(temperature=1.7, top_k=9, top_p=0.71, min_p=0.01),
    ],
)
def test_probabilities_are_those_of_a_plain_python_reference(options):
    logits = rows()
    expected = torch.tensor(
        [reference(row, options) for row in logits.tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(probabilities(logits, options), expected, atol=1e-6, rtol=0)


def test_equal_logits_leave_the_lower_ids():
    flat = torch.zeros(1, 8)
    assert probabilities(flat, SamplingOptions(top_k=3))[0].nonzero().flatten().tolist() == [
        0,
        1,
        2,
    ]
    assert probabilities(flat, SamplingOptions(top_p=0.3))[0].nonzero().flatten().tolist() == [
        0,
        1,
        2,
    ]
    assert probabilities(flat, SamplingOptions(temperature=0))[0].argmax() == 0


def test_a_tiny_temperature_neither_overflows_nor_divides_by_zero():
    """Below float32's range a temperature became 0 and every probability NaN."""
    for temperature, top_p in itertools.product((1e-30, 1e-38, 1e-46, 5e-324), (0.9, 1.0)):
        options = SamplingOptions(temperature=temperature, top_p=top_p)
        assert probabilities(torch.tensor([[1.0, 3.0, 2.0]]), options).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("changes", [{}, {"top_p": 0.95}, {"top_k": 40}], ids=str)
def test_probabilities_sum_to_one(changes):
    """A float32 softmax over 50,257 terms sums to 1 +- 6e-5."""
    logits = torch.randn(3, 50_257, generator=torch.Generator().manual_seed(0)).half()
    total = probabilities(logits, SamplingOptions(**changes)).sum(-1, dtype=torch.float64)
    assert (total - 1).abs().max() < 1e-12


def test_damaged_logits_are_named():
    with pytest.raises(ValueError, match="logits are not finite"):
        probabilities(torch.tensor([[1.0, float("nan")]]), SamplingOptions())


def test_the_draw_inverts_the_cumulative_distribution_in_id_order():
    distribution = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]).expand(5, -1)
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.999999999999], dtype=torch.float64)
    assert draw(distribution, uniform).tolist() == [1, 1, 3, 3, 4]


def test_draws_follow_the_distribution():
    """A chi-squared test at a fixed seed: 20,000 draws, 6 degrees of freedom, p > 0.001."""
    distribution = probabilities(rows(1, vocab=7), SamplingOptions())
    uniform = uniforms(torch.Generator().manual_seed(3), rows=20_000)
    counts = draw(distribution.expand(20_000, -1), uniform).bincount(minlength=7)
    expected = 20_000 * distribution[0]
    assert float(((counts - expected) ** 2 / expected).sum()) < 22.46


def test_the_draw_does_not_touch_the_global_generator():
    before = torch.random.get_rng_state()
    uniforms(torch.Generator().manual_seed(1), rows=4)
    SamplingOptions().with_seed()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_missing_seed_is_drawn_and_a_given_one_is_kept():
    drawn = {SamplingOptions().with_seed().seed for _ in range(5)}
    assert len(drawn) > 1
    assert SamplingOptions(seed=4).with_seed().seed == 4


def test_options_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SamplingOptions().temperature = 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0: use a whole number of at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"temperature": -1}, r"temperature is -1: use 0 \(greedy\) to"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        # With top-k the first was an IndexError, the second an OverflowError.
        ({"temperature": 1e39}, r"temperature is 1e\+39: use .* to 1,000,000"),
        ({"temperature": 10**400}, "temperature is a number of more than 30 digits"),
        ({"min_p": -0.1}, r"min_p is -0.1: use 0 \(off\) to 1"),
        ({"top_k": 0}, "top_k is 0: use a whole number of at least 1, or none"),
        ({"top_p": 0}, r"top_p is 0: use more than 0 and at most 1 \(off\)"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1: use a whole number of at least 0, or none"),
        ({"seed": 2**60}, "seed is 1,152,921,504,606,846,976: use at most"),
        ({"seed": 10**5000}, "seed is a number of more than 30 digits"),
        ({"stop": None}, "stop is None: use a text of at most 200 characters"),
        ({"steering": ((1, -2),)}, r"use pairs \(position, token id\) of whole numbers"),
        ({"steering": [(1, 2)]}, r"use pairs \(position, token id\) of whole numbers"),
        ({"steering": ((1, 2), (1, 3))}, "steering is .*: use .* each position once"),
    ],
)
def test_impossible_options_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**changes)


@pytest.mark.parametrize("top_p", [0.001, 0.9, 0.95, 0.99, 0.9999])
@pytest.mark.parametrize("spread", [0.0, 3.0], ids=["all equal", "spread"])
def test_top_p_is_the_smallest_set_that_reaches_p(top_p, spread):
    """Its masses came from a float32 softmax: at p = 0.99 it was wrong at 189 of 200 positions,
    by up to 88 tokens, and at 61 held less than p.
    """
    generator = torch.Generator().manual_seed(1)
    for logits in torch.randn(4, 50_257, generator=generator) * spread:
        exact = torch.softmax(logits.double(), dim=-1).numpy()
        order = np.argsort(-logits.numpy(), kind="stable")
        count = int((exact[order].cumsum() < top_p - 1e-12).sum()) + 1
        found = probabilities(logits, SamplingOptions(top_p=top_p)).numpy()
        assert np.flatnonzero(found).tolist() == sorted(order[:count].tolist())


def test_equal_logits_keep_exactly_the_share_that_was_asked_for():
    """With top-k 50 and top-p 0.9 they kept 46 of 50, for 45 float32 fiftieths are below 0.9."""
    options = SamplingOptions(top_k=50, top_p=0.9)
    assert probabilities(torch.zeros(1, 50_257), options).count_nonzero() == 45


@pytest.mark.parametrize(
    "filtered", [{"top_p": 0.5}, {"min_p": 0.999999975}, {"top_k": 3}], ids=str
)
def test_a_filter_never_lets_a_lower_logit_outrank_a_higher_one(filtered):
    """At a temperature of 1e6 the float32 probabilities of near ties were equal, and the lower
    ids stayed.
    """
    logits = torch.tensor([[1.0, 1.01, 1.02, 1.03, 1.04, 1.05]])
    kept = probabilities(logits, SamplingOptions(temperature=1e6, **filtered))[0].nonzero()
    assert kept.flatten().tolist() == [3, 4, 5]


@pytest.mark.parametrize("vocab", [97, 50_257])
def test_rows_that_are_chosen_together_are_chosen_as_alone(vocab):
    """Bit for bit, whatever the options of the others."""
    logits = torch.randn(12, vocab, generator=torch.Generator().manual_seed(2)) * 4
    kinds = [{"temperature": 0}, {"temperature": 0.8}, {"top_k": 40}, {"top_p": 0.9}]
    options = [SamplingOptions(seed=i, **kinds[i % 4]) for i in range(12)]
    alone = [steps_of(logits[i : i + 1], [options[i]])[0] for i in range(12)]
    assert steps_of(logits, options) == alone


@pytest.mark.parametrize("options", [SamplingOptions(), SamplingOptions(top_k=300)], ids=str)
def test_the_chosen_token_is_the_draw_of_the_probabilities(options):
    """In the middle, at both ends and at the borders of the blocks that are summed first."""
    logits = torch.randn(1, 1_000, generator=torch.Generator().manual_seed(3))
    distribution = probabilities(logits, options)
    borders = distribution[0].cumsum(0)[[0, 255, 256, 511, 767, 999]].tolist()
    numbers = [0.0, 0.25, 0.5, 1 - 2**-53, *(b + d for b in borders for d in (-1e-7, 1e-7))]
    for number in (n for n in numbers if 0 <= n < 1):
        chosen = choose(*scores_of(logits, [1.0]), options, number, 3)
        assert chosen.token_id == int(
            draw(distribution, torch.tensor([number], dtype=torch.float64))
        )
        assert chosen.probability == pytest.approx(float(distribution[0, chosen.token_id]))
        assert [i for i, _ in chosen.candidates] == logits[0].topk(3).indices.tolist()


def test_a_token_of_probability_0_is_never_chosen():
    logits = torch.full((1, 1_000), -math.inf)
    logits[0, [300, 700]] = 0.0
    for number, expected in ((0.0, 300), (0.5, 700), (1 - 2**-53, 700)):
        chosen = choose(*scores_of(logits, [1.0]), SamplingOptions(), number, 10)
        assert chosen[:3] == (expected, 0.5, ((300, 0.5), (700, 0.5)))


def test_one_row_of_damaged_logits_gets_its_error_alone():
    logits = torch.randn(3, 97)
    logits[1, 5] = math.nan
    first, second, third = steps_of(logits, [SamplingOptions(temperature=0)] * 3)
    assert first.token_id == int(logits[0].argmax())
    assert "logits are not finite" in str(second)
    assert third.token_id == int(logits[2].argmax())


@pytest.mark.parametrize("damage", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("damaged", [slice(None), slice(None, None, 2)], ids=["all", "half"])
def test_damaged_logits_meet_no_filter(damaged, damage):
    """With top-k and top-p on, a row of NaN was an IndexError: it ended every visitor's run."""
    logits = rows(2, 600)
    logits[0, damaged] = damage
    options = SamplingOptions(top_k=3, top_p=0.5, min_p=0.1, seed=1)
    first, second = steps_of(logits, [options] * 2)
    finite = math.isfinite(logits[0].max())
    assert isinstance(first, ValueError) != finite
    assert second == steps_of(logits[1:], [options])[0]


@pytest.mark.parametrize("spread", [0.0, 0.3, 40.0], ids=["all equal", "many equal", "few equal"])
@pytest.mark.parametrize("n", [1, 300, 50_257])
def test_the_best_ids_are_those_that_a_stable_sort_finds(n, spread):
    values = torch.randn(3, n, generator=torch.Generator().manual_seed(n)) * spread
    values[1] = values[1] * 10  # a row of few equals among others of many
    values = values.round()
    expected = np.argsort(-values.numpy(), axis=1, kind="stable")
    for k in {1, min(10, n), min(40, n), n // 2 + 1, n}:
        for row, order in zip(scores_of(values, [1.0] * 3), expected, strict=True):
            assert best_ids(row, k)[:k].tolist() == order[:k].tolist()


def test_the_best_of_a_few_probabilities_are_found_among_many_zeros():
    values = torch.zeros(50_257)
    values[[50_256, 3, 700]] = torch.tensor([0.5, 0.2, 0.3])
    (scores,) = scores_of(values[None], [1.0])
    assert best_ids(scores, 5)[:5].tolist() == [50_256, 700, 3, 0, 1]


def test_logits_of_any_layout_and_gradient_have_probabilities():
    """Rows were written into a view, which neither a gradient nor permuted logits allow."""
    logits = torch.randn(2, 3, 97, generator=torch.Generator().manual_seed(0))
    options = SamplingOptions(top_k=5)
    expected = probabilities(logits, options).transpose(0, 1)
    assert torch.equal(probabilities(logits.requires_grad_().transpose(0, 1), options), expected)


def test_large_logits_of_several_rows_are_finite_together():
    """Their float32 sum is not, and they were refused."""
    large = torch.tensor([[3e38, 0.0]] * 3)
    assert probabilities(large, SamplingOptions())[:, 0].tolist() == [1, 1, 1]


def test_among_equal_logits_the_lowest_id_is_the_best_token():
    logits = torch.zeros(2, 5_000)
    logits[0, [4_999, 700, 1_300]] = 2.0
    steps = steps_of(logits, [SamplingOptions(temperature=0)] * 2)
    assert [step.token_id for step in steps] == [700, 0]
