"""Precisions: what is kept, what comes out, and that the kernels are chosen by what they do."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tiny_models import IDS, TINY, VARIANTS, tiny_model
from torch import nn

from gpt import SamplingOptions, generate_text_simple
from gpt.cache import KVCache
from gpt.engine import (
    DTYPES,
    PRECISIONS,
    choice,
    convert,
    dtype_of,
    kernels,
    named_weights,
    weight_bytes,
)
from gpt.engine.convert import check_native
from gpt.engine.layers import Int8Linear
from gpt.engine.packed import PackedBFloat16Linear, PackedFloat16Linear, PackedInt8Linear
from gpt.generate import generate

LOSSY = [name for name in PRECISIONS if name != "float32"]
TOLERANCE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}
PROMPT = torch.tensor([IDS])


def bytes_kept(model):
    """Of every distinct storage that the model holds, packed ones by what they unpack to."""
    kept = {p.data_ptr(): p.nbytes for p in model.parameters()}
    for module in model.modules():
        if isinstance(module, PackedInt8Linear):
            weight, _ = module.packed.unpack()
            kept[id(module)] = weight.numel() + 4 * len(weight)
        if isinstance(module, (PackedFloat16Linear, PackedBFloat16Linear)):
            weight, bias = module.unpacked()
            kept[id(module)] = weight.nbytes + (0 if bias is None else bias.nbytes)
    return sum(kept.values())


@torch.no_grad()
def logits_of(model, ids=PROMPT, **options):
    return model(ids, **options)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_logits_stay_close_to_float32s_for_a_prompt_and_a_batch(cfg, precision):
    ids = torch.tensor([IDS, IDS[::-1]])
    expected = logits_of(tiny_model(cfg), ids)
    found = logits_of(convert(tiny_model(cfg), precision), ids)
    assert found.dtype == torch.float32
    error = (found - expected).abs().max() / expected.std()
    assert error < TOLERANCE[precision]
    assert precision == "float32" or error > 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_one_row_at_a_time_through_the_cache_gives_what_the_whole_prompt_gives(cfg, precision):
    model = convert(tiny_model(cfg), precision)
    cache = KVCache(cfg.n_layers, len(IDS))
    stepwise = torch.cat([logits_of(model, PROMPT[:, i : i + 1], cache=cache) for i in range(7)], 1)
    whole = logits_of(model)
    assert (stepwise - whole).abs().max() / whole.std() < TOLERANCE[precision]


def test_float32_decodes_the_same_tokens_as_before():
    model = convert(tiny_model(), "float32")
    greedy = SamplingOptions(max_new_tokens=20, temperature=0)
    simple = generate_text_simple(tiny_model(), PROMPT, 20, context_size=TINY.context_length)
    steps = [step.token_id for step in generate(model, IDS, greedy)]
    assert steps == simple[0, len(IDS) :].tolist()


@pytest.mark.parametrize("precision", LOSSY)
def test_the_stream_the_norms_and_the_cache_stay_float32(precision):
    model, cache = convert(tiny_model(), precision), KVCache(TINY.n_layers, len(IDS))
    logits_of(model, cache=cache)
    assert cache.layers[0].keys.dtype == torch.float32
    assert model.pos_emb.weight.dtype == torch.float32
    assert {p.dtype for n, p in model.named_parameters() if "norm" in n} == {torch.float32}
    assert model.tok_emb(PROMPT).dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_the_bytes_told_are_the_bytes_kept(cfg, precision):
    assert bytes_kept(convert(tiny_model(cfg), precision)) == weight_bytes(cfg, precision)


def test_int8_of_gpt2_small_keeps_less_than_half_of_float32():
    shape = {"tie_weights": True, "qkv_bias": True}
    assert weight_bytes(shape, "float32") == 4 * 124_439_808
    assert weight_bytes(shape, "int8") < 0.45 * weight_bytes(shape, "float32")


def test_a_tied_embedding_is_the_rows_of_the_head_and_no_copy():
    for precision in DTYPES:
        model = convert(tiny_model(replace(TINY, tie_weights=True)), precision)
        assert model.tok_emb.weight is model.out_head.weight


def test_an_int8_embedding_gives_the_rows_that_its_head_multiplies_with():
    """A packed head cannot be looked into, so it has its rows beside it."""
    tied = replace(TINY, tie_weights=True)
    model = convert(tiny_model(tied), "int8")
    rows, scale = kernels.quantize_rows(tiny_model(tied).out_head.weight.detach())
    assert torch.equal(model.tok_emb(PROMPT)[0], (rows * scale)[IDS])
    for head in (PackedInt8Linear, Int8Linear):
        layer = head(tiny_model(tied).out_head)
        found = layer(torch.eye(tied.emb_dim)[:1])  # the first number of every row
        torch.testing.assert_close(found[0], (rows * scale)[:, 0], rtol=0, atol=0.02)


def test_every_tensor_is_a_copy_and_nothing_of_the_original_stays():
    for precision in PRECISIONS:
        model = tiny_model()
        before = {p.data_ptr() for p in model.parameters()}
        kept = list(model.parameters())  # so that no address is used again
        convert(model, precision)
        assert not before & {p.data_ptr() for p in model.parameters()}
        assert len(kept) == len(before)
        linears = {m for m in model.modules() if isinstance(m, nn.Linear)}
        assert bool(linears) == (precision == "float32")


def test_weights_of_any_floating_type_are_taken():
    """A file may hold float16, which is memory-mapped and never made float32 as a whole."""
    expected = logits_of(convert(tiny_model().half().float(), "int8"))
    assert torch.equal(logits_of(convert(tiny_model().half(), "int8")), expected)


def test_only_float32_can_be_trained():
    assert all(p.requires_grad for p in convert(tiny_model(), "float32").parameters())
    for precision in LOSSY:
        model = convert(tiny_model(), precision)
        assert not any(p.requires_grad for p in model.parameters())


def test_a_packed_model_does_not_lose_its_weights_silently():
    """Its state_dict once held the norms alone."""
    for precision in ("float16", "int8"):
        with pytest.raises(ValueError, match="has no state_dict: load it in float32"):
            convert(tiny_model(), precision).state_dict()


def test_a_model_is_converted_once():
    with pytest.raises(ValueError, match="converted already: load it again"):
        convert(convert(tiny_model(), "float16"), "int8")


def test_progress_ends_at_the_whole():
    told = []
    convert(tiny_model(), "int8", progress=lambda done, _: told.append(done))
    assert all(a < b for a, b in pairwise(told))
    assert told[-1] == 1


def test_converting_leaves_the_global_generator_alone():
    for precision in PRECISIONS:
        choice.packed_half_is_faster.cache_clear()
        choice.packed_int8_is_faster.cache_clear()
        model = tiny_model()
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        convert(model, precision)
        assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_half_weights_come_back_under_the_names_they_had(cfg, precision):
    dtype = DTYPES[precision]
    expected = {name: value.to(dtype) for name, value in tiny_model(cfg).named_parameters()}
    found = {n: v.to(dtype) for n, v in named_weights(convert(tiny_model(cfg), precision))}
    if cfg.tie_weights:  # under whichever of its names
        found["tok_emb.weight"] = found.pop("out_head.weight", found.get("tok_emb.weight"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_int8_weights_cannot_be_turned_back(cfg):
    with pytest.raises(ValueError, match="int8 weights cannot be written"):
        list(named_weights(convert(tiny_model(cfg), "int8")))


def test_unknown_precisions_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="use float32, float16, bfloat16, int8"):
        convert(tiny_model(), "int3")
    with pytest.raises(ValueError, match="int8 runs on the CPU, not on cuda: use float16"):
        convert(tiny_model(), "int8", "cuda")
    with pytest.raises(ValueError, match=r"use float32, float16, bfloat16\."):
        dtype_of("int8")


def test_a_device_that_computes_something_else_is_found_out(monkeypatch):
    check_native("cpu", "bfloat16")
    whole = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, **k: whole(x, **k) + (x.dtype != torch.float32))
    check_native.cache_clear()
    with pytest.raises(ValueError, match="cpu computes something else than the CPU"):
        check_native("cpu", "float16")
    check_native.cache_clear()
