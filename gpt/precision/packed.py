"""Layers whose weights lie in the order in which a library's own kernel reads them.

float32 in and out, as in layers.py; a packed weight is no parameter and cannot be trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gpt.precision.kernels import quantize_weight
from gpt.precision.layers import Weights, bias_of

_NO_STATE = (
    "a model packed for generation has no state_dict: load it in float32, or use save_model."
)


class Packed(nn.Module):
    """What all packed layers have in common: no state_dict, which would leave the weights out."""

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ValueError(_NO_STATE)


class PackedFloat16Linear(Packed):
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

    def unpacked(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Copies of the weight (out, in), float16, and of the bias, float32."""
        weight, bias = torch.ops.quantized.linear_unpack_fp16(self.packed)
        return weight.half(), bias


class PackedBFloat16Linear(Packed):
    """x W^T + bias with x and W in bfloat16, as oneDNN, which sums in float32, orders them."""

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        weight = linear.weight.detach().bfloat16().contiguous()
        self.bias = bias_of(linear)
        # The 1 tells for how many rows; measured with 1 to 512, it makes no difference.
        self.packed = torch.ops.mkldnn._reorder_linear_weight.default(weight, 1)
        self.multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.multiply(x.bfloat16(), self.packed, self.bias, "none", [], "").float()

    def unpacked(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A copy of the weight (out, in), bfloat16; the bias is a parameter."""
        return self.packed.to_dense(), None


class PackedInt8Linear(Packed):
    """Int8Linear in the order in which the processor's own int8 kernel reads it.

    That kernel quantises, multiplies and scales in one call, but with one scale for all rows:
    so several rows are brought to the same size first, which gives each its own scale again.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        super().__init__()
        self.bias = bias_of(linear)
        self.packed = _pack(linear.weight, self.bias)  # adds the bias where there is one row
        self.multiply = _operator("linear_dynamic")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == x.shape[-1]:
            return self.multiply(x, self.packed)
        low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
        size = torch.maximum(high, low.neg_()).clamp_min_(1e-30)
        y = self.multiply(x / size, self.packed).mul_(size)
        # The packed bias was multiplied too; in place, for a prompt's rows fill no cache.
        return y if self.bias is None else y.addcmul_(1 - size, self.bias)


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
