"""The residual stream: what the model would predict at each stage, its norms and its turns.

And the vectors of one token: embeddings, those inside a block, before and after a LayerNorm.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gpt.internals.distribution import ranks
from gpt.internals.run import Run
from gpt.model import GPTModel, LayerNorm

POSITIONS_AT_ONCE = 64  # rows of float64 probabilities in memory: 26 MB for GPT-2's vocabulary
VECTORS = {name: f"att.{name}" for name in ("queries", "keys", "values", "heads")}
VECTORS |= {"hidden": "ff.hidden", "activation": "ff.activation", "resid_out": "resid_out"}


def stages(n_layers: int) -> dict[str, str]:
    """The stages from bottom to top, 2 n_layers + 1, each with the stream's name in the trace."""
    found = {"embedding": "trf_blocks.0.resid_in"}
    for layer in range(n_layers):
        found[f"attention {layer}"] = f"trf_blocks.{layer}.resid_mid"
        found[f"block {layer}"] = f"trf_blocks.{layer}.resid_out"
    return found


@dataclass(frozen=True)
class Lens:
    """A row a stage (the embedding, then each attention and each block), a column a position.

    Every field but `stages` is (stages, t); numbers are float64. The token's fields are None if
    none was asked for.
    """

    stages: tuple[str, ...]
    best_ids: torch.Tensor
    best_probability: torch.Tensor
    entropy: torch.Tensor  # nats
    divergence: torch.Tensor  # KL(final || stage) in nats: 0 in the last row
    token_rank: torch.Tensor | None = None  # 1 is the best
    token_probability: torch.Tensor | None = None


@torch.no_grad()
def stage_logits(model: GPTModel, stream: torch.Tensor) -> torch.Tensor:
    """Logits (t, vocab) if the model ended with this stream (t, d): its own final norm and head.

    Without the final norm the inner layers would be read on another scale.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    return model.out_head(model.final_norm(stream))


@torch.no_grad()
def lens_in_steps(model: GPTModel, run: Run, token_id: int | None = None) -> Iterator[Lens | None]:
    """None after each stage of POSITIONS_AT_ONCE positions; at the end the lens over all.

    Computed in float64: a float32 softmax over 50,257 tokens does not sum to 1 closely enough
    for the third digit of an entropy or a divergence.
    """
    names = stages(run.cfg.n_layers)
    blocks = []  # of positions; each is fields by stages
    for start in range(0, len(run.ids), POSITIONS_AT_ONCE):
        at = slice(start, start + POSITIONS_AT_ONCE)
        final = torch.log_softmax(run.logits[at].double(), dim=-1)
        rows = []
        for stream in names.values():
            logits = stage_logits(model, run.trace[stream][0, at])
            rows.append(readings(logits, final, token_id))
            yield None
        blocks.append({name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]})
    yield Lens(tuple(names), **{n: torch.cat([block[n] for block in blocks], 1) for n in blocks[0]})


def readings(
    logits: torch.Tensor, final: torch.Tensor, token_id: int | None
) -> dict[str, torch.Tensor]:
    """The fields of `Lens`, (t,) each, for logits (t, vocab) of one stage.

    `final` are the model's own log probabilities at the same positions.
    """
    log_p = torch.log_softmax(logits.double(), dim=-1)
    p = log_p.exp()
    best = p.max(dim=-1)
    found = {
        "best_ids": best.indices,
        "best_probability": best.values,
        "entropy": -(p * log_p).sum(-1),
        "divergence": (final.exp() * (final - log_p)).sum(-1).clamp(min=0),
    }
    if token_id is not None:
        rank = ranks(logits, torch.full_like(best.indices, token_id))
        found |= {"token_rank": rank, "token_probability": p[:, token_id]}
    return found


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
    layers, names = range(run.cfg.n_layers), stages(run.cfg.n_layers)
    stream = torch.cat([run.trace[name] for name in names.values()])  # (stages, t, d)
    return Stream(
        stages=tuple(names),
        norms=stream.norm(dim=-1),
        cosines=torch.cosine_similarity(stream[1:], stream[:-1], dim=-1),
        attention_norms=torch.stack([run.layer(i, "att_out").norm(dim=-1) for i in layers]),
        feed_forward_norms=torch.stack([run.layer(i, "ff_out").norm(dim=-1) for i in layers]),
    )


def token_vector(run: Run, layer: int, name: str, position: int) -> torch.Tensor:
    """One of `VECTORS` at a position: (rows, columns), a row a head where there are heads."""
    values = run.layer(layer, VECTORS[name])  # (h, t, e), (t, 4d) or (t, d)
    return torch.atleast_2d(values[..., position, :])


def embeddings(run: Run, position: int) -> torch.Tensor:
    """The token's vector, the position's vector and their sum, (3, d)."""
    names = ("tok_emb", "pos_emb", "embedded")
    return torch.stack([run.trace[n].reshape(-1, run.cfg.emb_dim)[position] for n in names])


@dataclass(frozen=True)
class Normed:
    """One row before and after a LayerNorm, with what the norm measured."""

    before: torch.Tensor  # (d,)
    after: torch.Tensor
    mean: float
    variance: float  # biased, as in the model
    module: LayerNorm  # has scale, shift and eps


def read_norm(model: GPTModel, run: Run, layer: int, name: str, position: int) -> Normed:
    """`name` is "norm1" (before attention) or "norm2" (before the feed-forward)."""
    module = getattr(model.trf_blocks[layer], name)
    before = run.layer(layer, "resid_in" if name == "norm1" else "resid_mid")[position]
    return Normed(
        before=before,
        after=run.layer(layer, name)[position],
        mean=before.mean().item(),
        variance=before.var(correction=0).item(),
        module=module,
    )
