"""Which layers serve a precision on this machine: what is right and, measured once, fast."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as once  # `cache` is what attention remembers
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from gpt.attention import Attend, attend
from gpt.cache import LayerCache
from gpt.engine.kernels import fastest, float32_way, half_kernels, int8_kernels
from gpt.engine.layers import HalfLinear, Int8Linear, Weights
from gpt.engine.packed import (
    FoldedInt8Linear,
    PackedBFloat16Linear,
    PackedFloat16Linear,
    PackedInt8Linear,
)
from gpt.engine.prompts import attend_in_bfloat16, bfloat16_is_faster
from gpt.engine.steps import attend_in_place, reading_in_place_is_faster

PACKED: dict[torch.dtype, Callable[[nn.Linear | Weights], nn.Module]] = {
    torch.float16: PackedFloat16Linear,
    torch.bfloat16: PackedBFloat16Linear,
}


def choose_kernels() -> None:
    """Times all of them now, on this thread and its number of cores; a second call is free."""
    for dtype in (torch.float16, torch.bfloat16):
        half_kernels(dtype)
        packed_half_is_faster(dtype)
    int8_kernels()
    packed_int8_is_faster()
    float32_way()
    attention()


def half_linear(linear: nn.Linear | Weights, dtype: torch.dtype) -> nn.Module:
    """The faster of the half-precision layers on this machine."""
    return PACKED[dtype](linear) if packed_half_is_faster(dtype) else HalfLinear(linear, dtype)


def int8_linear(
    linear: nn.Linear | Weights, is_head: bool = False
) -> Int8Linear | PackedInt8Linear:
    """The fastest of the int8 layers on this machine."""
    if not packed_int8_is_faster():
        return Int8Linear(linear)
    folded = is_head and FoldedInt8Linear.serves(linear)
    return FoldedInt8Linear(linear) if folded else PackedInt8Linear(linear)


def attention() -> Attend:
    """The fastest ways to attend on this machine, for models below float32."""
    return partial(_attend, in_place=reading_in_place_is_faster(), in_bfloat16=bfloat16_is_faster())


def _attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: LayerCache | None = None,
    *,
    in_place: bool,
    in_bfloat16: bool,
) -> torch.Tensor:
    """`attend`, in place for one query over a float16 cache, or in bfloat16 for a long prompt."""
    one_of_half = queries.shape[2] == 1 and values.dtype == torch.float16
    wants_gradient = any(x.requires_grad for x in (queries, keys, values))
    if in_place and cache is not None and one_of_half and not wants_gradient:
        return attend_in_place(queries, keys, values, cache)
    return (attend_in_bfloat16 if in_bfloat16 else attend)(queries, keys, values)


@once
def packed_half_is_faster(dtype: torch.dtype) -> bool:
    """Whether torch has packed kernels of `dtype` here that are right, and as fast for one row."""
    return _is_faster(PACKED[dtype], lambda linear: HalfLinear(linear, dtype))


@once
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
