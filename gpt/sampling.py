"""From logits to the next token: pure functions of logits, options and one uniform number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

_NUCLEI = (512, 8192)  # top-p sorts as many of the best tokens, and all if they are too few
_BLOCK = 256
_SMALLEST_TEMPERATURE = 1e-30
_LARGE = 1e30  # float32 ends at 3e38
_NOT_FINITE = "the model's logits are not finite: its weights are damaged."
MAX_TEMPERATURE = 1e6
MAX_STOP = 200  # characters
MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exactly


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen; each filter is off by default.

    temperature 0 is greedy; `top_k=None`, `top_p=1.0` and `min_p=0.0` keep every token; `seed=None`
    means that a run draws a seed and reports it. `min_p` is the smallest probability that is kept,
    as a share of the best token's, after the temperature. A run ends with the token that completes
    the text `stop`. `steering` are pairs (position, token id): that token comes there, counted in
    new tokens from 0, whatever is drawn; all other draws stay as they are.
    Raises ValueError if a value is impossible.
    """

    max_new_tokens: int = 50
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    stop: str = ""
    steering: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        _check_whole("max_new_tokens", self.max_new_tokens, 1)
        _check_real("temperature", self.temperature)
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise ValueError(
                f"temperature is {_shown(self.temperature)}: "
                f"use 0 (greedy) or more, at most {MAX_TEMPERATURE:,.0f}."
            )
        if self.top_k is not None:
            _check_whole("top_k", self.top_k, 1, off="None to keep every token")
        _check_real("top_p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {_shown(self.top_p)}: use more than 0 and at most 1 (off).")
        _check_real("min_p", self.min_p)
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {_shown(self.min_p)}: use 0 (off) to 1.")
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, off="None to draw one")
            if self.seed > MAX_SEED:
                raise ValueError(f"seed is {_shown(self.seed)}: use at most {MAX_SEED:,}.")
        if not isinstance(self.stop, str) or len(self.stop) > MAX_STOP:
            raise ValueError(
                f"stop is {_shown(self.stop)}: use a text of at most {MAX_STOP} characters."
            )
        _check_steering(self.steering)

    def with_seed(self) -> SamplingOptions:
        """These options with a seed: the one given, or one drawn from the system's entropy."""
        if self.seed is not None:
            return self
        return replace(self, seed=torch.Generator().seed() % 2**31)

    @property
    def keeps_all(self) -> bool:
        """Whether no filter is on, or none matters because the choice is greedy."""
        off = self.top_k is None and self.top_p == 1 and self.min_p == 0
        return off or self.temperature == 0


class Choice(NamedTuple):
    """A token, its probability, and the most probable tokens with theirs, best first.

    `below` is the share of the tokens of lower ids, None where nothing was drawn; `kept` counts the
    tokens that no filter left out.
    """

    token_id: int
    probability: float
    candidates: list[tuple[int, float]]
    below: float | None = None
    kept: int = 0


class _Kept(NamedTuple):
    """The tokens that may be drawn, ids ascending (None: all), and their weights.

    Their probabilities are the weights over the total, the last of `block_ends`: the cumulative
    weights at the end of each block of 256, in float64.
    """

    ids: np.ndarray | None
    weights: np.ndarray
    block_ends: np.ndarray

    @property
    def total(self) -> float:
        return float(self.block_ends[-1])

    def place_of(self, uniform: float) -> int:
        """Index of the first weight up to which more than `uniform` of the total lies."""
        wanted = uniform * self.total
        block = int(self.block_ends.searchsorted(wanted, side="right"))
        start = self.block_ends[block - 1] if block else 0.0
        inside = self.weights[block * _BLOCK : (block + 1) * _BLOCK]
        cumulative = inside.cumsum(dtype=np.float64) + start
        place = int(cumulative.searchsorted(wanted, side="right"))
        if place == len(inside):  # the two sums of a block may differ in the last digit
            place = int(np.flatnonzero(inside)[-1])
        return block * _BLOCK + place

    def below(self, place: int) -> float:
        """The share of the weights before `place`."""
        block = place // _BLOCK
        whole = self.block_ends[block - 1] if block else 0.0
        rest = self.weights[block * _BLOCK : place].sum(dtype=np.float64)
        return float((whole + rest) / self.total)

    def share_of(self, token_id: int) -> float:
        """The probability of a token, 0 if a filter left it out."""
        place = token_id if self.ids is None else int(self.ids.searchsorted(token_id))
        if self.ids is not None and (place == len(self.ids) or self.ids[place] != token_id):
            return 0.0
        return float(self.weights[place] / self.total)


