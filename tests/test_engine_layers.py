"""The layers of the engine: right, and chosen by what this processor computes rightly."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import IDS, tiny_model
from torch import nn

from gpt.engine import FastModel
from gpt.engine.layers import (
    HalfLinear,
    Int8Linear,
    Packed,
    PackedHalfLinear,
    PackedInt8Linear,
    PartsLinear,
    activation_levels,
    float16_is_packed,
    half_linear,
    quantize,
)


def int8_layers(weight, bias=None):
    """Each int8 layer that runs here; the plain one runs everywhere."""
    made = [Int8Linear(*quantize(weight), bias)]
    if levels := activation_levels():
        made.append(PackedInt8Linear(*quantize(weight), bias, levels))
    return made


def test_int8_has_a_scale_for_every_row_and_every_channel():
    """One scale for a whole tensor lets one large row take the digits of all others."""
    torch.manual_seed(0)
    weight = torch.randn(48, 64)
    weight[7] *= 1000
    x = torch.randn(5, 64) * torch.tensor([1e-4, 1.0, 1e4, 0.0, 1.0])[:, None]
    expected = F.linear(x, weight)
    for layer in int8_layers(weight):
        found = layer(x)
        size = x.norm(dim=-1, keepdim=True) * weight.norm(dim=-1)
        assert ((found - expected).abs() <= 0.02 * size).all()
        assert torch.equal(found[3], torch.zeros(48))


@pytest.mark.parametrize("width", [5, 24, 64, 700, 768])
def test_a_row_of_an_int8_layer_has_the_bits_that_it_has_alone(width):
    """fbgemm's dynamic kernel has one scale for all rows, so that a row depended on the others."""
    torch.manual_seed(0)
    for layer in int8_layers(torch.randn(131, width), torch.randn(131)):
        assert layer.same_bits_in_company
        for rows in (2, 7, 16, 33):
            x = torch.randn(rows, width) * torch.rand(rows, 1) * 10
            alone = torch.cat([layer(row) for row in x.split(1)])
            assert torch.equal(layer(x), alone)


def test_the_bias_is_added_once_for_one_row_and_for_many():
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    weight, bias = linear.weight.detach(), linear.bias.detach()
    made = [
        PartsLinear(weight, bias),
        HalfLinear(weight, bias, torch.float16),
        HalfLinear(weight, bias, torch.bfloat16),
        *int8_layers(weight, bias),
    ]
    if float16_is_packed():
        made.append(PackedHalfLinear(weight, bias))
    for rows in (1, 3, 40):
        x = torch.randn(rows, 64)
        for layer in made:
            torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=0.05)
            torch.testing.assert_close(layer(x[None]), layer(x)[None], rtol=0, atol=1e-6)


@pytest.mark.parametrize("inputs", [8, 6, 5])  # in four parts, in two, in one
@pytest.mark.parametrize("rows", [(1, 1), (3, 2), (1, 40)])
def test_a_product_in_parts_is_the_product_and_so_are_its_gradients(inputs, rows):
    torch.manual_seed(0)
    linear = nn.Linear(inputs, 7)
    parts = PartsLinear(linear.weight.detach(), linear.bias.detach())
    x = torch.randn(*rows, inputs)
    torch.testing.assert_close(parts(x), linear(x))
    for layer in (parts, linear):
        layer(x).square().sum().backward()
    for found, expected in zip(parts.parameters(), linear.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_int8_kernels_that_clip_their_sums_get_seven_bits(monkeypatch):
    """Without VNNI, x86 adds pairs of 8-bit products in 16 bits: sums were wrong by a third."""
    packed = PackedInt8Linear.forward

    def clipping(self, x):
        y = packed(self, x)
        return y if self.x_zero == 64 else y.clamp(max=y.max() / 2)

    monkeypatch.setattr(PackedInt8Linear, "forward", clipping)
    activation_levels.cache_clear()
    try:
        assert activation_levels() in (63, 0)
    finally:
        activation_levels.cache_clear()


def test_a_processor_without_packed_kernels_uses_the_plain_ones(monkeypatch):
    """Arm has no fbgemm."""

    def missing(*_):
        raise RuntimeError("no engine")

    monkeypatch.setattr(PackedInt8Linear, "__init__", missing)
    monkeypatch.setattr(PackedHalfLinear, "__init__", missing)
    for probe in (activation_levels, float16_is_packed):
        probe.cache_clear()
    try:
        for precision in ("float16", "bfloat16", "int8"):
            model = FastModel(tiny_model(), precision)
            assert not any(isinstance(module, Packed) for module in model.modules())
            exact = tiny_model()(torch.tensor([IDS]))
            error = (model(torch.tensor([IDS])) - exact).abs().max() / exact.std()
            assert error < 0.1
    finally:
        for probe in (activation_levels, float16_is_packed):
            probe.cache_clear()


def test_the_largest_sums_are_exact_to_a_unit():
    """What the probe asks of a processor, asked of the layer that is used here."""
    if not activation_levels():
        pytest.skip("this processor has no packed int8 kernel")
    torch.manual_seed(0)
    signs = torch.randn(6, 1024).sign()
    rows = (signs * 127).to(torch.int8)
    layer = PackedInt8Linear(rows, torch.ones(6, 1), None, activation_levels())
    assert (layer(signs).double() - signs.double() @ rows.double().t()).abs().max() < 1


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_a_weight_that_float16_cannot_hold_is_not_hidden(value):
    """fbgemm packs NaN and 1e6 as 65,504: a damaged model wrote on as if nothing was."""
    weight = torch.ones(8, 24)
    weight[2, 3] = value
    y = half_linear(weight, None, torch.float16)(torch.ones(1, 24))
    assert y.isfinite().tolist() == [[i != 2 for i in range(8)]]


def test_several_rows_of_bfloat16_are_float32_products_where_avx2_is_all(monkeypatch):
    """A prompt of 512 was read at 0.15 of the rate of before: torch multiplies such rows one by
    one on a processor without AVX-512.
    """
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    weight, x = torch.randn(48, 64), torch.randn(3, 64)
    layer = half_linear(weight, None, torch.bfloat16)
    torch.testing.assert_close(layer(x), F.linear(x, weight.bfloat16().float()))
    assert not torch.equal(layer(x[:1]), layer(x)[:1])  # a single row is read as it is
