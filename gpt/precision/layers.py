"""Layers that stand in for nn.Linear and nn.Embedding: float32 in and out, smaller inside."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt.precision.kernels import fastest, half_kernel, int8_kernel, quantize_rows, rows_like


class HalfLinear(nn.Module):
    """x W^T + bias with W (out, in) kept in float16 or bfloat16."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = _fixed(linear.weight.detach().to(dtype, copy=True))
        self.bias = _bias_of(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = half_kernel(self.weight.dtype, rows_like(x))(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)


class HalfEmbedding(nn.Module):
    """Rows of a float16 or bfloat16 table, as float32."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight  # the head's own where it is tied

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight).float()


class Int8Linear(nn.Module):
    """x W^T + bias with W (out, in) kept as int8 and a scale per output channel.

    Each row of x is quantised on the fly with a scale of its own.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize_rows(linear.weight.detach())
        self.weight, self.scale = _fixed(weight), _fixed(scale)  # (out, in), (out, 1)
        self.bias = _bias_of(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = int8_kernel(rows_like(x))(x, self.weight, self.scale)
        return y if self.bias is None else y.add_(self.bias)


class Int8Embedding(nn.Module):
    """Rows of an int8 head, dequantised: a tied embedding without a second copy."""

    def __init__(self, head: Int8Linear) -> None:
        super().__init__()
        self.weight, self.scale = head.weight, head.scale

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight) * F.embedding(ids, self.scale)


class PackedLinear(nn.Module):
    """Int8Linear in the order in which the processor's own int8 kernel reads it.

    That kernel quantises, multiplies and scales in one call, but with one scale for all rows:
    so several rows are brought to the same size first, which gives each its own scale again.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize_rows(linear.weight.detach())
        self.packed = _pack(weight, scale)
        self.bias = _bias_of(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == x.shape[-1]:
            y = torch.ops.quantized.linear_dynamic(x, self.packed)
        else:
            size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
            y = torch.ops.quantized.linear_dynamic(x / size, self.packed).mul_(size)
        return y if self.bias is None else y.add_(self.bias)


def int8_linear(linear: nn.Linear) -> Int8Linear | PackedLinear:
    """The faster of the two int8 layers on this machine."""
    return PackedLinear(linear) if packed_is_faster() else Int8Linear(linear)


@cache
def packed_is_faster() -> bool:
    """Whether torch has packed int8 kernels here that are right, and faster for one row.

    Right is measured: kernels without 32-bit sums clip the largest ones.
    """
    linear = nn.Linear(768, 3072, bias=False)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3072, 768, generator=generator)
    weight[0] = 1.0  # the largest sum there is, with x below
    linear.weight = nn.Parameter(weight, requires_grad=False)
    x = torch.rand(1, 768, generator=generator) + 1
    try:
        packed, plain = PackedLinear(linear), Int8Linear(linear)
        error = (packed(x) - F.linear(x, weight)).abs().max() / F.linear(x, weight).abs().max()
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool(error < 0.01) and fastest([lambda: packed(x), lambda: plain(x)]) == 0


def _pack(weight: torch.Tensor, scale: torch.Tensor) -> Any:
    zeros = torch.zeros(len(weight), dtype=torch.long)
    with warnings.catch_warnings():
        # torch means to move its quantised tensors to another package; then Int8Linear serves.
        warnings.simplefilter("ignore")
        quantized = torch._make_per_channel_quantized_tensor(
            weight, scale.view(-1).double(), zeros, 0
        )
        return torch.ops.quantized.linear_prepack(quantized, None)


def _bias_of(linear: nn.Linear) -> nn.Parameter | None:
    if linear.bias is None:
        return None
    return _fixed(linear.bias.detach().to(torch.float32, copy=True))


def _fixed(value: torch.Tensor) -> nn.Parameter:
    """A parameter that is listed and counted, and not trained."""
    return nn.Parameter(value, requires_grad=False)
