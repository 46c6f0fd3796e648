"""One decode step for several sequences, compiled by TorchScript.

A token of a small model is a few hundred operations of some microseconds each. Called from Python
they take a third of its time and hold the interpreter's lock; TorchScript runs them in C++.
"""

from __future__ import annotations

import operator
import os
import threading
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt.attention import MultiHeadAttention
from gpt.model import GELU, FeedForward, GPTModel, LayerNorm, TransformerBlock

_BOOK = (TransformerBlock, MultiHeadAttention, FeedForward, GELU, LayerNorm, LayerNorm)
_MOST_LAYERS = 100  # of a compiled step: its time to compile grows with them
_compiling = threading.Lock()


class RowByRow(nn.Module):
    """`layer`, which rounds a row differently in company, on one row after the other."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 1:
            return self.layer(x)
        return torch.cat([self.layer(aligned(row)) for row in x.split(1)])


class DecodeBlock(nn.Module):
    """One TransformerBlock on a new token of each sequence: (rows, d) -> (rows, d)."""

    def __init__(self, block: TransformerBlock, layer: int, n_layers: int) -> None:
        super().__init__()
        att = block.att
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.query, self.key, self.value = map(_alike, (att.W_query, att.W_key, att.W_value))
        self.out_proj = _alike(att.out_proj)
        self.expand, self.contract = _alike(block.ff.layers[0]), _alike(block.ff.layers[2])
        self.n_heads, self.layer, self.n_layers = att.num_heads, layer, n_layers

    def forward(
        self, x: torch.Tensor, lengths: list[int], buffers: list[torch.Tensor]
    ) -> torch.Tensor:
        normed = self.norm1(x)
        new = torch.cat([self.query(normed), self.key(normed), self.value(normed)], dim=1)
        new = new.view(len(lengths), 3, 1, self.n_heads, 1, -1)  # (rows, q k v, 1, h, 1, e)
        heads: list[torch.Tensor] = []
        for row, n in enumerate(lengths):  # each over its own keys and values, exactly as alone
            buffer = buffers[row * self.n_layers + self.layer]  # (2, 1, h, capacity, e)
            buffer.narrow(3, n, 1).copy_(new[row, 1:])
            seen = buffer.narrow(3, 0, n + 1)
            query = aligned(new[row, 0])  # (1, h, 1, e)
            heads.append(F.scaled_dot_product_attention(query, seen[0], seen[1]))
        x = x + self.out_proj(torch.cat(heads).flatten(1))
        return x + self.contract(gelu_by_rows(self.expand(self.norm2(x))))


class DecodeStep(nn.Module):
    """A model on one new token of each sequence: logits (rows, vocab).

    `lengths` is how many positions each sequence's cache holds; `buffers` are those of the first
    sequence's layers, then the second's. The new keys and values are written into them.
    Every row gets the bits that it gets alone.
    """

    def __init__(self, model: GPTModel) -> None:
        super().__init__()
        n_layers = model.cfg.n_layers
        self.tok_emb, self.pos_emb = model.tok_emb, model.pos_emb
        self.blocks = nn.ModuleList(
            [DecodeBlock(block, i, n_layers) for i, block in enumerate(model.trf_blocks)]
        )
        self.final_norm, self.out_head = model.final_norm, _alike(model.out_head)

    def forward(
        self, ids: torch.Tensor, lengths: list[int], buffers: list[torch.Tensor]
    ) -> torch.Tensor:
        x = self.tok_emb(ids) + self.pos_emb(torch.tensor(lengths))
        for block in self.blocks:
            x = block(x, lengths, buffers)
        return self.out_head(self.final_norm(x))


def aligned(row: torch.Tensor) -> torch.Tensor:
    """`row` at an address as of a tensor of its own: MKL rounds otherwise elsewhere."""
    return row if row.numel() % 16 == 0 else row.clone()


def gelu_by_rows(x: torch.Tensor) -> torch.Tensor:
    """GELU of (rows, n), each row as alone.

    torch takes 32 numbers at a time through vector instructions and the rest one by one, which
    rounds differently, and shares 32,768 numbers or more among threads: each part has fewer, and
    no row begins among the 32 of another.
    """
    width = x.shape[1]
    rows = max(1, 32767 // width) if width % 32 == 0 else 1
    if x.shape[0] <= rows:
        return F.gelu(x, approximate="tanh")
    return torch.cat([F.gelu(part, approximate="tanh") for part in x.split(rows)])


class Decoder:
    """The decode step of a model, made when first wanted and again after a part was replaced.

    `step` is None where only the model's own forward pass is right: with hooks, with parts that
    are not the book's, and on other devices.
    """

    def __init__(self) -> None:
        self.step: nn.Module | None = None
        self._parts: list[Any] = []

    def __reduce__(self) -> tuple[type[Decoder], tuple[()]]:
        return Decoder, ()  # a copy of the model has other weights

    def follow(self, model: GPTModel) -> None:
        """Makes `step` anew if modules or parameters of `model` are others than before."""
        parts = [*model.modules(), *model.parameters()][1:]
        if _hooks(model):
            self.step, self._parts = None, []
        elif not self._is_of(parts):  # asked without the lock: a turn waits for no compilation
            with _compiling:
                if not self._is_of(parts):
                    self.step = _compiled(model) if _serves(model) else None
                    self._parts = parts

    def _is_of(self, parts: list[Any]) -> bool:
        made_of = self._parts
        return len(parts) == len(made_of) and all(map(operator.is_, parts, made_of))


def _hooks(model: nn.Module) -> bool:
    everywhere = torch.nn.modules.module
    own = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return own or bool(everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)


def _serves(model: GPTModel) -> bool:
    """Whether `model` is the book's, layer by layer, on the CPU."""
    if model.pos_emb.weight.device.type != "cpu" or type(model.final_norm) is not LayerNorm:
        return False
    for block in model.trf_blocks:
        parts = block, block.att, block.ff, block.ff.layers[1], block.norm1, block.norm2
        if tuple(map(type, parts)) != _BOOK or len(block.ff.layers) != 3:
            return False
    return True


def _compiled(model: GPTModel) -> nn.Module:
    """The step as TorchScript, settled by two runs; as it is where TorchScript refuses it."""
    step = DecodeStep(model).eval()
    if model.cfg.n_layers > _MOST_LAYERS or model.cfg.context_length < 2:
        return step
    one = torch.zeros(2, 1, model.cfg.n_heads, 2, model.cfg.head_dim)  # a layer's buffer
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, without a successor here
        try:
            compiled = torch.jit.script(step)
            for rows in (1, 1, 2, 2):  # here and not in somebody's run, the first ones optimise it
                buffers = [one.clone() for _ in range(rows * model.cfg.n_layers)]
                compiled(torch.zeros(rows, dtype=torch.long), [1] * rows, buffers)
        except (RuntimeError, TypeError, AttributeError, NotImplementedError):
            return step
    return compiled


def _alike(layer: nn.Module) -> nn.Module:
    """`layer` so that each row gets the bits that it gets alone."""
    return layer if getattr(layer, "same_bits_in_company", False) else RowByRow(layer)


if hasattr(os, "register_at_fork"):  # a child waits for no thread that only its parent has
    os.register_at_fork(after_in_child=_compiling._at_fork_reinit)
