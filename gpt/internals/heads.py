"""Attention of one head: its stages, and a summary by query."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt.internals.run import Run


@dataclass(frozen=True)
class HeadStages:
    """One head from dot products to weights; each (t, t), a row a query, a column a key."""

    scores: torch.Tensor  # q . k
    masked: torch.Tensor  # q . k / sqrt(e), -inf where the key comes later
    attention: torch.Tensor  # softmax of each row; rows sum to 1
    head_dim: int


@dataclass(frozen=True)
class AttentionRow:
    """The attention of one query."""

    position: int
    entropy: float  # nats; ln(position + 1) if spread evenly
    most_attended: int
    share: float  # of the most attended
    first_share: float  # of the first token, which often takes what no other token gets


def head_stages(run: Run, layer: int, head: int) -> HeadStages:
    """The stages of one head."""
    return HeadStages(
        scores=run.layer(layer, "att.scores")[head],
        masked=run.layer(layer, "att.masked_scores")[head],
        attention=run.layer(layer, "att.attention")[head],
        head_dim=run.cfg.head_dim,
    )


def attention_rows(attention: torch.Tensor, skip_first: bool = False) -> list[AttentionRow]:
    """An entry for each query of one head's attention weights (t, t).

    With `skip_first` the first token does not count as the most attended where there is another;
    entropy and shares stay those of the whole row.
    """
    shares = attention.double()
    shares = shares / shares.sum(-1, keepdim=True)
    entropies = -torch.special.xlogy(shares, shares).sum(-1)
    rows = []
    for position, row in enumerate(shares):
        seen = row[: position + 1]
        start = 1 if skip_first and position > 0 else 0
        most = start + int(seen[start:].argmax())
        shown = entropies[position].item(), most, row[most].item(), row[0].item()
        rows.append(AttentionRow(position, *shown))
    return rows
