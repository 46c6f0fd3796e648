"""A model -> the same model in another precision: its linear layers are replaced, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from gpt.config import GPTConfig, as_config
from gpt.model import GPTModel
from gpt.precision.kernels import transposed_is_faster
from gpt.precision.layers import (
    HalfEmbedding,
    HalfLinear,
    Int8Embedding,
    Int8Linear,
    int8_linear,
)

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PRECISIONS = (*DTYPES, "int8")
Progress = Callable[[float, str], None]  # how much of a stage is done, 0 to 1, and its name


def dtype_of(precision: str) -> torch.dtype:
    """torch's dtype for "float32", "float16" or "bfloat16", the types of files.

    Raises ValueError, naming what exists, for any other name.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}: use {', '.join(DTYPES)}.")
    return DTYPES[precision]


def check_precision(precision: str, device: torch.device | str = "cpu") -> None:
    """Raises ValueError if `precision` does not exist, or not on `device`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use {', '.join(PRECISIONS)}.")
    kind = torch.device(device).type
    if precision not in DTYPES and kind != "cpu":
        raise ValueError(f"precision int8 runs on the CPU, not on {kind}: use float16.")


def convert(
    model: GPTModel,
    precision: str,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> GPTModel:
    """`model` itself, on `device` and in `precision`; every tensor is copied, none shared.

    On the CPU the linear layers and the token embedding are stored in that precision, and all
    else is float32: norms, positions, the residual stream, keys and values. On other devices
    everything is of that type. In place, tensor by tensor, so at most one exists twice; the
    parameters may be memory-mapped and of any floating type. Only float32 can be trained.
    Raises ValueError if the precision is unknown, or unknown on that device.
    """
    check_precision(precision, device)
    target = torch.device(device)
    on_cpu = target.type == "cpu"
    dtype = torch.float32 if on_cpu else DTYPES[precision]
    swap = on_cpu and precision != "float32"
    places = _places(model)
    for index, (parent, name) in enumerate(places):
        child = getattr(parent, name)
        if name == "tok_emb" and model.cfg.tie_weights:
            setattr(parent, name, _tied_embedding(child, model.out_head))
        elif swap and name != "pos_emb" and isinstance(child, (nn.Linear, nn.Embedding)):
            setattr(parent, name, _stored(child, precision, is_head=name == "out_head"))
        else:
            _copy(child, target, dtype)
        if progress is not None:
            progress((index + 1) / len(places), "reading")
    if not on_cpu:
        check_native(str(target), precision)
    return model


@cache
def check_native(device: str, precision: str) -> None:
    """Raises ValueError unless a small model on `device` gives the CPU's logits; tried once."""
    cfg = GPTConfig(vocab_size=512, context_length=32, emb_dim=128, n_heads=2, n_layers=2)
    with torch.device("meta"):
        model = GPTModel(cfg).eval()
    model.to_empty(device="cpu")  # its values follow, from a generator of its own
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
            value.add_(float(name.endswith("scale")))
        ids = torch.arange(32)[None]
        expected = model(ids)
        found = model.to(device, DTYPES[precision])(ids.to(device)).float().cpu()
    error = float((found - expected).abs().max() / expected.std())
    if not error < 0.1:
        raise ValueError(
            f"{device} computes something else than the CPU in {precision} "
            f"(logits differ by {error:.2g} standard deviations): use the CPU."
        )


def weight_bytes(cfg: GPTConfig | Mapping[str, Any], precision: str) -> int:
    """Bytes that `convert` keeps for the weights on the CPU; from the configuration alone.

    Raises ValueError if the precision is unknown.
    """
    check_precision(precision)
    cfg = as_config(cfg)
    d, blocks = cfg.emb_dim, cfg.n_layers
    in_blocks, head = 12 * d * d * blocks, cfg.vocab_size * d
    table = 0 if cfg.tie_weights else head
    biases = (6 + 3 * cfg.qkv_bias) * d * blocks
    whole = biases + cfg.context_length * d + (4 * blocks + 2) * d  # positions and norms
    if precision != "int8":
        half = dtype_of(precision).itemsize
        return half * (in_blocks + head + table) + 4 * whole
    channels = 9 * d * blocks + cfg.vocab_size  # each with a scale
    return in_blocks + head + 2 * table + 4 * (whole + channels)


def _places(model: GPTModel) -> list[tuple[nn.Module, str]]:
    """Where each module with parameters of its own hangs; the head first, for a tied embedding."""
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if next(child.parameters(recurse=False), None) is not None
    ]
    return sorted(places, key=lambda place: place[1] != "out_head")


def _stored(child: nn.Linear | nn.Embedding, precision: str, is_head: bool) -> nn.Module:
    half = DTYPES.get(precision, torch.float16)  # the type of a table that nothing multiplies
    if isinstance(child, nn.Embedding):
        weight = child.weight.detach().to(half, copy=True)
        return HalfEmbedding(nn.Parameter(weight, requires_grad=False))
    if precision in DTYPES:
        return HalfLinear(child, half)
    # Rows of a packed matrix cannot be looked up, and the embedding may be tied to the head.
    return Int8Linear(child) if is_head else int8_linear(child)


def _tied_embedding(embedding: nn.Module, head: nn.Module) -> nn.Module:
    """The token embedding that takes its rows from `head`."""
    if isinstance(head, Int8Linear):
        return Int8Embedding(head)
    if isinstance(head, HalfLinear):
        return HalfEmbedding(head.weight)
    embedding.weight = head.weight
    return embedding


def _copy(module: nn.Module, target: torch.device, dtype: torch.dtype) -> None:
    """Every parameter of `module` becomes a copy of itself on `target` in `dtype`."""
    turned = isinstance(module, nn.Linear) and target.type == "cpu" and transposed_is_faster()
    for name, value in list(module.named_parameters(recurse=False)):
        shape = value.shape[::-1] if turned else value.shape
        copy = torch.empty(shape, dtype=dtype, device=target)
        copy = (copy.t() if turned and value.dim() == 2 else copy).copy_(value.detach())
        setattr(module, name, nn.Parameter(copy, requires_grad=value.requires_grad))
