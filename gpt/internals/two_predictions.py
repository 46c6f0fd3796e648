"""Two predictions compared: the best tokens of each, and the distance between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt.internals.distribution import ranking


@dataclass(frozen=True)
class Pair:
    """One token in both predictions."""

    token_id: int
    first: float  # probability
    second: float
    first_rank: int
    second_rank: int


@dataclass(frozen=True)
class Comparison:
    """The union of both lists of best tokens, by the larger probability, and two distances."""

    pairs: tuple[Pair, ...]
    divergence: float  # KL(first || second), nats
    overlap: float  # sum of the smaller probabilities: 1 if equal, 0 if disjoint
    same_best: bool


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
    ranks = [ranking(logits).argsort() + 1 for logits in (first, second)]
    chosen = ((ranks[0] <= n_best) | (ranks[1] <= n_best)).nonzero()[:, 0].tolist()
    chosen.sort(key=lambda i: (-max(p[i].item(), q[i].item()), i))
    pairs = tuple(
        Pair(i, p[i].item(), q[i].item(), int(ranks[0][i]), int(ranks[1][i])) for i in chosen
    )
    return Comparison(
        pairs=pairs,
        divergence=max((p * (logs[0] - logs[1])).sum().item(), 0.0),
        overlap=torch.minimum(p, q).sum().item(),
        same_best=ranks[0].argmin().item() == ranks[1].argmin().item(),
    )
