"""Attribution: each prompt token's effect on one logit, by gradient and by occlusion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gpt.internals.run import Run, batches, logits_with, pasted
from gpt.model import GPTModel


def gradient_x_input(model: GPTModel, run: Run, position: int, token_id: int) -> torch.Tensor:
    """(position + 1,): the logit's gradient by each token embedding, times that embedding.

    Position embeddings are left out of the product, as they are kept by `occlusion`. On the way
    back `run.between` is called after each block too.
    Raises ValueError for a model below float32, whose packed layers pass no gradient on.
    Source: Shrikumar et al. 2016, "Not Just a Black Box".
    """
    if not model.pos_emb.weight.requires_grad:
        raise ValueError(
            "gradients need weights in float32 that are not frozen: load such a model."
        )
    embedded = run.trace["tok_emb"][:, : position + 1].clone()

    def pausing_on_the_way_back(value: torch.Tensor) -> torch.Tensor:
        if run.between:
            value.register_hook(lambda _: (run.between(), None)[1])
        return value

    ends = [f"trf_blocks.{i}.resid_out" for i in range(model.cfg.n_layers)]
    with torch.enable_grad():
        embedded.requires_grad_()
        edits = {"tok_emb": lambda _: embedded, **dict.fromkeys(ends, pausing_on_the_way_back)}
        what_if = run.what_if(edits)
        logits = model(run.batch(tokens=position + 1), trace=what_if, last_only=True)
        (gradient,) = torch.autograd.grad(logits[0, -1, token_id], embedded)
    return (gradient * embedded).sum(-1)[0].detach()


@dataclass(frozen=True)
class Occluded:
    """The logit and probability of the token with some prompt tokens' embeddings zeroed."""

    logit: float
    probability: float


def occlusion(
    model: GPTModel, run: Run, position: int, token_id: int
) -> Iterator[tuple[int | None, Occluded]]:
    """(None, nothing occluded) first, then (i, token i occluded) for i from 0 to `position`.

    An occluded token's embedding is a vector of zeros; its position embedding stays.
    """
    variants: list[int | None] = [None, *range(position + 1)]
    nothing = torch.zeros_like(run.trace["tok_emb"][0])  # (t, d)
    for rows in batches(len(variants), position + 1):
        chunk = variants[rows.start : rows.stop]
        zero = pasted(nothing, [(row, i) for row, i in enumerate(chunk) if i is not None])
        logits = logits_with(model, run, {"tok_emb": zero}, len(chunk), position + 1)
        probabilities = logits.double().softmax(-1)[:, token_id].tolist()
        for i, logit, p in zip(chunk, logits[:, token_id].tolist(), probabilities, strict=True):
            yield i, Occluded(logit, p)
