"""From logits to the next token: pure functions of logits, options and one uniform number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

_NUCLEUS = 512  # top-p rarely keeps more tokens than these
_BLOCK = 128
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
        winner = best_token(logits).unsqueeze(-1)
        return torch.zeros_like(logits).scatter_(-1, winner, 1.0)
    best = logits.amax(dim=-1, keepdim=True)
    _check_finite(best)
    kept = logits if options.top_k is None else _keep_top_k(logits, options.top_k)
    # Shifted by the maximum first, and by no less than float32 can hold, nothing overflows.
    temperature = max(options.temperature, _SMALLEST_TEMPERATURE)
    distribution = torch.softmax((kept - best) / temperature, dim=-1)
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
    cumulative = distribution.double().cumsum(dim=-1)  # (b, vocab)
    columns = uniform.to(cumulative.device).reshape(len(cumulative), -1)  # (b, n)
    ids = torch.searchsorted(cumulative, columns * cumulative[:, -1:], right=True)
    return ids.reshape(uniform.shape)


def best_token(logits: torch.Tensor) -> torch.Tensor:
    """Ids (...) of the largest of `logits` (..., vocab); among equals the lowest id.

    Raises ValueError if it is not finite.
    """
    values, ids = top(logits, min(2, logits.shape[-1]))
    _check_finite(values[..., 0])
    if (values[..., :-1] == values[..., -1:]).any():
        return logits.argmax(dim=-1)  # of equals the first, and slower
    return ids[..., 0]


def top(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of the last axis and where they are, like torch.topk, in half its time.

    The k largest lie in the k blocks with the largest maxima; the others are never looked at.
    At least k values must be more than -inf, or the places of the rest mean nothing.
    """
    n_blocks = -(-values.shape[-1] // _BLOCK)
    if k >= n_blocks:
        found = values.topk(k, dim=-1)
        return found.values, found.indices
    padded = F.pad(values, (0, n_blocks * _BLOCK - values.shape[-1]), value=-torch.inf)
    blocks = padded.unflatten(-1, (n_blocks, _BLOCK))
    chosen = blocks.amax(dim=-1).topk(k, dim=-1).indices  # (..., k)
    inside = chosen.unsqueeze(-1).expand(*chosen.shape, _BLOCK)
    best = blocks.gather(-2, inside).flatten(-2).topk(k, dim=-1)
    ids = chosen.gather(-1, best.indices // _BLOCK) * _BLOCK + best.indices % _BLOCK
    return best.values, ids


def _check_finite(largest: torch.Tensor) -> None:
    if not torch.isfinite(largest).all():
        raise ValueError("the model's logits are not finite: its weights are damaged.")


def _keep_top_k(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """`logits` with -inf outside the k largest; of equals at the border the lower ids stay."""
    if top_k >= logits.shape[-1]:
        return logits
    border = top(logits, top_k)[0][..., -1:]
    return logits.masked_fill(~_among_best(logits, border, top_k), -torch.inf)


def _keep_top_p(distribution: torch.Tensor, top_p: float) -> torch.Tensor:
    """The smallest set of most probable tokens that reaches `top_p`, renormalised."""
    vocab = distribution.shape[-1]
    for size in (min(_NUCLEUS, vocab), vocab):
        best = _descending(distribution, size)
        before = best.double().cumsum(dim=-1) - best  # mass of the better tokens
        inside = before < top_p
        if not inside[..., -1].any():
            break
    count = inside.sum(dim=-1, keepdim=True)
    kept = _among_best(distribution, best.gather(-1, count - 1), count)
    kept = distribution.masked_fill(~kept, 0.0)
    return kept / kept.sum(dim=-1, keepdim=True)


def _descending(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` largest of the last axis; a few of many take a tenth of the time of all."""
    if count < values.shape[-1]:
        return values.topk(count, dim=-1).values
    if values.device.type != "cpu":
        return values.sort(dim=-1, descending=True).values
    # numpy sorts 50,257 floats in a third of torch's time.
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=-1)).flip(-1)


def _among_best(
    values: torch.Tensor, border: torch.Tensor, count: int | torch.Tensor
) -> torch.Tensor:
    """Where the `count` largest stand, given the smallest of them; of equals the lower ids."""
    enough = values >= border
    if (enough.sum(dim=-1, keepdim=True) == count).all():
        return enough  # no equals at the border, as nearly always
    above, at_border = values > border, values == border
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (at_border & (at_border.cumsum(dim=-1) <= room))


def _check_whole(name: str, value: object, low: int, off: str = "") -> None:
    hint = f", or {off}" if off else ""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is {value!r}: use a whole number of at least {low}{hint}.")


def _check_real(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}: use a number.")
