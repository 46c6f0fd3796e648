"""Held-out loss of a model, defined so that anybody gets the same number."""

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from gpt.model import GPTModel
from gpt.tokenizer import Tokenizer
from gpt.training.events import Evaluated


@torch.inference_mode()
def evaluate(model: GPTModel, ids: torch.Tensor) -> Evaluated:
    """Loss on `ids` (n,) cut into windows of context_length targets, each target counted once.

    Windows do not overlap and the last may be short; the model's own precision, eval mode.
    Raises ValueError if there are fewer than two tokens.
    """
    assert not model.training
    nats = torch.cat(list(window_nats(model, ids))).cpu()
    return Evaluated(float(nats.double().mean()), len(nats))


def window_nats(
    model: GPTModel, ids: torch.Tensor, rows: int = 1, log_counts: torch.Tensor | float = 0.0
) -> Iterator[torch.Tensor]:
    """Losses (b * t,) of each next token, for `rows` windows of `ids` (n,) at a time.

    The last window, which may be shorter, comes alone.
    `log_counts` (vocab,) is added to the logits. Raises ValueError as `evaluate` does.
    """
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens: give at least 2.")
    ids, t = ids.to(model.pos_emb.weight.device), model.cfg.context_length
    whole = (len(ids) - 1) // t * t  # targets of whole windows
    for a, b in itertools.pairwise([*range(0, whole, t * rows), whole, len(ids) - 1]):
        if a < b:
            inputs, targets = ids[a:b].view(max((b - a) // t, 1), -1), ids[a + 1 : b + 1]
            logits = model(inputs).float().flatten(0, 1) + log_counts  # (b * t, vocab)
            yield F.cross_entropy(logits, targets, reduction="none")


@torch.inference_mode()
def answers(
    model: GPTModel, tokenizer: Tokenizer, questions: Sequence[str], most: int = 4
) -> list[str]:
    """The greedy continuation of each question, at most `most` tokens long.

    An answer ends before the end-of-text token. All questions are rows of one batch.
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

    The lowest loss of a model that knows how often each token occurs, and ignores the context.
    """
    shares = ids.bincount().double() / len(ids)
    return float(torch.special.entr(shares).sum())  # of -p ln p, 0 where p is 0
