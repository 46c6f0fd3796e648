"""The GPT of the book's chapter 4: token ids in, logits out.

Letters for shapes, here and everywhere in `gpt/`:
    b batch   t new tokens   s tokens seen so far   d emb_dim   h heads   e head_dim   vocab
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt.attention import MultiHeadAttention
from gpt.cache import KVCache, LayerCache
from gpt.config import GPTConfig, as_config, check_context, check_token
from gpt.trace import Trace, inside, record


class GELU(nn.Module):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), element by element.

    Source: Hendrycks and Gimpel 2016, section 2, the form GPT-2 was trained with.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x, approximate="tanh")


class LayerNorm(nn.Module):
    """scale (x - mean) / sqrt(var + eps) + shift over the last axis; var is the biased one."""

    def __init__(self, emb_dim: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, cfg: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__()
        cfg = as_config(cfg)
        self.layers = nn.Sequential(
            nn.Linear(cfg.emb_dim, 4 * cfg.emb_dim),
            GELU(),
            nn.Linear(4 * cfg.emb_dim, cfg.emb_dim),
        )

    def forward(self, x: torch.Tensor, trace: Trace | None = None) -> torch.Tensor:
        expand, gelu, contract = self.layers
        hidden = record(trace, "hidden", expand(x))  # (b, t, 4d)
        activation = record(trace, "activation", gelu(hidden))
        return contract(activation)  # (b, t, d)


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then x + feed_forward(norm2(x)): the pre-norm block."""

    def __init__(self, cfg: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__()
        cfg = as_config(cfg)
        self.att = MultiHeadAttention(
            d_in=cfg.emb_dim,
            d_out=cfg.emb_dim,
            context_length=cfg.context_length,
            dropout=cfg.drop_rate,
            num_heads=cfg.n_heads,
            qkv_bias=cfg.qkv_bias,
        )
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg.emb_dim)
        self.norm2 = LayerNorm(cfg.emb_dim)
        self.drop_shortcut = nn.Dropout(cfg.drop_rate)

    def forward(
        self,
        x: torch.Tensor,
        cache: LayerCache | None = None,
        trace: Trace | None = None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """(b, t, d) -> (b, t, d), or (b, 1, d) for the last position with `last_only`."""
        x = record(trace, "resid_in", x)
        normed1 = record(trace, "norm1", self.norm1(x))
        inner = inside(trace, "att")
        att_out = record(trace, "att_out", self.att(normed1, cache, inner, last_only))
        if last_only:
            x = x[:, -1:]  # (b, 1, d)
        resid_mid = record(trace, "resid_mid", x + self.drop_shortcut(att_out))
        normed2 = record(trace, "norm2", self.norm2(resid_mid))
        ff_out = record(trace, "ff_out", self.ff(normed2, inside(trace, "ff")))
        return record(trace, "resid_out", resid_mid + self.drop_shortcut(ff_out))


class GPTModel(nn.Module):
    """GPT-2's architecture as the book builds it: 163,009,536 parameters by default.

    Names, construction order and initialisation are the book's, so `torch.manual_seed(123)`
    before the constructor gives the book's weights and its state dicts load by name.
    """

    def __init__(self, cfg: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = as_config(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = nn.Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg.n_layers)])
        self.final_norm = LayerNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        if cfg.tie_weights:
            # The head's initial values are kept: the embedding's N(0, 1) saturates the softmax.
            self.tok_emb.weight = self.out_head.weight

    def forward(
        self,
        ids: torch.Tensor,
        cache: KVCache | None = None,
        trace: Trace | None = None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """Logits (b, t, vocab) for token ids (b, t); (b, 1, vocab) with `last_only`.

        With a cache, `ids` follow the tokens it holds. `trace` records every intermediate tensor.
        Raises ValueError if ids are empty, out of the vocabulary or beyond the context.
        """
        start = cache.length if cache is not None else 0
        self._check(ids, start)
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        tok_emb = record(trace, "tok_emb", self.tok_emb(ids))  # (b, t, d)
        pos_emb = record(trace, "pos_emb", self.pos_emb(positions))  # (t, d)
        x = record(trace, "embedded", self.drop_emb(tok_emb + pos_emb))
        for i, block in enumerate(self.trf_blocks):
            layer_cache = cache.layers[i] if cache is not None else None
            # The last block computes one position only, unless a trace records them all.
            last = last_only and trace is None and i == self.cfg.n_layers - 1
            x = block(x, layer_cache, inside(trace, f"trf_blocks.{i}"), last)
        if last_only:
            x = x[:, -1:]  # (b, 1, d)
        final_norm = record(trace, "final_norm", self.final_norm(x))
        return record(trace, "logits", self.out_head(final_norm))  # (b, t, vocab)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache for `capacity` positions, to be passed to `forward`."""
        return KVCache(self.cfg.n_layers, capacity)

    def _check(self, ids: torch.Tensor, start: int) -> None:
        if ids.dim() != 2 or ids.numel() == 0:
            raise ValueError(f"ids have shape {tuple(ids.shape)}: use (batch, tokens), not empty.")
        check_context(start + ids.shape[1], self.cfg.context_length)
        if ids.is_meta or (self.training and ids.is_cuda):
            return  # no ids to read, or a wait for the GPU in every step of training
        for token_id in (int(ids.min()), int(ids.max())):
            check_token(token_id, self.cfg.vocab_size)
