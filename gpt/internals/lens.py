"""The logit lens: what each layer would predict if the model ended there."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gpt.internals.distribution import ranks
from gpt.internals.run import Run
from gpt.model import GPTModel

POSITIONS_AT_ONCE = 64  # rows of float64 probabilities in memory: 26 MB for GPT-2's vocabulary


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


def stage_names(n_layers: int) -> tuple[str, ...]:
    """The stages from bottom to top: 2 n_layers + 1 names."""
    names = ["embedding"]
    for layer in range(n_layers):
        names += [f"attention {layer}", f"block {layer}"]
    return tuple(names)


def stage_stream(run: Run, stage: int) -> torch.Tensor:
    """The residual stream (t, d) at a stage of `stage_names`."""
    if stage == 0:
        return run.layer(0, "resid_in")
    layer, after_block = divmod(stage - 1, 2)
    return run.layer(layer, "resid_out" if after_block else "resid_mid")


@torch.no_grad()
def stage_logits(
    model: GPTModel, run: Run, stage: int, positions: slice = slice(None)
) -> torch.Tensor:
    """Logits (t, vocab) if the model ended at this stage: its own final norm and head.

    Without the final norm the inner layers would be read on another scale.
    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    return model.out_head(model.final_norm(stage_stream(run, stage)[positions]))


@torch.no_grad()
def lens_in_steps(model: GPTModel, run: Run, token_id: int | None = None) -> Iterator[Lens | None]:
    """None after each stage of POSITIONS_AT_ONCE positions; at the end the lens over all.

    Computed in float64: a float32 softmax over 50,257 tokens does not sum to 1 closely enough
    for the third digit of an entropy or a divergence.
    """
    stages = stage_names(run.cfg.n_layers)
    blocks = []  # of positions; each is fields by stages
    for start in range(0, len(run.ids), POSITIONS_AT_ONCE):
        at = slice(start, start + POSITIONS_AT_ONCE)
        final = torch.log_softmax(run.logits[at].double(), dim=-1)
        rows = []
        for stage in range(len(stages)):
            rows.append(readings(stage_logits(model, run, stage, at), final, token_id))
            yield None
        blocks.append({name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]})
    yield Lens(stages, **{n: torch.cat([block[n] for block in blocks], 1) for n in blocks[0]})


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
