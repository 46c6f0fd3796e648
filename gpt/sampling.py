"""From logits to the next token: pure functions of logits, options and one uniform number."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

_FEW = 32  # of the best tokens, which are often enough for top-p
_BITS = 48  # of a float64's 64: what is left tells 16 bins from one power of two to the next
_BLOCK = 256
_SMALLEST_TEMPERATURE = 1e-30
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
        whole, real = "a whole number of at least", (int, float)
        for name, kind, low, high, allowed in (
            ("max_new_tokens", int, 1, math.inf, f"{whole} 1"),
            ("top_k", int, 1, math.inf, f"{whole} 1, or None to keep every token"),
            ("seed", int, 0, math.inf, f"{whole} 0, or None to draw one"),
            ("seed", int, 0, MAX_SEED, f"at most {MAX_SEED:,}"),
            ("temperature", real, 0, MAX_TEMPERATURE, f"0 (greedy) to {MAX_TEMPERATURE:,.0f}"),
            ("top_p", real, math.ulp(0.0), 1, "more than 0 and at most 1 (off)"),
            ("min_p", real, 0, 1, "0 (off) to 1"),
        ):
            value = getattr(self, name)
            if value is None and name in ("top_k", "seed"):
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise ValueError(f"{name} is {_shown(value)}: use {allowed}.")
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


class Candidate(NamedTuple):
    """A token that could have been drawn, with its probability of being drawn."""

    token_id: int
    probability: float


class Choice(NamedTuple):
    """A token, its probability, and the most probable tokens with theirs, best first.

    `below` is the share of the tokens of lower ids, None where nothing was drawn; `kept` counts the
    tokens that no filter left out.
    """

    token_id: int
    probability: float
    candidates: tuple[Candidate, ...]
    below: float | None
    kept: int


class _Kept:
    """The best token, and the tokens that the filters keep, ids ascending, with their weights.

    A probability is a weight divided by `total`. `block_ends` are the sums of the weights up to the
    end of each block of 256, in float64.
    """

    def __init__(self, best: int, ids: np.ndarray, weights: np.ndarray) -> None:
        self.best, self.ids, self.weights = best, ids, weights
        whole = len(weights) // _BLOCK * _BLOCK
        sums = torch.from_numpy(weights[:whole].reshape(-1, _BLOCK)).sum(dim=-1).numpy()
        sums = np.append(sums, weights[whole:].sum())
        self.block_ends = sums.cumsum(dtype=np.float64)
        self.total = float(self.block_ends[-1])

    def place_of(self, uniform: float) -> int:
        """Index of the first weight at which the running sum exceeds `uniform` times the total."""
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


def choose(
    logits: np.ndarray,
    options: SamplingOptions,
    uniform: float | None,
    n_candidates: int,
    steered: int | None = None,
) -> Choice:
    """The token that the options and a number choose from float32 logits (vocab,).

    The number is in [0, 1), None at temperature 0: there the best token is chosen, and shown with
    the probabilities of the logits' softmax. The token `steered`, if any, is taken instead.
    Raises ValueError if the largest logit is not finite.
    """
    ranked = _best_ids(logits, max(n_candidates, _FEW if options.top_p < 1 else 0))
    kept = _kept(logits, options, ranked)
    below = None
    if steered is not None:
        token_id = steered
    elif uniform is None:
        token_id = kept.best
    else:
        place = kept.place_of(uniform)
        token_id, below = int(kept.ids[place]), kept.below(place)
    shown = np.append(ranked[:n_candidates], token_id)
    if options.keeps_all:
        places = shown
    else:
        places = kept.ids.searchsorted(shown).clip(max=len(kept.ids) - 1)
    shares = np.where(kept.ids[places] == shown, kept.weights[places] / kept.total, 0.0).tolist()
    pairs = zip(shown[:-1].tolist(), shares, strict=False)
    candidates = tuple(Candidate(*pair) for pair in pairs if pair[1] > 0)
    return Choice(token_id, shares[-1], candidates, below, len(kept.ids))


def probabilities(logits: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """The distribution that is sampled from, float64, same shape as `logits` (..., vocab).

    Temperature, then top-k, then top-p on what top-k left, then min-p, normalised; rejected tokens
    are 0. At temperature 0 the best token has it all. Among equal logits the lower id comes first.
    Raises ValueError if the logits are not finite at their maximum.
    """
    rows = logits.detach().float().cpu().reshape(-1, logits.shape[-1]).numpy()
    shares = np.zeros(rows.shape)
    for row, share in zip(rows, shares, strict=True):
        kept = _kept(row, options, _best_ids(row, _FEW))
        if options.temperature == 0:
            share[kept.best] = 1.0
        else:
            share[kept.ids] = kept.weights
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


def best_ids(row: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k largest of `row` (n,), best first, of equals the lower id first."""
    return _best_ids(row, k)[:k]


