"""Attention heads: where the queries of one look, and what all of a model do.

What they do are four habits, measured on random tokens that come twice.
"""

from dataclasses import dataclass

import torch

from gpt.internals.traced_pass import Pause, read_prompt
from gpt.model import GPTModel

LENGTH = 25  # random tokens; the sequence has twice as many
COMMON = 5000  # they are among the first ids, the most common: a small model knows few others
# Where a head looks from position i of the second copy, which began `length` positions before.
KINDS = {
    "previous token": "from a token to the one just before it",
    "first token": "from every token to the very first one",
    "same token": "from a token to where it came before",
    "induction": "from a token to what followed where it came before",
}


@dataclass(frozen=True)
class AttentionRow:
    """The attention of one query."""

    position: int
    entropy: float  # nats; ln(position + 1) if spread evenly
    most_attended: int
    share: float  # of the most attended
    first_share: float  # of the first token, which often takes what no other token gets


def attention_rows(attention: torch.Tensor, skip_first: bool = False) -> list[AttentionRow]:
    """An entry for each query of one head's attention weights (t, t).

    With `skip_first` the first token does not count as the most attended where there is another;
    entropy and shares stay those of the whole row.
    """
    shares = attention.double()
    entropies = -torch.special.xlogy(shares, shares).sum(-1)
    most = shares.argmax(-1)
    if skip_first and len(shares) > 1:
        most[1:] = 1 + shares[1:, 1:].argmax(-1)
    columns = entropies, most, shares.gather(-1, most[:, None])[:, 0], shares[:, 0]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [AttentionRow(position, *row) for position, row in enumerate(rows)]


def head_scores(model: GPTModel, between: Pause | None = None) -> dict[str, torch.Tensor]:
    """Mean attention weight by kind, each (layers, heads) from 0 to 1.

    LENGTH random tokens and the same again: nothing but the repetition can be used. Read from
    the second copy, at its position i: attention to i - 1, to 0, to i - LENGTH (the same token)
    and to i - LENGTH + 1 (what followed it, an induction head's sign).
    A context shorter than 2 LENGTH shortens both copies. `between` as for `read_prompt`.
    Source: Olsson et al. 2022, "In-context Learning and Induction Heads", for the sequence and
    the induction score.
    """
    length = min(LENGTH, model.cfg.context_length // 2)
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(min(model.cfg.vocab_size, COMMON), (length,), generator=generator)
    run = read_prompt(model, once.repeat(2).tolist(), between)
    layers = range(model.cfg.n_layers)
    attention = torch.stack([run.layer(i, "att.attention") for i in layers])
    at = torch.arange(length, 2 * length)  # the second copy
    looked_at = (at - 1, torch.zeros_like(at), at - length, at - length + 1)
    means = [attention[:, :, at, keys].mean(-1).cpu() for keys in looked_at]
    return dict(zip(KINDS, means, strict=True))


def even_share(context_length: int) -> float:
    """The score of a head that looks at all visible tokens alike, in every kind."""
    length = min(LENGTH, context_length // 2)
    return sum(1 / (at + 1) for at in range(length, 2 * length)) / length


def best_heads(scores: torch.Tensor, n: int) -> list[tuple[int, int, float]]:
    """(layer, head, score) of the n heads with the highest scores (layers, heads), best first."""
    order = scores.flatten().argsort(descending=True, stable=True)[:n].tolist()
    places = [divmod(i, scores.shape[1]) for i in order]
    return [(layer, head, scores[layer, head].item()) for layer, head in places]
