"""Layers whose weights lie in the order in which a library's own kernel reads them.

float32 in and out, as in layers.py; a packed weight is no parameter and cannot be trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gpt.engine.kernels import quantize_weight
from gpt.engine.layers import Weights, bias_of, fixed

_BLOCK = 512  # numbers of a row that the int8 kernel reads together
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
        rows, scale = quantize_weight(linear.weight.detach())
        self.packed = _pack_rows(rows, scale, self.bias)  # adds the bias where there is one row
        self.multiply = _operator("linear_dynamic")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == x.shape[-1]:
            return self.multiply(x, self.packed)
        size = _size(x)
        y = self.multiply(x / size, self.packed)
        if self.bias is None:
            return y.mul_(size)
        reused = None if size.requires_grad else y
        return torch.lerp(self.bias, y, size, out=reused)  # y has the bias: bias + size (y - bias)


class FoldedInt8Linear(PackedInt8Linear):
    """PackedInt8Linear for a head: two outputs share a packed row, and x is two rows for each.

    The kernel stores and reads rows in blocks of 512 numbers, the last one padded. Output j and
    output j + out / 2, side by side in one row of 2 d numbers, fill them where d alone does not;
    (x, 0) and (0, x) then give the two. A head is bound by reading: this takes the padding away.
    """

    def __init__(self, linear: nn.Linear | Weights) -> None:
        Packed.__init__(self)
        rows, scale = quantize_weight(linear.weight.detach())
        half = -(-len(rows) // 2)
        self.scale = fixed(scale.view(-1))  # (out,)
        upper = torch.zeros(half, rows.shape[1], dtype=torch.int8)
        upper[: len(rows) - half] = rows[half:]
        self.packed = _pack_rows(torch.cat([rows[:half], upper], dim=1), torch.ones(half), None)
        self.multiply = _operator("linear_dynamic")

    @staticmethod
    def serves(linear: nn.Linear | Weights) -> bool:
        """Whether twice as many numbers fill the blocks, and there is no bias."""
        return linear.bias is None and linear.weight.shape[1] % _BLOCK == _BLOCK // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d, out = x.shape[-1], len(self.scale)
        size = _size(x) if x.numel() > d else None
        rows = (x if size is None else x / size).reshape(-1, d)
        pairs = rows.new_zeros(len(rows), 2, 2 * d)
        pairs[:, 0, :d] = rows
        pairs[:, 1, d:] = rows
        y = self.multiply(pairs.view(-1, 2 * d), self.packed).view(len(rows), -1)[:, :out]
        y = y.mul_(self.scale).view(*x.shape[:-1], out)
        return y if size is None else y.mul_(size)


def _size(x: torch.Tensor) -> torch.Tensor:
    """The largest magnitude in each row of x (..., n), (..., 1), and never quite 0."""
    low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
    return torch.maximum(high, low.neg_()).clamp_min_(1e-30)


def _operator(name: str) -> Callable[..., torch.Tensor]:
    operator = getattr(torch.ops.quantized, name).default
    # What it calls itself, without looking through the arguments in Python at every call.
    return getattr(operator, "_op", operator)


def _pack_rows(rows: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """int8 rows (out, in) with a scale each."""
    zeros = torch.zeros(len(rows), dtype=torch.long)
    with warnings.catch_warnings():
        # torch means to move its quantised tensors to another package; then Int8Linear serves.
        warnings.simplefilter("ignore")
        quantized = torch._make_per_channel_quantized_tensor(
            rows, scale.view(-1).double(), zeros, 0
        )
        return torch.ops.quantized.linear_prepack(quantized, bias)
