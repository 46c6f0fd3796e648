"""Bytes of activations that training keeps from the forward pass for the backward pass."""

from __future__ import annotations

from gpt.accounting.memory import Amount, amount
from gpt.accounting.parameters import letters_of
from gpt.config import GPTConfig

_BFLOAT16_LAYER = "34*b*t*d + 5*b*h*t*t"
_BFLOAT16_AROUND = "5*b*t*d + 4*b*t*vocab"


def kept_in_bfloat16(
    cfg: GPTConfig, batch: int, new_tokens: int, recompute: bool = False
) -> Amount:
    """Bytes kept where everything is bfloat16 and attention has dropout, an estimate.

    This package's model, run so, keeps a tenth more. `recompute`: only the input of each block
    is kept, and one block's activations at a time.
    Source: Korthikanti et al. 2022, equation 1, section 4.3 and section 5.
    """
    letters = {**letters_of(cfg), "b": batch, "t": new_tokens}
    if recompute:
        source = f"layers*2*b*t*d + {_BFLOAT16_LAYER} + {_BFLOAT16_AROUND}"
        note = "each block's input, one block at a time, logits in float32"
        return amount("all in bfloat16, recomputed", source, letters, note, estimate=True)
    source = f"layers*({_BFLOAT16_LAYER}) + {_BFLOAT16_AROUND}"
    note = "attention matrices and dropout masks kept, logits in float32"
    return amount("all in bfloat16", source, letters, note, estimate=True)


def kept_by_autocast(cfg: GPTConfig, batch: int, new_tokens: int) -> Amount:
    """Bytes kept by `python -m gpt train` in its default precision, torch's bfloat16 autocast.

    Weights and the residual stream are float32. A layer keeps, in bytes for each of the b t d
    numbers: 8 the stream before its two norms, 8 their results cast for four linear layers, 8
    queries, keys, values and heads, 16 the feed-forward's hidden layer, 4 the dropout masks. The
    attention matrix is not kept: this training has no dropout there. Around the layers: the
    stream, its norm, a mask; the log probabilities; the matrices M cast to bfloat16.
    Exact to 4 bytes in 256 positions for the tensors that autograd saves on a CPU in torch 2.13;
    `batch` is the micro-batch, and `vocab` the tokens that occur in the text, at most.
    """
    letters = letters_of(cfg)
    letters |= {"b": batch, "t": new_tokens}
    letters["M"] = cfg.n_layers * 12 * cfg.emb_dim**2 + cfg.vocab_size * cfg.emb_dim
    layer, around = (44, 10) if cfg.drop_rate else (40, 6)
    source = (
        f"layers*({layer}*b*t*d + 4*b*h*t + 16*b*t) + {around}*b*t*d + 24*b*t + 8*t"
        " + 4*b*t*vocab + 2*M"
    )
    note = "float32 stream, bfloat16 products and copies of the matrices; no attention matrix"
    return amount("bfloat16 autocast (python -m gpt train)", source, letters, note)
