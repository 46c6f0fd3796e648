"""Which way of multiplying is the fastest here: measured once, in less than a second.

Rows times weights, (rows, in) by (out, in): one row is bound by reading the weights, a prompt by
arithmetic, and machines differ in what they have instructions for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x float32, weight -> float32
Int8Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # + scale

FEW, MANY = 8, 64  # rows that stand for a batch of visitors and for a prompt
_REPEATS = 15
_PARTS = 4
_ROWS_AT_A_TIME = 4096
_CLEARLY = 2.0  # how much faster another must be to replace the one that is known to be good


def rows_like(x: torch.Tensor) -> int:
    """1, FEW or MANY: the number of rows for which the kernel of `x` (..., in) was chosen."""
    rows = x.numel() // x.shape[-1]
    return 1 if rows == 1 else FEW if rows <= 2 * FEW else MANY


@cache
def half_kernels(dtype: torch.dtype) -> dict[int, Kernel]:
    """The fastest product of 1, FEW and MANY float32 rows with float16 or bfloat16 weights."""
    kernels: dict[int, list[Kernel]] = {
        rows: [_in_its_own_type, _through_float32] for rows in (1, FEW, MANY)
    }
    if dtype == torch.float16:
        # Few processors have float16 arithmetic: only one row, bound by reading, is fast in it;
        # bfloat16 keeps the range and fewer digits.
        kernels[FEW] = [_row_by_row]  # the others make a second copy of a whole head
        kernels[MANY] = [_through_bfloat16, _in_its_own_type, _through_float32]
    chosen = {}
    for rows, candidates in kernels.items():
        x, weight = _sample(rows)
        stored = weight.to(dtype)
        runs = [lambda k=kernel, x=x, w=stored: k(x, w) for kernel in candidates]
        chosen[rows] = candidates[fastest(runs)]
    return chosen


@cache
def int8_kernels() -> dict[int, Int8Kernel]:
    """The fastest product of 1, FEW and MANY float32 rows with int8 weights and their scales."""
    candidates: list[Int8Kernel] = [_int8_products, _int8_as_float]
    chosen = {}
    for rows in (1, FEW, MANY):
        x, weight = _sample(rows)
        stored, scale = quantize_rows(weight)
        runs = [lambda k=kernel, x=x, w=stored, s=scale: k(x, w, s) for kernel in candidates]
        chosen[rows] = candidates[fastest(runs)]
    return chosen


@cache
def float32_way() -> str:
    """How few rows meet float32 weights: "parts", or all of them by "columns" or by "rows".

    For the first two the weights (out, in) lie in memory as (in, out).
    """
    x, weight = _sample(1)
    turned = weight.t().contiguous().t()
    ways: dict[str, Callable[[], object]] = {
        "parts": lambda: in_parts(x, turned),
        "columns": lambda: F.linear(x, turned),
        "rows": lambda: F.linear(x, weight),
    }
    return list(ways)[fastest(list(ways.values()))]


def fastest(candidates: Sequence[Callable[[], object]], clearly: float = _CLEARLY) -> int:
    """Index of the first that none beats by the factor `clearly`, the best of 15 taken of each.

    The first is the one known to be good: on a busy machine it wins again at every start, so
    the same seed meets the same kernels. One that raises, because this machine or torch has no
    such kernel, is out. Raises RuntimeError if all do.
    """
    best = [float("inf")] * len(candidates)
    missing = set()
    for turn in range(_REPEATS + 1):  # the first turn only warms up
        for index, candidate in enumerate(candidates):
            if index in missing:
                continue
            try:
                started = time.perf_counter()
                candidate()
                took = time.perf_counter() - started
            except (RuntimeError, NotImplementedError, AttributeError):
                missing.add(index)
                continue
            if turn:
                best[index] = min(best[index], took)
    if len(missing) == len(candidates):
        raise RuntimeError("none of the ways to multiply works on this machine.")
    return next(i for i, took in enumerate(best) if took <= clearly * min(best))


def in_parts(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T, the sum of the products of up to four parts of the inputs, all made at once.

    W (out, in) should lie in memory as (in, out). MKL shares one product of a few rows badly
    among cores and several products well: this reads weights at up to twice the rate.
    """
    parts, out = math.gcd(weight.shape[1], _PARTS), weight.shape[0]
    rows = x.reshape(-1, parts, weight.shape[1] // parts).transpose(0, 1)  # (parts, rows, ...)
    sums = torch.bmm(rows, weight.t().reshape(parts, -1, out)).sum(0)  # (rows, out)
    return sums.view(*x.shape[:-1], out)


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 (..., n) and scale (..., 1), float32, such that int8 * scale is about `x`.

    One scale per row: its largest magnitude becomes 127. A row of zeros stays zeros.
    """
    x = x.float()
    scale = (x.abs().amax(dim=-1, keepdim=True) / 127).clamp_min_(1e-30)
    return (x / scale).round_().to(torch.int8), scale


def quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantize_rows` of a weight (out, in), some rows at a time: never all of it in float32."""
    values = torch.empty(weight.shape, dtype=torch.int8)
    scale = torch.empty(len(weight), 1)
    for start in range(0, len(weight), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        values[rows], scale[rows] = quantize_rows(weight[rows])
    return values, scale


def _in_its_own_type(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x.to(weight.dtype), weight).float()


def _row_by_row(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    rows = x.view(-1, 1, x.shape[-1])
    return torch.cat([_in_its_own_type(row, weight) for row in rows]).view(*x.shape[:-1], -1)


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
