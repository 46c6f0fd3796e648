"""Predictions: ranks and spread of one, draws from it, what came after it, and two compared.

A distribution (vocab,) is in float64 and sums to 1, as `gpt.sampling.probabilities` gives it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class TokenRow:
    """One token: its rank, its logit, and its probability before and after the filters."""

    rank: int  # 1 is the best; equal logits are ranked by the lower id
    token_id: int
    logit: float
    softmax: float  # of the logits as they are, temperature 1, no filter
    probability: float  # of being drawn

    @property
    def kept(self) -> bool:
        return self.probability > 0


@dataclass(frozen=True)
class Tail:
    """All tokens without a row of their own, together."""

    tokens: int
    mean_logit: float
    softmax: float
    probability: float
    kept: int  # how many of them can be drawn


@dataclass(frozen=True)
class Spread:
    """The width of a distribution."""

    entropy_nats: float
    tokens_for_90: int  # the fewest tokens that hold 90 % together

    @property
    def entropy_bits(self) -> float:
        return self.entropy_nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """e^H: the number of equally likely tokens that would be as uncertain."""
        return math.exp(self.entropy_nats)


@dataclass(frozen=True)
class BestAndTail:
    """The best rows and the tail; together they hold the whole vocabulary."""

    rows: tuple[TokenRow, ...]
    tail: Tail
    softmax_spread: Spread
    spread: Spread


def ranking(logits: torch.Tensor) -> torch.Tensor:
    """Token ids (vocab,) from the highest logit (vocab,) down, the lower id first of equals."""
    return logits.sort(descending=True, stable=True).indices


def spread(p: torch.Tensor, order: torch.Tensor) -> Spread:
    """Entropy, -sum p ln p in nats, and the size of the 90 % set of the distribution `p` (vocab,).

    In float32 its sum would be off by up to 6e-5. `order` are the ids, most probable first.
    """
    entropy = -torch.special.xlogy(p, p).sum().item()
    mass = p[order].cumsum(0)
    # Rounding may leave a sum just below 0.9 where the exact one reaches it.
    return Spread(max(entropy, 0.0), int((mass < 0.9 - 1e-9).sum()) + 1)


def best_and_tail(logits: torch.Tensor, distribution: torch.Tensor, n_rows: int) -> BestAndTail:
    """The `n_rows` best tokens of `logits` (vocab,) and the rest as a tail.

    `distribution` (vocab,) is what is sampled from: `sampling.probabilities` of these logits.
    """
    softmax = torch.softmax(logits.double(), dim=-1)
    order = ranking(logits)
    best, rest = order[:n_rows], order[n_rows:]
    rows = token_rows(logits, softmax, distribution, best)
    tail = Tail(
        tokens=len(rest),
        mean_logit=logits[rest].double().mean().item() if len(rest) else 0.0,
        softmax=softmax[rest].sum().item(),
        probability=distribution[rest].sum().item(),
        kept=int((distribution[rest] > 0).sum()),
    )
    # Neither temperature nor a filter changes the order of the logits.
    return BestAndTail(rows, tail, spread(softmax, order), spread(distribution, order))


def token_rows(
    logits: torch.Tensor, softmax: torch.Tensor, distribution: torch.Tensor, ids: torch.Tensor
) -> tuple[TokenRow, ...]:
    """A row for each of `ids` (n,), from the whole vocabulary's three tensors (vocab,)."""
    place = ranks(logits.expand(len(ids), -1), ids)
    columns = place, ids, logits[ids], softmax[ids], distribution[ids]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(TokenRow(*row) for row in rows)


def ranks(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The rank (...) of one token a row, `ids` (...), in logits (..., vocab).

    1 for the largest logit; of equal logits the lower id is first.
    """
    own = logits.gather(-1, ids[..., None])
    is_lower_id = torch.arange(logits.shape[-1], device=logits.device) < ids[..., None]
    return 1 + ((logits > own) | ((logits == own) & is_lower_id)).sum(-1)


def uniform_interval(distribution: torch.Tensor, token_id: int) -> tuple[float, float]:
    """The part [low, high) of [0, 1) in which a uniform number draws this token, in id order."""
    high = distribution[: token_id + 1].sum().item()
    return high - distribution[token_id].item(), high


def tally(
    drawn: torch.Tensor, distribution: torch.Tensor, n_rows: int
) -> tuple[list[int], list[int], list[float]]:
    """The `n_rows` most probable ids, how often each is in `drawn` (n,), and the expected number.

    Of the distribution (vocab,) that was drawn from; an id that cannot be drawn is left out.
    """
    ids = distribution.topk(min(n_rows, len(distribution))).indices
    ids = ids[distribution[ids] > 0]
    counts = torch.bincount(drawn, minlength=len(distribution))[ids]
    return ids.tolist(), counts.tolist(), (len(drawn) * distribution[ids]).tolist()


@dataclass(frozen=True)
class Foreseen:
    """A token of the prompt in the prediction made one position before it."""

    position: int  # of the token; its prediction was made at position - 1
    token_id: int
    probability: float
    rank: int  # 1 if it was the best guess
    surprisal: float  # -ln p, in nats


def foreseen(logits: torch.Tensor, ids: Sequence[int]) -> list[Foreseen]:
    """One entry for each token after the first, from logits (t, vocab) over ids (t,)."""
    came = torch.tensor(ids[1:], dtype=torch.long, device=logits.device)  # (t-1,)
    before = logits[:-1].double()  # (t-1, vocab)
    surprisal = F.cross_entropy(before, came, reduction="none")  # (t-1,)
    columns = came, (-surprisal).exp(), ranks(before, came), surprisal
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Foreseen(at, *row) for at, row in enumerate(rows, start=1)]


def loss(entries: Sequence[Foreseen]) -> float | None:
    """Mean surprisal in nats, the cross-entropy of the prompt; None for a single token."""
    if not entries:
        return None
    return sum(entry.surprisal for entry in entries) / len(entries)


@dataclass(frozen=True)
class Comparison:
    """The best tokens of both predictions, by the larger probability, and two distances."""

    ids: list[int]
    first: list[float]  # probabilities
    second: list[float]
    first_ranks: list[int]
    second_ranks: list[int]
    divergence: float  # KL(first || second), nats
    overlap: float  # sum of the smaller probabilities: 1 if equal, 0 if disjoint


def compare_predictions(first: torch.Tensor, second: torch.Tensor, n_best: int) -> Comparison:
    """How logits (vocab,) of two predictions over one vocabulary differ.

    Raises ValueError if the vocabularies differ in size.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the vocabularies have {len(first):,} and {len(second):,} tokens: "
            "compare models of one vocabulary."
        )
    logs = [torch.log_softmax(logits.double(), dim=-1) for logits in (first, second)]
    p, q = (log.exp() for log in logs)
    one, other = (ranking(logits).argsort() + 1 for logits in (first, second))
    ids = ((one <= n_best) | (other <= n_best)).nonzero()[:, 0]
    ids = ids[torch.maximum(p, q)[ids].argsort(descending=True, stable=True)]
    return Comparison(
        ids.tolist(),
        *(column[ids].tolist() for column in (p, q, one, other)),
        divergence=max((p * (logs[0] - logs[1])).sum().item(), 0.0),
        overlap=torch.minimum(p, q).sum().item(),
    )
