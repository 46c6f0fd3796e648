"""A model -> the same model in another precision: its layers are replaced, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from gpt.attention import MultiHeadAttention
from gpt.config import GPTConfig, as_config
from gpt.engine.choice import attention, half_linear, int8_linear, packed_int8_is_faster
from gpt.engine.kernels import float32_way
from gpt.engine.layers import (
    HalfEmbedding,
    HalfLinear,
    Int8Embedding,
    Int8Linear,
    PartsLinear,
    Weights,
)
from gpt.engine.packed import PackedBFloat16Linear, PackedFloat16Linear, PackedInt8Linear
from gpt.engine.pages import return_freed_memory, use_huge_pages
from gpt.engine.prompts import PromptGELU
from gpt.model import GPTModel

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PRECISIONS = (*DTYPES, "int8")
_LARGE_CACHE = 2**24  # bytes of keys and values
_LARGE_MODEL = 2**25  # bytes of weights; fewer may stay in a processor's own caches
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

    On the CPU the linear layers and the token embedding are stored in that precision, and all else
    is float32: norms, positions, the residual stream. Below float32 the cache of a large model
    keeps float16, and long prompts and decoding steps go through precision/prompts.py and steps.py.
    On other devices everything is of that type. In place, layer by layer, so at most one exists
    more than once; the parameters may be memory-mapped and of any floating type. After a large
    model the memory of the whole process is moved into huge pages.
    Only float32 can be trained.
    Raises ValueError if the precision is unknown, unknown on that device, or not the first.
    """
    check_precision(precision, device)
    if any(block.att.W_qkv is not None for block in model.trf_blocks):
        raise ValueError("this model is converted already: load it again in another precision.")
    model.replay = None  # it would go on with the tensors of before
    target = torch.device(device)
    if target.type == "cpu" and precision != "float32":
        model.cache_dtype = cache_dtype(model.cfg)
        _swap_in_blocks(model, precision)
    places = _places(model)
    for index, (parent, name) in enumerate(places):
        setattr(parent, name, _converted(getattr(parent, name), name, model, precision, target))
        if progress is not None:
            progress((index + 1) / len(places), "reading")
    if target.type != "cpu":
        check_native(str(target), precision)
    elif weight_bytes(model.cfg, precision) > _LARGE_MODEL:
        use_huge_pages()
    return model


def _converted(
    child: nn.Module, name: str, model: GPTModel, precision: str, target: torch.device
) -> nn.Module:
    """What takes the place of `child`, the `name` of a module of `model`: it, or another."""
    on_cpu = target.type == "cpu"
    swap = on_cpu and precision != "float32"
    if name == "tok_emb" and model.cfg.tie_weights:
        return _tied_embedding(child, model.out_head)
    if swap and name != "pos_emb" and isinstance(child, (nn.Linear, nn.Embedding)):
        stored = _stored(child, precision, is_head=name == "out_head")
        return_freed_memory()
        return stored
    _copy(child, target, torch.float32 if on_cpu else DTYPES[precision], trainable=not swap)
    if on_cpu and isinstance(child, nn.Linear) and float32_way() == "parts":
        return PartsLinear(child)
    return child


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
    """Bytes of the weights that `convert` keeps on this machine's CPU.

    A packed int8 head has the rows of a tied embedding beside it. A packed layout adds padding,
    not counted: a block's rows are as long as a multiple of 512 numbers, a third more where d
    is 768.
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
    rows = head + 4 * cfg.vocab_size if cfg.tie_weights and packed_int8_is_faster() else 0
    return in_blocks + head + rows + 2 * table + 4 * (whole + channels)


def cache_dtype(cfg: GPTConfig) -> torch.dtype | None:
    """Of the keys and values that a model below float32 keeps on the CPU; None: as computed.

    They are read for every token. Half as many bytes take less time, converting them included,
    once those of a full context are too many for a processor to keep beside the weights. Their
    digits cost the storyteller less than 0.00001 nats; none may be larger than 65,504.
    """
    n_bytes = 2 * cfg.n_layers * cfg.context_length * cfg.emb_dim * torch.float32.itemsize
    return torch.float16 if n_bytes > _LARGE_CACHE else None


def named_weights(model: GPTModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters under the names that a model has before `convert`; a tied one appears once.

    Raises ValueError if they are int8, which cannot be turned back.
    """
    if any(isinstance(module, (Int8Linear, PackedInt8Linear)) for module in model.modules()):
        raise ValueError("int8 weights cannot be written: use float32, float16 or bfloat16.")
    for name, value in _unpacked(model):
        if ".W_qkv." in name:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                yield name.replace("W_qkv", f"W_{part}"), rows
        else:
            yield name, value


