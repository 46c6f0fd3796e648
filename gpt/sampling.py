"""From logits to the next token: pure functions of logits, options and one uniform number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

_NUCLEUS = 512  # top-p rarely keeps more tokens than these
_BLOCK = 256
_SMALLEST_TEMPERATURE = 1e-30
MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exactly


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen; each filter is off by default.

    temperature 0 is greedy; `top_k=None` and `top_p=1.0` keep every token; `seed=None` means
    that a run draws a seed and reports it. Raises ValueError if a value is impossible.
    """

    max_new_tokens: int = 50
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_whole("max_new_tokens", self.max_new_tokens, low=1)
        _check_real("temperature", self.temperature)
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}: use 0 (greedy) or more.")
        if self.top_k is not None:
            _check_whole("top_k", self.top_k, low=1, off="None to keep every token")
        _check_real("top_p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: use more than 0 and at most 1 (off).")
        if self.seed is not None:
            _check_whole("seed", self.seed, low=0, off="None to draw one")
            if self.seed > MAX_SEED:
                raise ValueError(f"seed is {self.seed:,}: use at most {MAX_SEED:,}.")

    def with_seed(self) -> SamplingOptions:
        """These options with a seed: the one given, or one drawn from the system's entropy."""
        if self.seed is not None:
            return self
        return replace(self, seed=torch.Generator().seed() % 2**31)


def probabilities(logits: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """The distribution that is sampled from, float32, same shape as `logits` (..., vocab).

    Temperature, then top-k, then top-p on what top-k left, renormalised; rejected tokens are 0.
    At temperature 0 the best token has it all. Among equal logits the lower id comes first.
    Raises ValueError if the logits are not finite at their maximum.
    """
    logits = logits.float()
    if options.temperature == 0:
        winner = best_token(logits).unsqueeze(-1).to(logits.device)
        return torch.zeros_like(logits).scatter_(-1, winner, 1.0)
    best = logits.amax(dim=-1, keepdim=True)
    check_finite(float(best.detach().sum(dtype=torch.float64)))
    kept = logits if options.top_k is None else _keep_top_k(logits, options.top_k)
    # Shifted by the maximum first, and by no less than float32 can hold, nothing overflows.
    temperature = max(options.temperature, _SMALLEST_TEMPERATURE)
    distribution = torch.softmax((kept - best).div_(temperature), dim=-1)
    if options.top_p < 1:
        distribution = _keep_top_p(distribution, options.top_p)
    return distribution


def uniforms(generator: torch.Generator, rows: int = 1) -> torch.Tensor:
    """One number in [0, 1) for each row, float64, from the run's own CPU generator."""
    return torch.rand(rows, dtype=torch.float64, generator=generator)


def draw(distribution: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Token ids (b,) by inverting the cumulative distribution, in id order, at `uniform` (b,).

    The token is the first whose cumulative probability exceeds the uniform number, so a token
    of probability 0 is never drawn. Numbers (b, n) draw n times from each row.
    Source: Devroye 1986, section III.2.1 (inversion).
    """
    cumulative = distribution.cumsum(dim=-1, dtype=torch.float64)  # (b, vocab)
    columns = uniform.to(cumulative.device).reshape(len(cumulative), -1)  # (b, n)
    ids = torch.searchsorted(cumulative, columns * cumulative[:, -1:], right=True)
    return ids.reshape(uniform.shape)


def best_token(logits: torch.Tensor) -> torch.Tensor:
    """Ids (...) of the largest of `logits` (..., vocab), on the CPU; among equals the lowest id.

    Raises ValueError if it is not finite.
    """
    rows = _as_numpy(logits)  # numpy finds the largest in less time than torch
    ids = rows.argmax(axis=-1)  # the first of equals, and a NaN before all else
    check_finite(float(rows.max(axis=-1).sum(dtype=np.float64)))
    return torch.as_tensor(ids)


def best_ids(values: torch.Tensor, k: int) -> torch.Tensor:
    """Ids (k,) of the k largest of `values` (vocab,), best first, among equals the lower first.

    For a few of many in less time than torch.topk, which does not say which of equals it takes.
    """
    row = _as_numpy(values)
    ids = _largest(row, k)
    return torch.from_numpy(ids[np.argsort(-row[ids], kind="stable")])


def _largest(row: np.ndarray, k: int) -> np.ndarray:
    """Ids (k,) of the k largest of `row` (vocab,), in no order but that of equals: lower first.

    k blocks hold a number that is no less than `floor`, where there are so many: what is less
    is not looked at again.
    """
    blocks = torch.from_numpy(row[: len(row) // _BLOCK * _BLOCK]).view(-1, _BLOCK)
    if k <= len(blocks):
        floor = np.partition(blocks.amax(dim=-1).numpy(), -k)[-k]
        ids = np.flatnonzero(row >= floor)
        if len(ids) <= k * _BLOCK:  # else nearly all are equal, such as 0
            return ids[np.argsort(-row[ids], kind="stable")[:k]]
    return _down_to(row, np.partition(row, -k)[-k], k)


def _down_to(row: np.ndarray, border: float, count: int) -> np.ndarray:
    """Ids of the `count` largest of `row`, given the smallest of them; of equals the lower ids."""
    above = np.flatnonzero(row > border)
    return np.append(above, np.flatnonzero(row == border)[: count - len(above)])


def _as_numpy(values: torch.Tensor) -> np.ndarray:
    """float32, sharing memory where `values` are that, and on the CPU."""
    return values.detach().float().cpu().numpy()


def check_finite(number: float) -> None:
    """Raises ValueError unless `number`, the largest logit or what was made of it, is finite."""
    if not math.isfinite(number):
        raise ValueError("the model's logits are not finite: its weights are damaged.")


def _keep_top_k(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """`logits` with -inf outside the k largest; of equals at the border the lower ids stay."""
    if top_k >= logits.shape[-1]:
        return logits
    return _only(logits, -torch.inf, lambda row: _largest(row, top_k))


def _keep_top_p(distribution: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of most probable tokens that reaches `top_p`, renormalised."""

    def nucleus(row: np.ndarray) -> np.ndarray:
        for size in (min(_NUCLEUS, len(row)), len(row)):
            best = np.sort(np.partition(row, -size)[-size:])[::-1]
            inside = best.cumsum(dtype=np.float64) - best < top_p  # mass of the better tokens
            if not inside[-1]:
                break  # what is left out has less
        count = int(inside.sum())
        return _down_to(row, best[count - 1], count)

    kept = _only(distribution, 0.0, nucleus)
    return kept / kept.sum(dim=-1, keepdim=True)


def _only(
    values: torch.Tensor, other: float, ids_of: Callable[[np.ndarray], np.ndarray]
) -> torch.Tensor:
    """`values` (..., vocab) with `other` but where `ids_of` each row says."""
    rows = _as_numpy(values).reshape(-1, values.shape[-1])
    kept = np.zeros(rows.shape, dtype=bool)
    for row, kept_row in zip(rows, kept, strict=True):
        kept_row[ids_of(row)] = True
    left_out = torch.from_numpy(~kept).view(values.shape).to(values.device)
    return values.masked_fill(left_out, other)


def _check_whole(name: str, value: object, low: int, off: str = "") -> None:
    hint = f", or {off}" if off else ""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is {value!r}: use a whole number of at least {low}{hint}.")


def _check_real(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}: use a number.")
