"""Layers that stand in for nn.Linear and nn.Embedding: float32 in and out, smaller inside."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt.precision.kernels import (
    fastest,
    half_kernels,
    int8_kernels,
    quantize_weight,
    rows_like,
    transposed_is_faster,
)

_NO_STATE = (
    "a model packed for generation has no state_dict: load it in float32, or use save_model."
)


@dataclass(frozen=True)
class Weights:
    """A weight (out, in) and a bias (out,): what a layer is made of, as an nn.Linear has them."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


class HalfLinear(nn.Module):
    """x W^T + bias with W (out, in) kept in float16 or bfloat16."""

    def __init__(self, linear: nn.Linear | Weights, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = _fixed(linear.weight.detach().to(dtype, copy=True))
        self.bias = _bias_of(linear)
        self.kernels = half_kernels(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.kernels[rows_like(x)](x, self.weight)
        return y if self.bias is None else y.add_(self.bias)


class HalfEmbedding(nn.Module):
    """Rows of a float16 or bfloat16 table, as float32."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight  # the head's own where it is tied

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight).float()


class PackedHalfLinear(nn.Module):
    """x W^T + bias with W in float16, in the order in which the processor's own kernel reads it.

    That kernel takes and gives float32 and rounds nothing but the weights.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        weight, bias = linear.weight.detach().float(), linear.bias
        self.packed = torch.ops.quantized.linear_prepack_fp16(
            weight, None if bias is None else bias.detach().float()
        )
        self.multiply = _operator("linear_dynamic_fp16")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.multiply(x, self.packed)

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ValueError(_NO_STATE)

    def unpacked(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Copies of the weight (out, in), float16, and of the bias, float32."""
        weight, bias = torch.ops.quantized.linear_unpack_fp16(self.packed)
        return weight.half(), bias


class Int8Linear(nn.Module):
    """x W^T + bias with W (out, in) kept as int8 and a scale per output channel.

    Each row of x is quantised on the fly with a scale of its own.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        weight, scale = quantize_weight(linear.weight.detach())
        self.weight, self.scale = _fixed(weight), _fixed(scale)  # (out, in), (out, 1)
        self.bias = _bias_of(linear)
        self.kernels = int8_kernels()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.kernels[rows_like(x)](x, self.weight, self.scale)
        return y if self.bias is None else y.add_(self.bias)


class Int8Embedding(nn.Module):
    """Rows of an int8 head, dequantised: the head's own rows, or theirs where it is packed."""

    def __init__(self, weight: nn.Parameter, scale: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale  # (vocab, d) int8, (vocab, 1) float32

    @classmethod
    def of_rows(cls, weight: torch.Tensor) -> Int8Embedding:
        """The rows that `PackedInt8Linear` makes of `weight`: nothing looks them up in it."""
        rows, scale = quantize_weight(weight.detach())
        return cls(_fixed(rows), _fixed(scale))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight) * F.embedding(ids, self.scale)


class PackedInt8Linear(nn.Module):
    """Int8Linear in the order in which the processor's own int8 kernel reads it.

    That kernel quantises, multiplies and scales in one call, but with one scale for all rows:
    so several rows are brought to the same size first, which gives each its own scale again.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        self.bias = _bias_of(linear)
        self.packed = _pack(linear.weight, self.bias)  # adds the bias where there is one row
        self.multiply = _operator("linear_dynamic")

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ValueError(_NO_STATE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == x.shape[-1]:
            return self.multiply(x, self.packed)
        size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        y = self.multiply(x / size, self.packed)
        if self.bias is None:
            return y.mul_(size)
        return torch.addcmul(self.bias, y.sub_(self.bias), size)


def choose_kernels() -> None:
    """Times all of them now, on this thread and its number of cores; a second call is free."""
    for dtype in (torch.float16, torch.bfloat16):
        half_kernels(dtype)
    int8_kernels()
    packed_half_is_faster()
    packed_int8_is_faster()
    transposed_is_faster()


def half_linear(linear: nn.Linear | Weights, dtype: torch.dtype) -> HalfLinear | PackedHalfLinear:
    """The faster of the half-precision layers on this machine."""
    if dtype == torch.float16 and packed_half_is_faster():
        return PackedHalfLinear(linear)
    return HalfLinear(linear, dtype)


def int8_linear(linear: nn.Linear | Weights) -> Int8Linear | PackedInt8Linear:
    """The faster of the two int8 layers on this machine."""
    return PackedInt8Linear(linear) if packed_int8_is_faster() else Int8Linear(linear)


@cache
def packed_half_is_faster() -> bool:
    """Whether torch has packed float16 kernels here that are right, and as fast for one row."""
    return _is_faster(PackedHalfLinear, lambda linear: HalfLinear(linear, torch.float16))


@cache
def packed_int8_is_faster() -> bool:
    """Whether torch has packed int8 kernels here that are right, and as fast for one row."""
    return _is_faster(PackedInt8Linear, Int8Linear)


def _is_faster(
    packed_layer: Callable[[Weights], nn.Module], plain_layer: Callable[[Weights], nn.Module]
) -> bool:
    """Right is measured too: int8 kernels without 32-bit sums clip the largest ones."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3072, 768, generator=generator)
    weight[0] = 1.0  # the largest sum there is, with x below
    x = torch.rand(1, 768, generator=generator) + 1
    try:
        packed, plain = packed_layer(Weights(weight)), plain_layer(Weights(weight))
        wanted = F.linear(x, weight)
        error = (packed(x) - wanted).abs().max() / wanted.abs().max()
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool(error < 0.01) and fastest([lambda: packed(x), lambda: plain(x)]) == 0


def _operator(name: str) -> Callable[..., torch.Tensor]:
    operator = getattr(torch.ops.quantized, name).default
    # What it calls itself, without looking through the arguments in Python at every call.
    return getattr(operator, "_op", operator)


def _pack(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    rows, scale = quantize_weight(weight.detach())
    zeros = torch.zeros(len(rows), dtype=torch.long)
    with warnings.catch_warnings():
        # torch means to move its quantised tensors to another package; then Int8Linear serves.
        warnings.simplefilter("ignore")
        quantized = torch._make_per_channel_quantized_tensor(
            rows, scale.view(-1).double(), zeros, 0
        )
        del rows  # it was copied, and a head is large
        return torch.ops.quantized.linear_prepack(quantized, bias)


def _bias_of(linear: nn.Linear | Weights) -> nn.Parameter | None:
    if linear.bias is None:
        return None
    return _fixed(linear.bias.detach().to(torch.float32, copy=True))


def _fixed(value: torch.Tensor) -> nn.Parameter:
    """A parameter that is listed and counted, and not trained."""
    return nn.Parameter(value, requires_grad=False)
