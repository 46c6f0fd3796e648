"""Ablation: the logits of a pass in which a head, feed-forward or layer writes something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gpt.internals.run import Run, batches, logits_with, pasted
from gpt.model import GPTModel
from gpt.trace import Edit

# A vector of zeros, or at each position the mean of what the part wrote there and before: the
# mean over the whole prompt would show a position what comes later.
MODES = ("zero", "mean")


@dataclass(frozen=True)
class Part:
    """What is ablated: a head of a layer, its feed-forward ("ff"), or both updates ("layer")."""

    kind: str  # "head", "ff" or "layer"
    layer: int
    head: int = 0


def edits_for(run: Run, part: Part, mode: str) -> dict[str, Edit]:
    """Edits of a traced pass that replace what `part` writes at every position.

    Raises ValueError if there is no such part or mode.
    """
    cfg = run.cfg
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: use {' or '.join(MODES)}.")
    if not 0 <= part.layer < cfg.n_layers:
        raise ValueError(f"layer {part.layer} does not exist: use 0 to {cfg.n_layers - 1}.")
    if part.kind == "head" and not 0 <= part.head < cfg.n_heads:
        raise ValueError(f"head {part.head} does not exist: use 0 to {cfg.n_heads - 1}.")
    parts = {"head": ["att.heads"], "ff": ["ff_out"], "layer": ["att_out", "ff_out"]}
    if part.kind not in parts:
        raise ValueError(f"part is {part.kind!r}: use head, ff or layer.")
    place = (slice(None), part.head) if part.kind == "head" else (slice(None),)  # in every row
    edits = {}
    for name in parts[part.kind]:
        stand_in = _stand_in(run.layer(part.layer, name), mode)
        edits[f"trf_blocks.{part.layer}.{name}"] = pasted(stand_in, [place])
    return edits


@torch.no_grad()
def ablate(model: GPTModel, run: Run, position: int, part: Part, mode: str) -> torch.Tensor:
    """Logits (vocab,) at a position of a pass without `part`."""
    trace = run.what_if(edits_for(run, part, mode))
    return model(run.batch(), trace=trace)[0, position]


def sweep_heads(
    model: GPTModel, run: Run, position: int, token_id: int, mode: str
) -> Iterator[tuple[int, list[float]]]:
    """(layer, change of the token's logit without each of its next heads), a batch at a time."""
    for layer in range(run.cfg.n_layers):
        for heads in batches(run.cfg.n_heads, position + 1):
            yield layer, sweep_batch(model, run, position, token_id, mode, layer, heads)


def sweep_batch(
    model: GPTModel, run: Run, position: int, token_id: int, mode: str, layer: int, heads: range
) -> list[float]:
    """A row of the batch for each of `heads`, which that row goes without."""
    stand_ins = _stand_in(run.layer(layer, "att.heads")[:, : position + 1], mode)  # (h, t, e)
    edit = pasted(stand_ins, list(enumerate(heads)))  # of (rows, h, t, e)
    edits = {f"trf_blocks.{layer}.att.heads": edit}
    logits = logits_with(model, run, edits, len(heads), position + 1)[:, token_id]
    return (logits - run.logits[position, token_id]).tolist()


def _stand_in(values: torch.Tensor, mode: str) -> torch.Tensor:
    """Zeros, or the running mean over positions 0 .. i, for values (..., t, n)."""
    if mode == "zero":
        return torch.zeros_like(values)
    counts = torch.arange(1, values.shape[-2] + 1, device=values.device)
    return values.cumsum(dim=-2) / counts[:, None]