def choose(
    logits: torch.Tensor,
    options: Sequence[SamplingOptions],
    uniforms: Sequence[float | None],
    n_candidates: Sequence[int],
    steered: Sequence[int | None] = (),
) -> list[Choice | ValueError]:
    """For each row of `logits` (rows, vocab) the token that its options and its number choose.

    The number is in [0, 1), None at temperature 0: there the best token is chosen, and shown with
    the probabilities of the logits' softmax. A token in `steered` is taken instead. No row depends
    on another. A row whose largest logit is not finite gets a ValueError in place of a choice.
    """
    logits = logits.detach().float().cpu().contiguous()
    best, largest = _best(logits)
    damaged = ~np.isfinite(largest)
    if damaged.any():  # no filter sees such a row
        logits = logits.masked_fill(torch.from_numpy(damaged)[:, None], 0)
        largest = np.where(damaged, 0, largest)
    kept = _kept(logits, largest, options)
    shown = best_ids(logits.numpy(), max(n_candidates, default=0))
    choices: list[Choice | ValueError] = []
    for i, (ids, weights, _) in enumerate(kept):
        if damaged[i]:
            choices.append(ValueError(_NOT_FINITE))
            continue
        uniform = uniforms[i]
        places = shown[i, : min(n_candidates[i], len(weights))]  # a filter leaves the best ones
        if ids is not None:
            places = ids.searchsorted(places)
        place = int(best[i]) if uniform is None else kept[i].place_of(uniform)
        places = np.append(places, place)
        *chances, chance = (weights[places] / kept[i].total).tolist()
        *names, token_id = (places if ids is None else ids[places]).tolist()
        candidates = [pair for pair in zip(names, chances, strict=True) if pair[1] > 0]
        below = None if uniform is None else kept[i].below(place)
        choice = Choice(token_id, chance, candidates, below, len(weights))
        if steered and (token := steered[i]) is not None:
            choice = Choice(token, kept[i].share_of(token), candidates, kept=len(weights))
        choices.append(choice)
    return choices


