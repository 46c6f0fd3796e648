"""Which way of multiplying is the fastest here: measured once, in milliseconds, at first use.

Rows times weights, (rows, in) by (out, in): one row is bound by reading the weights, a prompt by
arithmetic, and machines differ in what they have instructions for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x float32, weight -> float32
Int8Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # + scale

FEW, MANY = 8, 64  # rows that stand for a batch of visitors and for a prompt
_CLEARLY = 1.3  # how much faster another must be to replace the one that is known to be good


def rows_like(x: torch.Tensor) -> int:
    """1, FEW or MANY: the number of rows for which the kernel of `x` (..., in) was chosen."""
    rows = x.numel() // x.shape[-1]
    return 1 if rows == 1 else FEW if rows <= 2 * FEW else MANY


@cache
def half_kernel(dtype: torch.dtype, rows: int) -> Kernel:
    """The fastest product of `rows` float32 rows with float16 or bfloat16 weights."""
    kernels: list[Kernel] = [_in_its_own_type, _through_float32]
    if dtype == torch.float16 and rows > 1:
        # Few processors have float16 arithmetic; bfloat16 keeps the range and fewer digits.
        kernels = [_through_bfloat16, _in_its_own_type, _through_float32]
    x, weight = _sample(rows)
    stored = weight.to(dtype)
    return kernels[fastest([lambda kernel=kernel: kernel(x, stored) for kernel in kernels])]


@cache
def int8_kernel(rows: int) -> Int8Kernel:
    """The fastest product of `rows` float32 rows with int8 weights, a scale per output channel."""
    x, weight = _sample(rows)
    stored, scale = quantize_rows(weight)
    kernels: list[Int8Kernel] = [_int8_products, _int8_as_float]
    runs = [lambda kernel=kernel: kernel(x, stored, scale) for kernel in kernels]
    return kernels[fastest(runs)]


@cache
def transposed_is_faster() -> bool:
    """Whether float32 weights kept as (in, out) in memory serve one row faster than (out, in)."""
    x, weight = _sample(1)
    transposed = weight.t().contiguous().t()
    return fastest([lambda: F.linear(x, transposed), lambda: F.linear(x, weight)]) == 0


def fastest(candidates: Sequence[Callable[[], object]], repeats: int = 5) -> int:
    """Index of the quickest; an earlier one unless a later is clearly faster.

    One that raises, because this machine or torch has no such kernel, is out.
    Raises RuntimeError if all do.
    """
    best = [float("inf")] * len(candidates)
    for turn in range(repeats + 1):  # interleaved; the first turn only warms up
        for index, candidate in enumerate(candidates):
            if turn and best[index] == float("inf") and turn > 1:
                continue  # it raised
            try:
                started = time.perf_counter()
                candidate()
                took = time.perf_counter() - started
            except (RuntimeError, NotImplementedError):
                continue
            if turn:
                best[index] = min(best[index], took)
    if min(best) == float("inf"):
        raise RuntimeError("none of the ways to multiply works on this machine.")
    return next(i for i, took in enumerate(best) if took <= _CLEARLY * min(best))


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 (..., n) and scale (..., 1), float32, such that int8 * scale is about `x`.

    One scale per row: its largest magnitude becomes 127. A row of zeros stays zeros.
    """
    x = x.float()
    scale = (x.abs().amax(dim=-1, keepdim=True) / 127).clamp_min_(1e-30)
    return (x / scale).round_().to(torch.int8), scale


def _in_its_own_type(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x.to(weight.dtype), weight).float()


def _through_bfloat16(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x.bfloat16(), weight.bfloat16()).float()


def _through_float32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight.float())


def _int8_products(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    quantized, row_scale = quantize_rows(x.view(-1, x.shape[-1]))
    sums = torch._int_mm(quantized, weight.t())  # (rows, out), exact in int32
    return (sums * scale.view(-1)).mul_(row_scale).view(*x.shape[:-1], -1)


def _int8_as_float(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight.float()) * scale.view(-1)


def _sample(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (rows, in) and a weight (out, in): beyond a core's cache for one row, small for many."""
    generator = torch.Generator().manual_seed(0)
    out = 3072 if rows == 1 else 768
    x = torch.randn(rows, 768, generator=generator)
    return x, torch.randn(out, 768, generator=generator) * 0.02
