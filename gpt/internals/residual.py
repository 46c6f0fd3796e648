"""The residual stream: what the model would predict at each stage, its norms and its turns.

And the vectors of one token: embeddings, those inside a block, before and after a LayerNorm.
"""

from collections.abc import Iterator

import torch

from gpt.internals.distribution import ranks
from gpt.internals.traced_pass import TracedPass
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


@torch.no_grad()
def stage_logits(model: GPTModel, stream: torch.Tensor) -> torch.Tensor:
    """Logits (t, vocab) if the model ended with this stream (t, d): its own final norm and head.

    Without the final norm the inner layers would be read on another scale.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    return model.out_head(model.final_norm(stream))


@torch.no_grad()
def lens_in_steps(
    model: GPTModel, run: TracedPass, token_id: int | None = None
) -> Iterator[dict[str, torch.Tensor] | None]:
    """None after each stage of POSITIONS_AT_ONCE positions; at the end the lens over all.

    The lens is the `readings` of every stage, (stages, t) each, a row for each of `stages`.
    """
    names = stages(run.cfg.n_layers)
    blocks = []  # of positions; each is readings by stages
    for start in range(0, len(run.ids), POSITIONS_AT_ONCE):
        at = slice(start, start + POSITIONS_AT_ONCE)
        final = torch.log_softmax(run.logits[at].double(), dim=-1)
        rows = []
        for stream in names.values():
            logits = stage_logits(model, run.trace[stream][0, at])
            rows.append(readings(logits, final, token_id))
            yield None
        blocks.append({name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]})
    yield {name: torch.cat([block[name] for block in blocks], 1) for name in blocks[0]}


def readings(
    logits: torch.Tensor, final: torch.Tensor, token_id: int | None
) -> dict[str, torch.Tensor]:
    """What one stage would predict, (t,) each, from its logits (t, vocab); of `token_id` if given.

    `final` are the model's own log probabilities at the same positions. Ranks start at 1, entropy
    and divergence, KL(final || stage), are in nats. Computed in float64: a float32 softmax over
    50,257 tokens does not sum to 1 closely enough for the third digit of either.
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


def read_stream(run: TracedPass) -> tuple[torch.Tensor, torch.Tensor]:
    """Norms of the residual stream (stages, t), and cosines of each stage with the one before it.

    The cosines are (stages - 1, t): the embedding has no stage before it.
    """
    names = stages(run.cfg.n_layers).values()
    stream = torch.cat([run.trace[name] for name in names])  # (stages, t, d)
    return stream.norm(dim=-1), torch.cosine_similarity(stream[1:], stream[:-1], dim=-1)


def norms_of(run: TracedPass, name: str) -> torch.Tensor:
    """Norms (layers, t) of one recorded tensor of each block, such as "att_out"."""
    return torch.stack([run.layer(i, name).norm(dim=-1) for i in range(run.cfg.n_layers)])


def token_vector(run: TracedPass, layer: int, name: str, position: int) -> torch.Tensor:
    """One of `VECTORS` at a position: (rows, columns), a row a head where there are heads."""
    values = run.layer(layer, VECTORS[name])  # (h, t, e), (t, 4d) or (t, d)
    return torch.atleast_2d(values[..., position, :])


def embeddings(run: TracedPass, position: int) -> torch.Tensor:
    """The token's vector, the position's vector and their sum, (3, d)."""
    names = ("tok_emb", "pos_emb", "embedded")
    return torch.stack([run.trace[n].reshape(-1, run.cfg.emb_dim)[position] for n in names])


def read_norm(
    model: GPTModel, run: TracedPass, layer: int, name: str, position: int
) -> tuple[LayerNorm, torch.Tensor, torch.Tensor]:
    """A LayerNorm, and a position's row (d,) before and after it.

    `name` is "norm1" (before attention) or "norm2" (before the feed-forward).
    """
    before = run.layer(layer, "resid_in" if name == "norm1" else "resid_mid")
    norm = getattr(model.trf_blocks[layer], name)
    return norm, before[position], run.layer(layer, name)[position]
