"""The source of the GPT, each line with the tensor it makes, its parameters and its operations.

A pass of a model of shapes alone finds them: the call stack of an operation names its lines.
"""

import inspect
import sys
import traceback
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gpt import attention, model
from gpt.accounting.meta_model import model_without_values
from gpt.config import GPTConfig
from gpt.trace import Trace

FILES: dict[str, ModuleType] = {"gpt/model.py": model, "gpt/attention.py": attention}


@dataclass
class LineCost:
    """What a line makes: the shape of its last tensor; parameters and FLOPs over all its calls.

    A line that calls other lines contains theirs, so the lines of `GPTModel.forward` add up to
    the model.
    """

    shape: tuple[int, ...] = ()
    parameters: int = 0
    flops: int = 0


def line_costs(cfg: GPTConfig, batch: int, tokens: int) -> dict[tuple[str, int], LineCost]:
    """(file, line) -> its cost in a pass over `batch` sequences of `tokens`; nothing is allocated.

    The pass records its tensors, as Internals does, so attention runs step by step; lines that
    run only without a record (the fused attention) come from a second pass. A tied head has no
    parameters of its own. Counted are matrix products, as in `gpt.accounting.operations`.
    """
    # The blocks are alike: one is run, and what it costs counts for each.
    one = model_without_values(replace(cfg, n_layers=1))
    ids = torch.empty(batch, tokens, dtype=torch.long, device="meta")
    costs: dict[tuple[str, int], LineCost] = {}
    for trace in (None, Trace()):
        with torch.no_grad(), _Watch(cfg.n_layers, one) as watch:
            one(ids, trace=trace)
        costs |= watch.costs
    return costs


def sources() -> dict[str, list[str]]:
    """The lines of each of FILES, as the running code has them."""
    return {name: inspect.getsource(module).splitlines() for name, module in FILES.items()}


class _Watch(TorchDispatchMode):
    """Adds each operation to every line of FILES on its call stack."""

    def __init__(self, layers: int, one: model.GPTModel) -> None:
        super().__init__()
        self.costs: dict[tuple[str, int], LineCost] = {}
        self.layers = layers
        self.unused = {id(weight) for weight in one.parameters()}
        self.files = {module.__file__: name for name, module in FILES.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out[0] if isinstance(out, tuple) else out
        if not isinstance(made, torch.Tensor):
            return out
        count = flop_registry.get(func.overloadpacket)  # of a matrix product
        flops = count(*args, out_val=out) if count else 0
        used = [each for each in args if id(each) in self.unused]
        self.unused -= {id(each) for each in used}
        lines, times = set(), 1
        for frame, number in traceback.walk_stack(sys._getframe(1)):
            if frame.f_code.co_filename in self.files:
                lines.add((self.files[frame.f_code.co_filename], number))
            if frame.f_code is model.TransformerBlock.forward.__code__:
                times = self.layers
        for line in lines:
            cost = self.costs.setdefault(line, LineCost())
            cost.shape = tuple(made.shape)
            cost.parameters += times * sum(each.numel() for each in used)
            cost.flops += times * flops
        return out
