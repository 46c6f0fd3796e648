"""The residual stream: norms, cosines between stages, norms of the updates; vectors of a token."""

from dataclasses import dataclass

import torch

from gpt.internals.lens import stage_names, stage_stream
from gpt.internals.run import Run
from gpt.model import GPTModel

EMBEDDINGS = ("tok_emb", "pos_emb", "embedded")
VECTORS = ("queries", "keys", "values", "heads", "hidden", "activation", "resid_out")


@dataclass(frozen=True)
class Stream:
    """By stage (the stages of the lens) or layer, and by position."""

    stages: tuple[str, ...]
    norms: torch.Tensor  # (stages, t)
    cosines: torch.Tensor  # (stages - 1, t): of each stage with the one before it
    attention_norms: torch.Tensor  # (layers, t): length of what attention added
    feed_forward_norms: torch.Tensor  # (layers, t)


def read_stream(run: Run) -> Stream:
    """Norms and cosines of the residual stream and its updates."""
    stages = stage_names(run.cfg.n_layers)
    stream = torch.stack([stage_stream(run, i) for i in range(len(stages))])  # (stages, t, d)
    layers = range(run.cfg.n_layers)
    return Stream(
        stages=stages,
        norms=stream.norm(dim=-1),
        cosines=torch.cosine_similarity(stream[1:], stream[:-1], dim=-1),
        attention_norms=torch.stack([run.layer(i, "att_out").norm(dim=-1) for i in layers]),
        feed_forward_norms=torch.stack([run.layer(i, "ff_out").norm(dim=-1) for i in layers]),
    )


def token_vector(run: Run, layer: int, name: str, position: int) -> torch.Tensor:
    """One of `VECTORS` at a position: (rows, columns), a row a head where there are heads."""
    if name in ("queries", "keys", "values", "heads"):
        return run.layer(layer, f"att.{name}")[:, position]  # (h, e)
    if name in ("hidden", "activation"):
        return run.layer(layer, f"ff.{name}")[position][None]  # (1, 4d)
    return run.layer(layer, name)[position][None]  # (1, d)


def embeddings(run: Run, position: int) -> torch.Tensor:
    """The token's vector, the position's vector and their sum, (3, d)."""
    rows = [run.trace[name].reshape(-1, run.cfg.emb_dim)[position] for name in EMBEDDINGS]
    return torch.stack(rows)


@dataclass(frozen=True)
class Normed:
    """One row before and after a LayerNorm, with what the norm measured."""

    before: torch.Tensor  # (d,)
    after: torch.Tensor
    mean: float
    variance: float  # biased, as in the model
    scale: torch.Tensor
    shift: torch.Tensor
    eps: float


def read_norm(model: GPTModel, run: Run, layer: int, name: str, position: int) -> Normed:
    """`name` is "norm1" (before attention) or "norm2" (before the feed-forward)."""
    module = getattr(model.trf_blocks[layer], name)
    before = run.layer(layer, "resid_in" if name == "norm1" else "resid_mid")[position]
    return Normed(
        before=before,
        after=run.layer(layer, name)[position],
        mean=before.mean().item(),
        variance=before.var(correction=0).item(),
        scale=module.scale.detach(),
        shift=module.shift.detach(),
        eps=module.eps,
    )