def probabilities(logits: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """The distribution that is sampled from, float64, same shape as `logits` (..., vocab).

    Temperature, then top-k, then top-p on what top-k left, then min-p, normalised; rejected tokens
    are 0. At temperature 0 the best token has it all. Among equal logits the lower id comes first.
    Raises ValueError if the logits are not finite at their maximum.
    """
    rows = logits.detach().float().cpu().reshape(-1, logits.shape[-1]).contiguous()
    best, largest = _best(rows)
    if not np.isfinite(largest).all():
        raise ValueError(_NOT_FINITE)
    shares = np.zeros(rows.shape)
    if options.temperature == 0:
        shares[np.arange(len(best)), best] = 1.0
    else:
        for share, found in zip(shares, _kept(rows, largest, [options] * len(rows)), strict=True):
            share[slice(None) if found.ids is None else found.ids] = found.weights
            share /= share.sum()
    return torch.from_numpy(shares).reshape(logits.shape).to(logits.device)


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


def best_ids(rows: np.ndarray, k: int) -> np.ndarray:
    """Ids (rows, k) of the k largest of each row (vocab,), best first, of equals the lower first.

    At least k values are no less than the k-th largest maximum of a block of 256, so smaller ones
    are not sorted: a third of the time of np.argpartition over 50,257.
    """
    n_rows, k = len(rows), min(k, rows.shape[1])
    whole = rows.shape[1] // _BLOCK * _BLOCK
    blocks = rows[:, :whole].reshape(n_rows, -1, _BLOCK)
    if 0 < k <= blocks.shape[1]:
        maxima = torch.from_numpy(blocks).amax(dim=-1).numpy()
        floors = np.partition(maxima, -k)[:, -k]  # (rows,)
        at, block = np.nonzero(maxima >= floors[:, None])  # the blocks that hold such values
        place, column = np.nonzero(blocks[at, block] >= floors[at, None])
        rest_at, rest = np.nonzero(rows[:, whole:] >= floors[:, None])
        at = np.append(at[place], rest_at)
        ids = np.append(block[place] * _BLOCK + column, whole + rest)
        if len(ids) <= n_rows * k * _BLOCK:  # else nearly all are equal, such as 0
            order = np.lexsort((ids, -rows[at, ids], at))
            firsts = at[order].searchsorted(np.arange(n_rows))
            return ids[order][firsts[:, None] + np.arange(k)]
    found = np.empty((n_rows, k), dtype=np.int64)
    for row, out in zip(rows, found if k else (), strict=k > 0):
        ids = _down_to(row, np.partition(row, -k)[-k], k)
        out[:] = ids[np.argsort(-row[ids], kind="stable")]
    return found


def _best(logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Id and value of the largest logit of each row: the first of equals, NaN before all else."""
    rows = logits.numpy()
    ids = rows.argmax(axis=-1)
    return ids, rows[np.arange(len(ids)), ids]


def _kept(
    logits: torch.Tensor, largest: np.ndarray, options: Sequence[SamplingOptions]
) -> list[_Kept]:
    """What may be drawn from each row of `logits` (rows, vocab); all of a greedy row."""
    whole = [i for i, row_options in enumerate(options) if row_options.keeps_all]
    found = dict(zip(whole, _keep_all(logits, largest, options, whole), strict=True))
    return [
        found[i] if i in found else _filtered(row, largest[i], options[i])
        for i, row in enumerate(logits.numpy())
    ]


def _keep_all(
    logits: torch.Tensor,
    largest: np.ndarray,
    options: Sequence[SamplingOptions],
    whole: Sequence[int],
) -> list[_Kept]:
    """The rows that no filter touches, all at once."""
    if not whole:
        return []
    rows = logits if len(whole) == len(logits) else logits[whole]
    divisors = np.array([options[i].temperature or 1.0 for i in whole], dtype=np.float64)
    divisors = np.maximum(divisors, _SMALLEST_TEMPERATURE)
    overflows = np.abs(largest[whole]) / divisors > _LARGE
    if overflows.any():  # not if it is shifted by its maximum before
        rows = rows - torch.from_numpy(np.where(overflows, largest[whole], 0))[:, None]
    if (divisors != 1).any():
        rows = rows / torch.from_numpy(divisors).float()[:, None]
    weights = torch.softmax(rows, dim=-1).numpy()
    return [_Kept(None, *pair) for pair in zip(weights, _block_ends(weights), strict=True)]


def _block_ends(weights: np.ndarray) -> np.ndarray:
    """Cumulative sums of rows (rows, n) at the ends of their blocks, float64."""
    whole = weights.shape[1] // _BLOCK * _BLOCK
    blocks = torch.from_numpy(weights[:, :whole]).unflatten(1, (-1, _BLOCK))
    sums = blocks.sum(dim=-1).numpy()  # sooner than numpy
    last = weights[:, whole:].sum(axis=1, keepdims=True)
    return np.append(sums, last, axis=1).cumsum(axis=1, dtype=np.float64)


def _filtered(row: np.ndarray, best: float, options: SamplingOptions) -> _Kept:
    """The tokens of one row (vocab,) that the filters leave, by their logits alone.

    Every mass is float64: a float32 softmax over 50,257 terms sums to 1 +- 6e-5.
    """

    def weigh(values: np.ndarray) -> np.ndarray:
        shifted = torch.from_numpy(values).double().sub_(float(best))
        return shifted.div_(max(options.temperature, _SMALLEST_TEMPERATURE)).exp_().numpy()

    ids = None
    if options.top_k is not None and options.top_k < len(row):
        ids = np.sort(best_ids(row[None], options.top_k)[0])
    if options.top_p < 1:
        values = row if ids is None else row[ids]
        inside = _nucleus(values, weigh, options.top_p)
        ids = inside if ids is None else ids[inside]
    weights = weigh(row if ids is None else row[ids])
    if options.min_p > 0:
        probable = np.flatnonzero(weights >= options.min_p)  # the best one's weight is 1
        ids, weights = probable if ids is None else ids[probable], weights[probable]
    return _Kept(ids, weights, _block_ends(weights[None])[0])


def _nucleus(values: np.ndarray, weigh: Any, top_p: float) -> np.ndarray:
    """Ids, ascending, of the fewest of the best of `values` (n,) that hold `top_p` of the mass."""
    total = weigh(values).sum()
    for size in (*(size for size in _NUCLEI if size < len(values)), len(values)):
        best = np.sort(np.partition(values, -size)[-size:])[::-1]
        weights = weigh(best.copy())
        inside = (weights.cumsum() - weights) / total < top_p  # mass of the better tokens
        if not inside[-1]:
            break  # what is left out has less
    count = int(inside.sum())
    return np.sort(_down_to(values, best[count - 1], count))


def _down_to(row: np.ndarray, border: float, count: int) -> np.ndarray:
    """Ids of the `count` largest of `row`, given the smallest of them; of equals the lower ids."""
    above = np.flatnonzero(row > border)
    return np.append(above, np.flatnonzero(row == border)[: count - len(above)])


def _check_steering(steering: Any) -> None:
    pairs = steering if isinstance(steering, tuple) else ((),)
    for pair in pairs:
        numbers = pair if isinstance(pair, tuple) and len(pair) == 2 else (None,)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise ValueError(
                f"steering is {_shown(steering)}: use pairs (position, token id) of whole numbers."
            )
    if len({at for at, _ in pairs}) < len(pairs):
        raise ValueError("steering names a position twice: use each once.")


def _check_whole(name: str, value: object, low: int, off: str = "") -> None:
    hint = f", or {off}" if off else ""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is {_shown(value)}: use a whole number of at least {low}{hint}.")


def _check_real(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {_shown(value)}: use a number.")


def _shown(value: object) -> str:
    """`value` as text of at most 40 characters: 10**400 is a number too."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    return f"{value:,}" if isinstance(value, int) else repr(value)[:40]


def perplexity_text(nats: float) -> str:
    """e^nats in digits, such as "58.56"; "e^1,139.8" where that is more than a float holds."""
    if nats > 709:
        return f"e^{nats:,.1f}"
    perplexity = math.exp(nats)
    return f"{perplexity:,.2f}" if perplexity < 1e6 else f"{perplexity:.3g}"
