"""One token's forward pass, recorded once and replayed without Python.

A token of a small model is a few hundred operations of some microseconds each: calling them from
Python takes a third of its time. TorchScript records the one forward pass as it runs and repeats
its operations, to the same bits, in C++.
"""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from gpt.cache import KVCache

if TYPE_CHECKING:
    from gpt.model import GPTModel

_left = 16  # recordings that this process may still make
_unrecordable: set[type[nn.Module]] = set()  # layers with which one failed: no other is tried
_FAILURES = (RuntimeError, TypeError, AttributeError, torch.jit.Error)


class _Step(nn.Module):
    """The model on one token, with what its cache holds as arguments."""

    def __init__(self, model: GPTModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, length: torch.Tensor, buffers: list[torch.Tensor]
    ) -> torch.Tensor:
        return self.model.compute(ids, KVCache.of_buffers(buffers, length))


@torch.no_grad()
def record_step(model: GPTModel) -> GPTModel:
    """`model` itself, which from now on replays its decoding steps, on the CPU.

    No parameter may be replaced by another tensor afterwards, and no hook added: the recording
    would go on without it. It serves one token after at least one other, in eval mode and without
    gradients; everything else, and a model that torch cannot record, takes the forward pass
    itself. torch never lets go of a recording's graph, some 30 MB for twelve layers, so there are
    at most 16 in a process; the weights go with the model at the next `gc.collect()`.
    """
    global _left
    model.replay = None
    on_cpu = model.pos_emb.weight.device.type == "cpu"
    if model.training or not on_cpu or model.cfg.context_length < 2 or not _left:
        return model
    layer = type(model.trf_blocks[0].ff.layers[0])
    if layer in _unrecordable:
        return model
    _left -= 1  # a failure leaves something behind, too
    ids, cache = torch.zeros(1, 1, dtype=torch.long), model.new_cache(capacity=2)
    model(ids, cache)
    example = ids, torch.tensor(1), cache.buffers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes that are the same in every step become constants
        try:
            recorded = torch.jit.trace(_Step(model).eval(), example, check_trace=False)
            recorded(*example)  # now, not in somebody's run, it settles how to run
        except _FAILURES:  # such as oneDNN's packed bfloat16
            _unrecordable.add(layer)
            gc.collect()  # what was half made holds the weights
            return model

    def replay(ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
        logits = recorded(ids, torch.tensor(cache.length), cache.buffers())
        cache.advance(1)
        return logits

    model.replay = replay
    return model