def _best_ids(row: np.ndarray, k: int) -> np.ndarray:
    """As `best_ids`, and those of others that were found with them: all are sorted."""
    k = min(k, len(row))
    if k < 1:
        return np.arange(0)
    blocks = torch.from_numpy(row[: len(row) // _BLOCK * _BLOCK]).view(-1, _BLOCK)
    # k blocks have a maximum of at least the floor, so no smaller value is among the k largest.
    bounds = blocks.amax(dim=1).numpy() if k <= len(blocks) else row
    ids = np.flatnonzero(row >= np.partition(bounds, -k)[-k])
    return ids[np.argsort(-row[ids], kind="stable")]


def _kept(row: np.ndarray, options: SamplingOptions, ranked: np.ndarray) -> _Kept:
    """The tokens that the options keep of the logits `row` (vocab,), with their weights.

    `ranked` are the ids of the best, for top-p a few of them.
    Raises ValueError if the largest logit is not finite.
    """
    best = int(row.argmax())  # the first of equals; NaN before all else
    largest = float(row[best])
    if not math.isfinite(largest):
        raise ValueError("the model's logits are not finite: its weights are damaged.")
    temperature = max(options.temperature or 1.0, _SMALLEST_TEMPERATURE)
    ids = _all_ids(len(row))
    if options.keeps_all:
        scaled = torch.from_numpy(row)
        if temperature != 1:
            scaled = (scaled - largest).div_(temperature)  # no overflow
        return _Kept(best, ids, torch.softmax(scaled, dim=-1).numpy())

    values = row
    if options.top_k is not None and options.top_k < len(row):
        ids = np.sort(best_ids(row, options.top_k))
        values = row[ids]
        ranked = _best_ids(values, _FEW)
    # In float64: a float32 softmax over 50,257 terms sums to 1 +- 6e-5.
    shifted = torch.from_numpy(values).double().sub_(largest)
    weights = shifted.div_(temperature).exp_().numpy()
    if options.top_p < 1:
        inside = _nucleus(values, weights, options.top_p, ranked)
        ids, weights = ids[inside], weights[inside]
    if options.min_p > 0:
        probable = weights >= options.min_p  # the best one's weight is 1
        ids, weights = ids[probable], weights[probable]
    return _Kept(best, ids, weights)


@functools.lru_cache(maxsize=8)
def _all_ids(vocab_size: int) -> np.ndarray:
    return np.arange(vocab_size)


def _nucleus(values: np.ndarray, weights: np.ndarray, top_p: float, ids: np.ndarray) -> np.ndarray:
    """Indices, ascending, of the fewest largest `values` (n,) that hold `top_p` of the weight.

    `ids` are indices of some of the largest, in order.
    """
    wanted = top_p * weights.sum()
    inside, better = np.zeros(len(values), bool), 0.0
    if weights[ids].sum() < wanted:  # of many, only those at the border are sorted
        bins = weights.view(np.int64) >> _BITS  # the bits are in the order of the values
        mass = np.bincount(bins, weights)
        above = mass[::-1].cumsum()[::-1] - mass
        border = int(np.argmax(above < wanted))
        inside, ids, better = bins > border, np.flatnonzero(bins == border), above[border]
        ids = ids[np.argsort(-values[ids], kind="stable")]
    better = better + weights[ids].cumsum() - weights[ids]  # the mass of the better tokens
    inside[ids[better < wanted]] = True
    return np.flatnonzero(inside)


def _check_steering(steering: Any) -> None:
    pairs = steering if isinstance(steering, tuple) else (None,)
    whole = (isinstance(p, tuple) and len(p) == 2 and all(map(_is_whole, p)) for p in pairs)
    if not all(whole) or len(dict(pairs)) < len(pairs):
        raise ValueError(
            f"steering is {_shown(steering)}: use pairs (position, token id) of whole numbers from "
            "0, each position once."
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
