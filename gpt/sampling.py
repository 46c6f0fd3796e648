"""From logits to the next token: pure functions of logits, options and one uniform number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

# The best tokens are looked for first among those of a thousandth of the best one's weight, if few.
_LIKELY, _FEW = math.log(1e-3), 2_000
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
            ("top_k", int, 1, math.inf, f"{whole} 1, or none to keep every token"),
            ("seed", int, 0, math.inf, f"{whole} 0, or none to draw one"),
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


class Scores(NamedTuple):
    """A row of logits, and e^((logit - largest) / temperature) of each: (vocab,), float32."""

    logits: np.ndarray
    largest: float
    weights: np.ndarray


def scores_of(logits: torch.Tensor, temperatures: Sequence[float]) -> list[Scores]:
    """The scores of each row of logits (rows, vocab), computed for all rows together.

    A row's bits do not depend on the others. Temperature 0 has the weights of temperature 1.
    """
    logits = logits.detach().float().cpu()
    largest = logits.amax(dim=-1, keepdim=True)
    weights = logits - largest  # no overflow
    if any(temperature not in (0, 1) for temperature in temperatures):
        weights.div_(torch.tensor(list(map(_divisor, temperatures)))[:, None])
    rows = zip(logits.numpy(), largest[:, 0].tolist(), weights.exp_().numpy(), strict=True)
    return [Scores(*row) for row in rows]


class _Kept:
    """The tokens that the filters keep, with their weights, and the best `ranked`.

    `ids` are ascending; None stands for the whole vocabulary. A probability is a weight divided by
    `total`. `block_ends` are the sums, in float64, of the weights up to the end of each block.
    """

    def __init__(self, ranked: np.ndarray, ids: np.ndarray | None, weights: np.ndarray) -> None:
        self.ranked, self.ids, self.weights = ranked, ids, weights
        self.block_ends = _of_blocks(np.add, weights).cumsum(dtype=np.float64)
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

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Of these tokens; 0 where a filter left one out."""
        if self.ids is None:
            return self.weights[ids] / self.total
        places = self.ids.searchsorted(ids).clip(max=len(self.ids) - 1)
        return np.where(self.ids[places] == ids, self.weights[places] / self.total, 0.0)


def choose(
    scores: Scores,
    options: SamplingOptions,
    uniform: float | None,
    n_candidates: int,
    steered: int | None = None,
) -> Choice:
    """The token that the options and a number choose from a row's scores.

    The number is in [0, 1), None at temperature 0: there the best token is chosen, and shown with
    the probabilities of the logits' softmax. The token `steered`, if any, is taken instead.
    Raises ValueError if the largest logit is not finite.
    """
    kept, below = _kept(scores, options, n_candidates), None
    if steered is not None:
        token_id = steered
    elif uniform is None:
        token_id = int(scores.logits.argmax())  # the first of equals
    else:
        place = kept.place_of(uniform)
        token_id = place if kept.ids is None else int(kept.ids[place])
        below = kept.below(place)
    shown = np.append(kept.ranked[:n_candidates], token_id)
    *others, probability = kept.probabilities(shown).tolist()
    pairs = zip(shown.tolist(), others, strict=False)
    candidates = tuple(Candidate(*pair) for pair in pairs if pair[1] > 0)
    return Choice(token_id, probability, candidates, below, len(kept.weights))


