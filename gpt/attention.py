"""Causal multi-head attention: each position mixes the values of itself and those before it.

Letters for shapes as in model.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt.cache import LayerCache
from gpt.config import check_context, check_heads
from gpt.trace import Trace, record


class MultiHeadAttention(nn.Module):
    """Masked multi-head self-attention: a position attends to itself and to those before it.

    Source: Vaswani et al. 2017, equation 1 and section 3.2.2; the book's section 3.6.2.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_heads(d_out, num_heads)
        self.num_heads = num_heads
        self.context_length = context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_load_state_dict_pre_hook(_drop_book_mask)

    def forward(
        self,
        x: torch.Tensor,
        cache: LayerCache | None = None,
        trace: Trace | None = None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """(b, t, d_in) -> (b, t, d_out), or (b, 1, d_out) for the last position with `last_only`.

        With a cache, the t positions follow the cached ones.
        """
        queries, keys, values = self._project(x)  # (b, h, t, e) each
        if last_only:
            queries = queries[:, :, -1:]  # (b, h, 1, e); keys and values stay whole
        queries = record(trace, "queries", queries)
        keys = record(trace, "keys", keys)
        values = record(trace, "values", values)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (b, h, s, e)
        check_context(keys.shape[2], self.context_length)
        if trace is not None or (self.training and self.dropout.p > 0):
            heads = self._attend_step_by_step(queries, keys, values, trace)
        else:
            heads = attend(queries, keys, values)  # without the (b, h, t, s) matrix
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (b, t, d): heads side by side

    def _project(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        b, t, _ = x.shape
        parts = self.W_query(x), self.W_key(x), self.W_value(x)
        return [part.view(b, t, self.num_heads, -1).transpose(1, 2) for part in parts]

    def _attend_step_by_step(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, trace: Trace | None
    ) -> torch.Tensor:
        scores = record(trace, "scores", queries @ keys.transpose(2, 3))  # (b, h, t, s)
        hidden = ~causal_mask(*scores.shape[2:], device=scores.device)
        scaled = scores / keys.shape[-1] ** 0.5
        masked = record(trace, "masked_scores", scaled.masked_fill(hidden, -torch.inf))
        attention = record(trace, "attention", torch.softmax(masked, dim=-1))  # rows sum to 1
        return record(trace, "heads", self.dropout(attention) @ values)  # (b, h, t, e)


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(e)) V by torch's fused kernel; (b, h, t, e) over (b, h, s, e).

    Query i of the t sees keys 0 .. s - t + i. torch's `is_causal` aligns top left instead, so
    it serves only t = s; one query sees every key and needs no mask.
    """
    t, s = queries.shape[2], keys.shape[2]
    mask = causal_mask(t, s, device=queries.device) if 1 < t < s else None
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, is_causal=1 < t == s
    )


def causal_mask(t: int, s: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(t, s), True where a query attends to a key; the last query sees every key."""
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(diagonal=s - t)


def _drop_book_mask(
    module: nn.Module, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any
) -> None:
    """The book keeps its causal mask as a buffer; here it is computed, so the entry is dropped."""
    state_dict.pop(prefix + "mask", None)
