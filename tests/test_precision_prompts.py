"""What prompts go through in the stored precisions: attention and GELU of many rows."""

import importlib
import random
from functools import partial

import pytest
import torch
from tiny_models import tiny_model

from gpt import GELU, GPTConfig
from gpt.attention import attend
from gpt.cache import KVCache
from gpt.engine import choice, convert, kernels, prompts
from gpt.engine.prompts import PromptGELU, attend_in_bfloat16

LONG = GPTConfig(vocab_size=97, context_length=640, emb_dim=32, n_heads=4, n_layers=2)


def queries_keys_values(b: int, h: int, t: int, s: int, e: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(b * 1000 + t)
    return tuple(torch.randn(b, h, n, e, generator=generator) for n in (t, s, s))


@pytest.mark.parametrize("seed", range(12))
def test_attention_in_bfloat16_is_attention_for_every_length_and_past(seed: int) -> None:
    draw = random.Random(seed)
    b, h, e = draw.randint(1, 3), draw.randint(1, 4), draw.choice([8, 24, 64])
    t = draw.choice([prompts._FEW_QUERIES, draw.randint(193, 600)])
    past = draw.choice([0, 1, draw.randint(2, 300)])
    queries, keys, values = queries_keys_values(b, h, t, past + t, e)
    found = attend_in_bfloat16(queries, keys, values)
    torch.testing.assert_close(found, attend(queries, keys, values), rtol=0, atol=0.03)


def test_no_query_sees_a_later_key() -> None:
    queries, keys, values = queries_keys_values(1, 2, 300, 340, 16)
    before = attend_in_bfloat16(queries, keys, values)
    for query, large in [(0, 1e4), (127, torch.inf), (128, 1e4), (200, torch.nan), (298, 1e4)]:
        later = 340 - 300 + query + 1
        changed = [x.clone() for x in (keys, values)]
        changed[0][:, :, later:] = large
        changed[1][:, :, later:] = 1e4
        after = attend_in_bfloat16(queries, *changed)
        assert torch.equal(after[:, :, : query + 1], before[:, :, : query + 1])
        assert not torch.equal(after[:, :, query + 1], before[:, :, query + 1])


def test_few_queries_take_the_fused_kernel_to_the_bit() -> None:
    queries, keys, values = queries_keys_values(2, 2, prompts._FEW_QUERIES - 1, 400, 16)
    assert torch.equal(attend_in_bfloat16(queries, keys, values), attend(queries, keys, values))


@pytest.mark.parametrize("rows", [1, kernels.FEW, kernels.MANY])
def test_the_gelu_of_prompts_is_the_gelu(rows: int) -> None:
    x = torch.linspace(-30, 30, rows * 1000).view(1, rows, 1000)
    x[0, 0, :4] = torch.tensor([0.0, -1e30, 1e30, 1e-30])
    kept = x.clone()
    torch.testing.assert_close(PromptGELU()(x), GELU()(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("in_bfloat16", [True, False])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_long_prompts_stay_close_to_float32_whichever_attention_is_faster(
    precision: str, in_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = partial(choice._attend, in_place=False, in_bfloat16=in_bfloat16)
    converting = importlib.import_module("gpt.engine.convert")  # `convert` is the function
    monkeypatch.setattr(converting, "attention", lambda: way)
    ids = torch.randint(97, (2, 640), generator=torch.Generator().manual_seed(0))
    exact, stored = tiny_model(LONG), convert(tiny_model(LONG), precision)
    assert stored.trf_blocks[0].att.attend is way
    with torch.inference_mode():
        expected = exact(ids)
        whole, cache = stored(ids), KVCache(LONG.n_layers, 640)
        parts = [stored(ids[:, i : i + 250], cache) for i in range(0, 640, 250)]
    tolerance = 0.05 * expected.std()
    torch.testing.assert_close(whole, expected, rtol=0, atol=float(tolerance))
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=float(tolerance))


def test_a_machine_without_products_in_bfloat16_takes_the_fused_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole attention was timed, and a slow one stayed where it was named first."""
    product = torch.bmm

    def emulated(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            product(x.float(), y.float())
        return product(x, y)

    def missing(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("no such product here")
        return product(x, y)

    for slow in (lambda x, y: (emulated if x.dtype == torch.bfloat16 else product)(x, y), missing):
        monkeypatch.setattr(torch, "bmm", slow)
        assert not prompts.bfloat16_is_faster.__wrapped__()


def test_an_attention_that_is_fast_and_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "attend_in_bfloat16", lambda q, k, v: q * torch.nan)
    monkeypatch.setattr(prompts, "fastest", lambda *_, **__: 1)
    assert not prompts.bfloat16_is_faster.__wrapped__()


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_a_gradient_may_pass_through_what_prompts_go_through(precision: str) -> None:
    """In-place sums made even the forward pass raise where an input wanted its gradient."""
    block = convert(tiny_model(LONG), precision).trf_blocks[0]
    x = torch.randn(1, 300, 32, requires_grad=True)
    block(x)
    gelu = block.ff.layers[1]
    gelu(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_float32_keeps_the_model_s_own_attention_and_gelu() -> None:
    block = convert(tiny_model(LONG), "float32").trf_blocks[0]
    assert block.att.attend is attend
    assert type(block.ff.layers[1]) is GELU
