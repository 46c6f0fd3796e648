"""Precisions: what is kept, what comes out, and that the kernels are chosen by what they do."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tiny_models import IDS, TINY, VARIANTS, tiny_model
from torch import nn

from gpt import SamplingOptions, generate, generate_text_simple
from gpt.cache import KVCache
from gpt.precision import PRECISIONS, convert, dtype_of, kernels, layers, weight_bytes
from gpt.precision.convert import check_native
from gpt.precision.layers import Int8Linear, PackedLinear

LOSSY = [name for name in PRECISIONS if name != "float32"]
TOLERANCE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}
PROMPT = torch.tensor([IDS])


def bytes_kept(model):
    """Of every distinct storage that the model holds, packed ones by what they unpack to."""
    kept = {p.data_ptr(): p.nbytes for p in model.parameters()}
    for module in model.modules():
        if isinstance(module, PackedLinear):
            weight, _ = module.packed.unpack()
            kept[id(module)] = weight.numel() + 4 * len(weight)
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
    assert cache.layers[0]._keys.dtype == torch.float32
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
    assert weight_bytes(shape, "int8") < 0.3 * weight_bytes(shape, "float32")


def test_a_tied_embedding_is_the_rows_of_the_head_and_no_copy():
    for precision in PRECISIONS:
        model = convert(tiny_model(replace(TINY, tie_weights=True)), precision)
        assert model.tok_emb.weight is model.out_head.weight
        if precision == "int8":
            rows = model.tok_emb(PROMPT)[0]
            assert torch.equal(rows, (model.out_head.weight * model.out_head.scale)[IDS])


def test_every_tensor_is_a_copy_and_nothing_of_the_original_stays():
    for precision in PRECISIONS:
        model = tiny_model()
        before = {p.data_ptr() for p in model.parameters()}
        kept = list(model.parameters())  # so that no address is used again
        convert(model, precision)
        assert not before & {p.data_ptr() for p in model.parameters()}
        assert len(kept) == len(before)
        plain = {m for m in model.modules() if type(m) is nn.Linear}
        assert bool(plain) == (precision == "float32")


def test_weights_of_any_floating_type_are_taken():
    """A file may hold float16, which is memory-mapped and never made float32 as a whole."""
    expected = logits_of(convert(tiny_model().half().float(), "int8"))
    assert torch.equal(logits_of(convert(tiny_model().half(), "int8")), expected)


def test_only_float32_can_be_trained():
    assert all(p.requires_grad for p in convert(tiny_model(), "float32").parameters())
    model = convert(tiny_model(), "float16")
    assert not model.out_head.weight.requires_grad


def test_progress_ends_at_the_whole():
    told = []
    convert(tiny_model(), "int8", progress=lambda done, _: told.append(done))
    assert all(a < b for a, b in pairwise(told))
    assert told[-1] == 1


def test_int8_has_a_scale_for_every_row_and_every_channel():
    """One scale for a whole tensor lets one large row take the digits of all others."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    with torch.no_grad():
        linear.weight[7] *= 1000
    x = torch.randn(5, 64) * torch.tensor([1e-4, 1.0, 1e4, 0.0, 1.0])[:, None]
    expected = F.linear(x, linear.weight)
    for layer in (Int8Linear(linear), PackedLinear(linear)):
        layer.bias = None
        found = layer(x)
        size = x.norm(dim=-1, keepdim=True) * linear.weight.norm(dim=-1)
        assert ((found - expected).abs() <= 0.01 * size).all()
        assert torch.equal(found[3], torch.zeros(48))


def test_the_bias_is_added_once_for_one_row_and_for_many():
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    for rows in (1, 3):
        x = torch.randn(rows, 64)
        for layer in (Int8Linear(linear), PackedLinear(linear)):
            torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=0.05)


@pytest.mark.parametrize("rows", [1, kernels.FEW, kernels.MANY])
def test_every_kernel_that_may_be_chosen_is_right(rows):
    """Which one runs depends on the machine, so each is checked wherever the tests run."""
    x, weight = kernels._sample(rows)
    expected = F.linear(x, weight)
    for dtype in (torch.float16, torch.bfloat16):
        for kernel in (
            kernels._in_its_own_type,
            kernels._through_bfloat16,
            kernels._through_float32,
        ):
            torch.testing.assert_close(kernel(x, weight.to(dtype)), expected, rtol=0, atol=0.05)
    stored, scale = kernels.quantize_rows(weight)
    for kernel in (kernels._int8_products, kernels._int8_as_float):
        torch.testing.assert_close(kernel(x, stored, scale), expected, rtol=0, atol=0.05)


def test_the_known_kernel_stays_unless_another_is_clearly_faster(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: now[0])

    def taking(seconds):
        def run():
            now[0] += seconds

        return run

    def missing():
        raise NotImplementedError

    assert kernels.fastest([taking(1.2), taking(1.0)]) == 0
    assert kernels.fastest([taking(1.4), taking(1.0)]) == 1
    assert kernels.fastest([missing, taking(5.0), taking(9.0)]) == 1
    with pytest.raises(RuntimeError, match="none of the ways"):
        kernels.fastest([missing])


def test_a_machine_without_packed_kernels_uses_the_plain_ones(monkeypatch):
    def missing(*_):
        raise RuntimeError("no engine")

    monkeypatch.setattr(layers, "_pack", missing)
    layers.packed_is_faster.cache_clear()
    try:
        model = convert(tiny_model(), "int8")
        assert not any(isinstance(module, PackedLinear) for module in model.modules())
        assert logits_of(model).isfinite().all()
    finally:
        layers.packed_is_faster.cache_clear()


def test_packed_kernels_that_clip_their_sums_are_not_used(monkeypatch):
    """int8 kernels with 16-bit sums are wrong by a third at the extremes, on older processors."""
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: torch.full((1, 3072), 700.0))
    layers.packed_is_faster.cache_clear()
    try:
        assert not layers.packed_is_faster()
    finally:
        layers.packed_is_faster.cache_clear()


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
