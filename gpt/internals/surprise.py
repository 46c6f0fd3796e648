"""Surprisal of the prompt: probability and rank of each token, as predicted one position before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt.internals.distribution import ranks


@dataclass(frozen=True)
class Foreseen:
    """A token of the prompt in the prediction made one position before it."""

    position: int  # of the token; its prediction was made at position - 1
    token_id: int
    logit: float
    probability: float
    rank: int  # 1 if it was the best guess

    @property
    def surprisal(self) -> float:
        """-ln p, in nats."""
        return -math.log(self.probability) if self.probability > 0 else math.inf


def foreseen(logits: torch.Tensor, ids: Sequence[int]) -> list[Foreseen]:
    """One entry for each token after the first, from logits (t, vocab) over ids (t,)."""
    if len(ids) < 2:
        return []
    came = torch.tensor(list(ids[1:]), device=logits.device)  # (t-1,)
    before = logits[:-1].double()  # (t-1, vocab)
    own = before.gather(-1, came[:, None])[:, 0]  # (t-1,)
    p = (own - before.logsumexp(-1)).exp()
    rows = zip(ids[1:], own.tolist(), p.tolist(), ranks(before, came).tolist(), strict=True)
    return [Foreseen(at, *row) for at, row in enumerate(rows, start=1)]


def loss(entries: Sequence[Foreseen]) -> float | None:
    """Mean surprisal in nats, the cross-entropy of the prompt; None for a single token."""
    if not entries:
        return None
    return sum(entry.surprisal for entry in entries) / len(entries)
