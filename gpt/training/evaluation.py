"""Held-out loss of a model, defined so that anybody gets the same number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gpt.model import GPTModel
from gpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood of held-out text."""

    nats_per_token: float
    n_targets: int


@torch.inference_mode()
def evaluate(model: GPTModel, ids: torch.Tensor) -> Evaluation:
    """Loss on `ids` (n,) cut into windows of context_length targets, each target counted once.

    Windows do not overlap and the last may be short; the model's own precision, eval mode.
    Raises ValueError if there are fewer than two tokens.
    """
    assert not model.training
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens: give at least 2.")
    t = model.cfg.context_length
    total = 0.0
    for start in range(0, len(ids) - 1, t):
        window = ids[start : start + t + 1].to(model.pos_emb.weight.device)
        logits = model(window[None, :-1])[0]  # (t, vocab)
        total += float(F.cross_entropy(logits.float(), window[1:], reduction="sum"))
    return Evaluation(total / (len(ids) - 1), len(ids) - 1)


@torch.inference_mode()
def answers(
    model: GPTModel, tokenizer: Tokenizer, questions: Sequence[str], most: int = 4
) -> list[str]:
    """What `model` writes after each question: always the likeliest token, at most `most`.

    An answer ends where the model ends the text. All questions are rows of one batch.
    """
    rows = [tokenizer.encode(question) for question in questions]
    starts = [len(row) for row in rows]
    for _ in range(most):
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        logits = model(ids.to(model.pos_emb.weight.device))  # (n, t, vocab)
        last = torch.tensor([len(row) - 1 for row in rows])
        best = logits[torch.arange(len(rows)), last].argmax(-1).tolist()
        rows = [[*row, token] for row, token in zip(rows, best, strict=True)]
    end = [tokenizer.end_of_text_id]
    written = (row[start:] + end for row, start in zip(rows, starts, strict=True))
    return [tokenizer.decode(ids[: ids.index(end[0])]) for ids in written]


def unigram_nats(ids: torch.Tensor) -> float:
    """Entropy of the token frequencies of `ids` (n,), in nats a token.

    The loss of the best guess that knows how often each token occurs, and no order.
    """
    counts = ids.bincount().double()
    shares = counts[counts > 0] / len(ids)
    return float(-(shares * shares.log()).sum())
