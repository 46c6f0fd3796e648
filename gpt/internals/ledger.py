"""The logit ledger (direct logit attribution): one logit as a sum over the parts of the model."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gpt.internals.traced_pass import TracedPass
from gpt.model import GPTModel


@dataclass(frozen=True)
class Term:
    """One part's share of the logit, in the order in which the model adds them."""

    name: str
    kind: str  # "embedding", "head", "feed-forward", "bias" or "norm"
    value: float


@torch.no_grad()
def read_ledger(
    model: GPTModel, run: TracedPass, position: int, token_id: int, minus: int | None = None
) -> list[Term]:
    """The terms that add up to a token's logit at a position, or its lead over the token `minus`.

    Their sum is the model's own number but for the rounding of the pass.
    The final norm is scale (x - mean) / sqrt(var + eps) + shift. With var as it was in this pass
    that is linear in x, and x is a sum of everything written to the residual stream; each
    written vector is projected on the head's row. Source: Elhage et al. 2021, "A Mathematical
    Framework for Transformer Circuits", for the sum; the norm is taken as it was.
    """
    row = model.out_head.weight[token_id].double()  # (d,)
    if minus is not None:
        row = row - model.out_head.weight[minus].double()
    x = run.layer(run.cfg.n_layers - 1, "resid_out")[position].double()
    norm = model.final_norm
    deviation = (x.var(correction=0) + norm.eps).sqrt()
    direction = row * norm.scale.double() / deviation
    direction = direction - direction.mean()  # the norm subtracts the mean of its input

    written = _written(model, run, position)
    terms = [Term(name, kind, (vector @ direction).item()) for name, kind, vector in written]
    terms.append(Term("final norm's shift", "norm", (row @ norm.shift.double()).item()))
    return terms


def _written(
    model: GPTModel, run: TracedPass, position: int
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Every vector (d,) that the pass added to the residual stream at a position, float64."""
    yield "token embedding", "embedding", run.trace["tok_emb"][0, position].double()
    yield "position embedding", "embedding", run.trace["pos_emb"][position].double()
    for layer, block in enumerate(model.trf_blocks):
        for head, vector in enumerate(head_outputs(model, run, layer, position)):
            yield f"layer {layer} head {head}", "head", vector
        out = block.att.out_proj
        if block.att.W_value.bias is not None:
            through = out.weight.double() @ block.att.W_value.bias.double()
            yield f"layer {layer} value bias", "bias", through
        yield f"layer {layer} attention bias", "bias", out.bias.double()
        ff_bias = block.ff.layers[2].bias.double()
        written = run.layer(layer, "ff_out")[position].double()
        yield f"layer {layer} feed-forward", "feed-forward", written - ff_bias
        yield f"layer {layer} feed-forward bias", "bias", ff_bias


def head_outputs(model: GPTModel, run: TracedPass, layer: int, position: int) -> torch.Tensor:
    """What each head of a layer adds to the stream at a position, (h, d), biases left out.

    Attention rows sum to 1, so a value bias passes every head unchanged and is subtracted here.
    """
    att = model.trf_blocks[layer].att
    heads = run.layer(layer, "att.heads")[:, position].double()  # (h, e)
    if att.W_value.bias is not None:
        heads = heads - att.W_value.bias.double().view_as(heads)
    weight = att.out_proj.weight.double().view(-1, *heads.shape)  # (d, h, e)
    return torch.einsum("he,dhe->hd", heads, weight)
