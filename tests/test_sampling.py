"""From logits to a token: the filters, the ties, the draw."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from gpt import SamplingOptions
from gpt.sampling import best_ids, best_token, draw, probabilities, uniforms


def rows(n=40, vocab=23, seed=0):
    """Random logits (n, vocab), rounded so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, vocab, generator=generator) * 3).round() / 2


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
        if chosen and mass >= options.top_p:
            break
        chosen.append(i)
        mass += weight[i] / total
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
        SamplingOptions(temperature=1.7, top_k=9, top_p=0.71),
    ],
)
def test_probabilities_are_those_of_a_plain_python_reference(options):
    logits = rows()
    expected = torch.tensor([reference(row, options) for row in logits.tolist()])
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
    for temperature in (1e-30, 1e-38, 1e-46, 5e-324):
        options = SamplingOptions(temperature=temperature)
        assert probabilities(torch.tensor([[1.0, 3.0, 2.0]]), options).tolist() == [[0, 1, 0]]


def test_half_precision_logits_give_float32_probabilities():
    distribution = probabilities(rows().half(), SamplingOptions())
    assert distribution.dtype == torch.float32
    torch.testing.assert_close(distribution.sum(-1), torch.ones(40))


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
        ({"temperature": -1}, r"temperature is -1: use 0 \(greedy\) or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0: use a whole number of at least 1, or None"),
        ({"top_p": 0}, r"top_p is 0: use more than 0 and at most 1 \(off\)"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1: use a whole number of at least 0, or None"),
        ({"seed": 2**60}, "seed is 1,152,921,504,606,846,976: use at most"),
    ],
)
def test_impossible_options_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**changes)


@pytest.mark.parametrize("top_p", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("spread", [0.0, 0.01, 3.0])
def test_top_p_keeps_what_sorting_all_tokens_keeps_also_among_equals(top_p, spread):
    """Only the best are sorted where they suffice; the tokens that stay are the same."""
    torch.manual_seed(0)
    logits = (torch.randn(3, 3000) * spread).round(decimals=1)  # many equals
    distribution = torch.softmax(logits, dim=-1)
    ordered, ids = distribution.sort(dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(dim=-1) - ordered
    kept = torch.zeros_like(distribution).scatter_(
        -1, ids, ordered.masked_fill(before >= top_p, 0.0)
    )
    expected = kept / kept.sum(dim=-1, keepdim=True)
    assert torch.equal(probabilities(logits, SamplingOptions(top_p=top_p)), expected)


@pytest.mark.parametrize("spread", [0.0, 0.3, 40.0], ids=["all equal", "many equal", "few equal"])
@pytest.mark.parametrize("n", [1, 97, 256, 300, 5_000, 50_257])
def test_the_best_ids_are_those_that_a_stable_sort_finds(n, spread):
    values = (torch.randn(n, generator=torch.Generator().manual_seed(n)) * spread).round()
    expected = values.sort(descending=True, stable=True).indices
    for k in {1, min(10, n), min(40, n), n // 2 + 1, n}:
        assert best_ids(values, k).tolist() == expected[:k].tolist()


def test_the_best_of_a_few_probabilities_are_found_among_many_zeros():
    values = torch.zeros(50_257)
    values[[50_256, 3, 700]] = torch.tensor([0.5, 0.2, 0.3])
    assert best_ids(values, 5).tolist() == [50_256, 700, 3, 0, 1]


@pytest.mark.parametrize("filtered", [{"top_k": 5}, {"top_p": 0.5}], ids=str)
def test_filters_take_logits_of_any_layout_that_want_a_gradient(filtered):
    """Rows were written into a view, which neither a gradient nor permuted logits allow."""
    logits = torch.randn(2, 3, 97, generator=torch.Generator().manual_seed(0))
    options = SamplingOptions(**filtered)
    expected = probabilities(logits.transpose(0, 1).contiguous(), options)
    assert torch.equal(probabilities(logits.transpose(0, 1), options), expected)
    found = probabilities(logits.requires_grad_(), options)
    assert torch.equal(found.detach().transpose(0, 1), expected)
    found[..., 0].sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_large_logits_of_several_rows_are_finite_together():
    """Their float32 sum is not, and they were refused."""
    large = torch.tensor([[3e38, 0.0]] * 3)
    assert probabilities(large, SamplingOptions())[:, 0].tolist() == [1, 1, 1]
    assert best_token(large).tolist() == [0, 0, 0]


def test_the_best_token_may_be_asked_of_one_row_alone():
    assert int(best_token(torch.tensor([1.0, 3.0, 3.0]))) == 1
    for damaged in (math.nan, math.inf):
        with pytest.raises(ValueError, match="logits are not finite"):
            best_token(torch.tensor([[1.0, damaged, 2.0]]))


def test_among_equal_logits_the_lowest_id_is_the_best_token():
    logits = torch.zeros(2, 5_000)
    logits[0, [4_999, 700, 1_300]] = 2.0
    logits[1, 40] = 3.0
    assert best_token(logits).tolist() == [700, 40]
    assert best_token(torch.zeros(1, 5_000)).tolist() == [0]
