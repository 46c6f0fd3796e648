"""What attention remembers: in which type it is kept, and in which it is given back."""

import importlib

import pytest
import torch
from tiny_models import tiny_model

from gpt import GPTConfig, SamplingOptions
from gpt.cache import KVCache, LayerCache
from gpt.engine import convert
from gpt.engine.convert import cache_dtype
from gpt.engine.replay import record_step
from gpt.generate import generate

LONG = GPTConfig(vocab_size=97, context_length=300, emb_dim=32, n_heads=2, n_layers=2)
GPT2_SMALL = GPTConfig(tie_weights=True, qkv_bias=True)
STORYTELLER = GPTConfig(context_length=256, emb_dim=256, n_heads=4, n_layers=4)


def halves(precision: str, monkeypatch: pytest.MonkeyPatch):
    """A converted model that keeps float16, as large ones do."""
    converting = importlib.import_module("gpt.engine.convert")  # `convert` is the function
    monkeypatch.setattr(converting, "_LARGE_CACHE", 0)
    return convert(tiny_model(LONG), precision)


def test_what_is_kept_in_half_comes_back_as_it_went_in():
    layer = LayerCache(capacity=6, dtype=torch.float16)
    keys, values = torch.randn(2, 1, 2, 4, 8).unbind()
    first = layer.append(keys, values)
    assert first[0] is keys  # nothing is rounded before it is read back
    assert first[1] is values
    for given in layer.append(keys[:, :, :1], values[:, :, :1]):
        assert given.dtype == torch.float16
        assert given.shape == (1, 2, 5, 8)
    held = layer.append(keys[:, :, 1:2], values[:, :, 1:2])
    assert torch.equal(held[0][:, :, :4], keys.half())
    assert torch.equal(held[1][:, :, 5:], values[:, :, 1:2].half())
    assert layer.n_bytes == 2 * 2 * 6 * 8 * 2  # keys and values, heads, positions, e, bytes


@pytest.mark.parametrize("dtype", [torch.float16, None])
def test_what_is_kept_is_given_back_without_a_copy(dtype):
    layer = LayerCache(3, dtype)
    for _ in range(2):
        keys, values = layer.append(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4))
    assert keys.data_ptr() == layer.keys.data_ptr()
    assert values.data_ptr() == layer.values.data_ptr()


def test_the_table_of_values_has_a_row_for_each_position_of_each_head():
    cache = KVCache(2, capacity=7)
    keys, values = torch.randn(2, 3, 4, 5, 8).unbind()
    for n in (5, 1, 1):  # the rows held are found again after each
        for layer in cache.layers:
            _, held = layer.append(keys[:, :, :n], values[:, :, :n])
            table, ids, starts = layer.value_table()
            assert torch.equal(table[ids].view(held.shape), held)
            assert starts.tolist() == list(range(0, 3 * 4 * held.shape[2], held.shape[2]))
    assert cache.layers[0].value_table()[1] is cache.layers[1].value_table()[1]


def test_only_large_caches_below_float32_are_kept_in_half():
    assert cache_dtype(GPT2_SMALL) == torch.float16
    assert cache_dtype(STORYTELLER) is None
    assert convert(tiny_model(), "int8").new_cache(4).layers[0].dtype is None


def test_float32_keeps_float32_however_large(monkeypatch):
    assert halves("float32", monkeypatch).new_cache(4).layers[0].dtype is None


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_a_half_cache_gives_nearly_what_a_float32_cache_gives(precision, chunk, monkeypatch):
    model = halves(precision, monkeypatch)
    ids = torch.randint(97, (2, 290), generator=torch.Generator().manual_seed(0))
    half, whole = model.new_cache(290), KVCache(LONG.n_layers, 290)
    with torch.inference_mode():
        found, expected = (
            torch.cat([model(ids[:, i : i + chunk], cache) for i in range(0, 290, chunk)], dim=1)
            for cache in (half, whole)
        )
    assert half.n_bytes == 2 * 2 * 2 * 290 * 32 * 2  # layers, keys and values, b, s, d, bytes
    assert whole.n_bytes == 2 * half.n_bytes
    error = (found - expected).abs().max() / expected.std()
    assert error < 0.03  # what is rounded twice may be a step of int8 or bfloat16 away
    assert error > 0 or precision != "int8"  # bfloat16's products are numbers of float16, too


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_recording_serves_caches_of_either_type(precision, monkeypatch):
    """It is made with one, and its operations are repeated on what it is given."""
    model = record_step(halves(precision, monkeypatch))
    assert model.replay is not None
    with torch.inference_mode():
        for dtype in (torch.float16, None):
            logits = []
            for step in (model, model.compute):
                cache = KVCache(LONG.n_layers, 20, dtype)
                model(torch.tensor([[5, 6, 7]]), cache)
                logits += [step(torch.tensor([[i]]), cache) for i in (8, 9)]
            found, expected = torch.cat(logits[:2]), torch.cat(logits[2:])
            if dtype == model.cache_dtype or precision == "float32":
                assert torch.equal(found, expected)
            torch.testing.assert_close(found, expected, rtol=0, atol=0.03 * float(expected.std()))


def test_a_generation_keeps_its_cache_in_the_models_type(monkeypatch):
    kept = []
    model = halves("int8", monkeypatch)
    new_cache = model.new_cache
    monkeypatch.setattr(model, "new_cache", lambda n: kept.append(new_cache(n)) or kept[-1])
    list(generate(model, [1, 2, 3], SamplingOptions(max_new_tokens=5, temperature=0)))
    assert [cache.layers[0].keys.dtype for cache in kept] == [torch.float16]
    assert kept[0].capacity == 7