def _unpacked(model: GPTModel) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    for name, module in model.named_modules():
        if isinstance(module, (PackedFloat16Linear, PackedBFloat16Linear)):
            weight, bias = module.unpacked()
            yield f"{name}.weight", weight
            if bias is not None:
                yield f"{name}.bias", bias


def _places(model: GPTModel) -> list[tuple[nn.Module, str]]:
    """Where each module with parameters hangs, but W_qkv; the head first, for a tied embedding."""
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if next(child.parameters(recurse=False), None) is not None and name != "W_qkv"
    ]
    return sorted(places, key=lambda place: place[1] != "out_head")


def _stored(
    child: nn.Linear | nn.Embedding | Weights, precision: str, is_head: bool = False
) -> nn.Module:
    half = DTYPES.get(precision, torch.float16)  # the type of a table that nothing multiplies
    if isinstance(child, nn.Embedding):
        weight = child.weight.detach().to(half, copy=True)
        return HalfEmbedding(nn.Parameter(weight, requires_grad=False))
    if precision == "int8":
        return int8_linear(child, is_head)
    # Rows of a packed head could not be looked up, as a tied embedding has to.
    return HalfLinear(child, half) if is_head else half_linear(child, half)


def _swap_in_blocks(model: GPTModel, precision: str) -> None:
    """All of a block that is not one linear layer for another."""
    for block in model.trf_blocks:
        _join_projections(block.att, precision)
        block.att.attend = attention()
        block.ff.layers[1] = PromptGELU()
        return_freed_memory()


def _join_projections(att: MultiHeadAttention, precision: str) -> None:
    """W_query, W_key and W_value become W_qkv in `precision`, their rows one after the other."""
    parts = [att.W_query, att.W_key, att.W_value]
    weight = torch.cat([part.weight.detach() for part in parts])  # (3 d, d)
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    joined = Weights(weight, torch.cat(biases) if biases else None)
    att.W_qkv = _stored(joined, precision)
    del att.W_query, att.W_key, att.W_value


def _tied_embedding(embedding: nn.Module, head: nn.Module) -> nn.Module:
    """The token embedding that takes its rows from `head`."""
    if isinstance(head, PackedInt8Linear):
        return Int8Embedding.of_rows(embedding.weight)
    if isinstance(head, Int8Linear):
        return Int8Embedding(head.weight, head.scale)
    if isinstance(head, HalfLinear):
        return HalfEmbedding(head.weight)
    embedding.weight = head.weight
    return embedding


def _copy(module: nn.Module, target: torch.device, dtype: torch.dtype, trainable: bool) -> None:
    """Every parameter of `module` becomes a copy of itself on `target` in `dtype`."""
    turned = isinstance(module, nn.Linear) and target.type == "cpu" and float32_way() != "rows"
    for name, value in list(module.named_parameters(recurse=False)):
        shape = value.shape[::-1] if turned else value.shape
        copy = torch.empty(shape, dtype=dtype, device=target)
        copy = (copy.t() if turned and value.dim() == 2 else copy).copy_(value.detach())
        setattr(module, name, nn.Parameter(copy, trainable and value.requires_grad))
