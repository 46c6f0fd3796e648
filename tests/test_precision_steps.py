"""What decoding steps go through in the stored precisions: attention of one query."""

import importlib
import random
from functools import partial

import pytest
import torch
from tiny_models import tiny_model

from gpt import GPTConfig
from gpt.attention import attend
from gpt.cache import LayerCache
from gpt.engine import choice, convert, replay, steps
from gpt.engine.replay import record_step
from gpt.engine.steps import attend_in_place
from gpt.trace import Trace

LONG = GPTConfig(vocab_size=97, context_length=300, emb_dim=32, n_heads=2, n_layers=2)


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for these tests; a process may make 16."""
    monkeypatch.setattr(replay, "_left", 100)
    monkeypatch.setattr(replay, "_unrecordable", set())


def filled(b: int, h: int, s: int, e: int, capacity: int) -> tuple[LayerCache, list[torch.Tensor]]:
    """A cache in float16 that holds s positions, and what it gave at the last of them."""
    generator = torch.Generator().manual_seed(s)
    keys, values = (torch.randn(b, h, s, e, generator=generator) for _ in range(2))
    cache = LayerCache(capacity, torch.float16)
    cache.append(keys[:, :, 1:], values[:, :, 1:])
    return cache, list(cache.append(keys[:, :, :1], values[:, :, :1]))


@pytest.mark.parametrize("seed", range(12))
def test_attention_in_place_is_attention_for_every_length_and_capacity(seed: int) -> None:
    draw = random.Random(seed)
    b, h, e = draw.randint(1, 3), draw.randint(1, 4), draw.choice([8, 24, 64])
    s = draw.choice([2, 3, draw.randint(4, 400)])
    cache, held = filled(b, h, s, e, s + draw.choice([0, 1, draw.randint(2, 100)]))
    queries = torch.randn(b, h, 1, e, generator=torch.Generator().manual_seed(seed))
    found = attend_in_place(queries, *held, cache)
    torch.testing.assert_close(found, attend(queries, *held), rtol=0, atol=0.003)


def test_weights_too_small_for_float16_take_nothing_from_the_others() -> None:
    cache, held = filled(1, 1, 300, 8, 300)
    held[0].zero_()
    held[0][:, :, 0] = 20.0  # the other weights are about e^-57
    queries = torch.ones(1, 1, 1, 8)
    found = attend_in_place(queries, *held, cache)
    torch.testing.assert_close(found, held[1][:, :, :1].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_steps_give_nearly_what_the_fused_kernel_gives(precision, rows, monkeypatch) -> None:
    converting = importlib.import_module("gpt.engine.convert")  # `convert` is the function
    monkeypatch.setattr(converting, "_LARGE_CACHE", 0)
    ids = torch.randint(97, (rows, 290), generator=torch.Generator().manual_seed(0))
    logits = []
    for in_place in (True, False):
        way = partial(choice._attend, in_place=in_place, in_bfloat16=False)
        monkeypatch.setattr(converting, "attention", lambda way=way: way)
        model = record_step(convert(tiny_model(LONG), precision))
        assert model.replay is not None or precision == "bfloat16"
        cache = model.new_cache(290)
        with torch.inference_mode():
            model(ids[:, :280], cache)
            logits.append(
                torch.cat([model(ids[:, i : i + 1], cache) for i in range(280, 290)], dim=1)
            )
    difference = (logits[0] - logits[1]).abs().max() / logits[1].std()
    assert difference < 0.03
    assert difference > 0 or precision == "bfloat16"  # its products are numbers of float16, too


def test_a_machine_that_sums_rows_slowly_or_wrongly_copies_the_values(monkeypatch) -> None:
    monkeypatch.setattr(steps, "fastest", lambda *_, **__: 0)
    assert not steps.reading_in_place_is_faster.__wrapped__()
    monkeypatch.setattr(steps, "fastest", lambda *_, **__: 1)
    assert steps.reading_in_place_is_faster.__wrapped__()
    monkeypatch.setattr(steps, "attend_in_place", lambda q, k, v, cache: q * torch.nan)
    assert not steps.reading_in_place_is_faster.__wrapped__()


def test_a_gradient_passes_through_the_fused_kernel() -> None:
    """In place it would come through weights that are rounded to float16."""
    cache, held = filled(1, 2, 40, 8, 40)
    gradients = []
    for way in (partial(choice._attend, in_place=True, in_bfloat16=True), attend):
        queries = torch.ones(1, 2, 1, 8, requires_grad=True)
        way(queries, *held, cache).square().sum().backward()
        gradients.append(queries.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("traced", [True, False])
def test_a_trace_takes_a_half_cache_as_well(monkeypatch, traced: bool) -> None:
    converting = importlib.import_module("gpt.engine.convert")
    monkeypatch.setattr(converting, "_LARGE_CACHE", 0)
    model = convert(tiny_model(LONG), "float16")
    ids, cache = torch.arange(40)[None], model.new_cache(40)
    with torch.inference_mode():
        expected = model(ids)
        trace = Trace() if traced else None
        parts = [model(ids[:, i : i + 20], cache, trace) for i in (0, 20)]
    assert cache.layers[0].keys.dtype == torch.float16
    tolerance = 0.03 * float(expected.std())
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=tolerance)
