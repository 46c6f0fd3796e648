"""A GPTModel of shapes alone: torch's meta device holds sizes and types, and no numbers."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gpt.config import GPTConfig
from gpt.model import GPTModel


def model_without_values(cfg: GPTConfig) -> GPTModel:
    """The model of `cfg` on the meta device, in eval mode, whatever its size in a few KB a layer.

    `load_state_dict(..., assign=True)` or `to_empty(device=...)` give its parameters memory.
    """
    with torch.device("meta"), _NothingDrawn():
        return GPTModel(cfg).eval()


class _NothingDrawn(TorchFunctionMode):
    """Inside it, torch's initialisation leaves tensors as they are.

    Drawing values for meta tensors imports torch's compiler: a second and 67 MiB for nothing.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
