"""Layers that stand in for nn.Linear and nn.Embedding: float32 in and out, faster inside."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from gpt.engine.kernels import (
    MANY,
    half_kernels,
    in_parts,
    int8_kernels,
    quantize_weight,
    rows_like,
)


@dataclass(frozen=True)
class Weights:
    """A weight (out, in) and a bias (out,): what a layer is made of, as an nn.Linear has them."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


class PartsLinear(nn.Linear):
    """An nn.Linear in float32, its own parameters, whose few rows are multiplied `in_parts`."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if rows_like(x) == MANY:
            return F.linear(x, self.weight, self.bias)
        y = in_parts(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)


class HalfLinear(nn.Module):
    """x W^T + bias with W (out, in) kept in float16 or bfloat16."""

    def __init__(self, linear: nn.Linear | Weights, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = fixed(linear.weight.detach().to(dtype, copy=True))
        self.bias = bias_of(linear)
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


class Int8Linear(nn.Module):
    """x W^T + bias with W (out, in) kept as int8 and a scale per output channel.

    Each row of x is quantised on the fly with a scale of its own.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        weight, scale = quantize_weight(linear.weight.detach())
        self.weight, self.scale = fixed(weight), fixed(scale)  # (out, in), (out, 1)
        self.bias = bias_of(linear)
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
        return cls(fixed(rows), fixed(scale))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight) * F.embedding(ids, self.scale)


def bias_of(linear: nn.Linear | Weights) -> nn.Parameter | None:
    if linear.bias is None:
        return None
    return fixed(linear.bias.detach().to(torch.float32, copy=True))


def fixed(value: torch.Tensor) -> nn.Parameter:
    """A parameter that is listed and counted, and not trained."""
    return nn.Parameter(value, requires_grad=False)