def probabilities(logits: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """The distribution that is sampled from, float64, same shape as `logits` (..., vocab).

    Temperature, then top-k, then top-p on what top-k left, then min-p, normalised; rejected tokens
    are 0. At temperature 0 the best token has it all. Among equal logits the lower id comes first.
    Raises ValueError if the logits are not finite at their maximum.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    found = np.zeros(rows.shape)
    scores = scores_of(rows, [options.temperature] * len(rows))
    for own, distribution in zip(scores, found, strict=True):
        kept = _kept(own, options)
        if options.temperature == 0:
            distribution[own.logits.argmax()] = 1.0
        else:
            distribution[slice(None) if kept.ids is None else kept.ids] = kept.weights
            distribution /= distribution.sum()
    return torch.from_numpy(found).reshape(logits.shape).to(logits.device)


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


def best_ids(scores: Scores, k: int, temperature: float = 1.0) -> np.ndarray:
    """Ids of the k largest logits, and of some more, best first, of equals the lower id first."""
    logits, k = scores.logits, min(k, len(scores.logits))
    if k == 0:
        return np.arange(0)
    found = np.flatnonzero(logits >= scores.largest + _divisor(temperature) * _LIKELY)
    if not k <= len(found) <= _FEW:
        # k blocks have a logit of at least the floor, so no smaller one is among the k largest.
        largest = _of_blocks(np.maximum, logits)
        bounds = largest if k <= len(largest) else logits
        found = np.flatnonzero(logits >= np.partition(bounds, -k)[-k])
    return _ranked(found, logits)


def _kept(scores: Scores, options: SamplingOptions, n_best: int = 0) -> _Kept:
    """The tokens that the options keep, and the `n_best` best of all.

    Raises ValueError if the largest logit is not finite.
    """
    if not math.isfinite(scores.largest):
        raise ValueError("the model's logits are not finite: its weights are damaged.")
    if options.keeps_all:
        return _Kept(best_ids(scores, n_best, options.temperature), None, scores.weights)
    top_k = options.top_k
    few = top_k is not None and top_k < len(scores.logits)
    ranked = best_ids(scores, max(n_best, top_k if few else 1), options.temperature)

    def weights_of(logits: np.ndarray) -> np.ndarray:
        """In float64: filters compare sums of many, and weights that are almost equal."""
        shifted = logits.astype(np.float64) - scores.largest
        return np.exp(shifted / _divisor(options.temperature))

    if few:
        ids = ranked[:top_k]
        weights = weights_of(scores.logits[ids])
        if options.top_p < 1:
            ids = ids[weights.cumsum() - weights < options.top_p * weights.sum()]
        order = ids.argsort()
        ids, weights = ids[order], weights[order]
    elif options.top_p < 1:
        ids, weights = _nucleus(scores, ranked, weights_of, options.top_p)
    else:
        # Rounded weights find those that are looked at.
        ids = np.flatnonzero(scores.weights >= 0.999 * options.min_p)
        weights = weights_of(scores.logits[ids])
    if options.min_p > 0:
        probable = weights >= options.min_p  # the best one's weight is 1
        ids, weights = ids[probable], weights[probable]
    return _Kept(ranked, ids, weights)


def _nucleus(
    scores: Scores,
    ranked: np.ndarray,
    weights_of: Callable[[np.ndarray], np.ndarray],
    top_p: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The fewest largest logits that hold `top_p` of the weights: ids, ascending, and weights.

    `ranked` are the best ids: where they do not hold so much, others are looked at.
    """
    mass = scores.weights[ranked].cumsum(dtype=np.float64)
    wanted = top_p * float(scores.weights.sum())
    if mass[-1] >= wanted:
        ids = np.sort(ranked[: mass.searchsorted(wanted) + 1])
        return ids, weights_of(scores.logits[ids])
    # Of a flat distribution, only those of the bin in which the mass is reached are sorted.
    weights = weights_of(scores.logits)
    wanted = top_p * weights.sum()
    bins = weights.view(np.int64) >> _BITS  # the bits are in the order of the values
    mass = np.bincount(bins, weights)
    above = mass[::-1].cumsum()[::-1] - mass
    border = int(np.argmax(above < wanted))
    inside = bins > border
    ids = _ranked(np.flatnonzero(bins == border), scores.logits)
    inside[ids[above[border] + weights[ids].cumsum() - weights[ids] < wanted]] = True
    ids = np.flatnonzero(inside)
    return ids, weights[ids]


def _of_blocks(what: np.ufunc, values: np.ndarray) -> np.ndarray:
    """The sums, or the largest, of each block of 256 values."""
    return what.reduceat(values, np.arange(0, len(values), _BLOCK))


def _ranked(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Ascending ids by their logits, best first, of equals the lower id first."""
    return ids[np.argsort(-logits[ids], kind="stable")]


def _divisor(temperature: float) -> float:
    return max(temperature or 1.0, _SMALLEST_TEMPERATURE)


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
