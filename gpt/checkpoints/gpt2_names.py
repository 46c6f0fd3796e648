"""GPT-2's own names and configuration, and how each becomes ours and back: one table, no files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gpt.config import GPTConfig


@dataclass(frozen=True)
class Name:
    """One tensor of GPT-2's files: its name there, ours (three if fused), whether transposed."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


# `{i}` is the block. GPT-2 keeps its linear layers as (in, out) and torch as (out, in), so those
# are transposed; its c_attn is query, key and value side by side.
# Source: transformers, models/gpt2/modeling_gpt2.py.
_BLOCK = "trf_blocks.{i}."
_QKV = tuple(_BLOCK + f"att.W_{part}." for part in ("query", "key", "value"))
GPT2_NAMES: tuple[Name, ...] = (
    Name("wte.weight", ("tok_emb.weight",)),
    Name("wpe.weight", ("pos_emb.weight",)),
    Name("h.{i}.attn.c_attn.weight", tuple(part + "weight" for part in _QKV), transposed=True),
    Name("h.{i}.attn.c_attn.bias", tuple(part + "bias" for part in _QKV)),
    Name("h.{i}.attn.c_proj.weight", (_BLOCK + "att.out_proj.weight",), transposed=True),
    Name("h.{i}.attn.c_proj.bias", (_BLOCK + "att.out_proj.bias",)),
    Name("h.{i}.mlp.c_fc.weight", (_BLOCK + "ff.layers.0.weight",), transposed=True),
    Name("h.{i}.mlp.c_fc.bias", (_BLOCK + "ff.layers.0.bias",)),
    Name("h.{i}.mlp.c_proj.weight", (_BLOCK + "ff.layers.2.weight",), transposed=True),
    Name("h.{i}.mlp.c_proj.bias", (_BLOCK + "ff.layers.2.bias",)),
    Name("h.{i}.ln_1.weight", (_BLOCK + "norm1.scale",)),
    Name("h.{i}.ln_1.bias", (_BLOCK + "norm1.shift",)),
    Name("h.{i}.ln_2.weight", (_BLOCK + "norm2.scale",)),
    Name("h.{i}.ln_2.bias", (_BLOCK + "norm2.shift",)),
    Name("ln_f.weight", ("final_norm.scale",)),
    Name("ln_f.bias", ("final_norm.shift",)),
    Name("lm_head.weight", ("out_head.weight",)),
)
_BY_THEIRS = {name.theirs: name for name in GPT2_NAMES}
_PREFIX = "transformer."
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, which is computed here

# What GPT-2's configuration must say for its numbers to be this model's; a missing key has
# the value in transformers' GPT2Config, which is the one here.
_REQUIRED: dict[str, Any] = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "quantization_config": None,
}


def is_gpt2(tensors: Mapping[str, Any]) -> bool:
    """Whether the names are GPT-2's, with or without `transformer.` in front."""
    return any(name.removeprefix(_PREFIX).split(".")[0] in ("wte", "wpe", "h") for name in tensors)


def from_gpt2(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors as views under our names and shapes.

    Mask buffers are dropped; a name outside the table is kept as it is.
    """
    ours: dict[str, torch.Tensor] = {}
    for stored, tensor in tensors.items():
        theirs = stored.removeprefix(_PREFIX)
        if theirs.endswith(_BUFFERS):
            continue
        block = re.match(r"h\.(\d+)\.", theirs)
        index = block[1] if block else ""
        name = _BY_THEIRS.get(re.sub(r"^h\.\d+\.", "h.{i}.", theirs))
        if name is None:
            ours[stored] = tensor
            continue
        if name.transposed and tensor.dim() == 2:
            tensor = tensor.t()  # (in, out) -> (out, in)
        parts = tensor.tensor_split(len(name.ours)) if tensor.dim() else (tensor,) * 3
        for target, part in zip(name.ours, parts, strict=False):
            ours[target.format(i=index)] = part
    return ours


def their_name(ours: str) -> str:
    """GPT-2's name of the tensor that holds the one we call `ours`."""
    index = re.search(r"\d+", ours)
    pattern = re.sub(r"^trf_blocks\.\d+\.", _BLOCK, ours)
    name = next(name for name in GPT2_NAMES if pattern in name.ours)
    return name.theirs.format(i=index[0] if index else "")


def to_gpt2(
    tensors: Mapping[str, torch.Tensor], n_layers: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Our tensors under GPT-2's names, contiguous, fused and transposed as it keeps them.

    A name of the table that `tensors` has no part of is left out.
    """
    for name in GPT2_NAMES:
        for index in range(n_layers) if "{i}" in name.theirs else (0,):
            parts = [target.format(i=index) for target in name.ours]
            if parts[0] not in tensors:
                continue
            tensor = torch.cat([tensors[part] for part in parts])
            yield (
                _PREFIX * (name.theirs != "lm_head.weight") + name.theirs.format(i=index),
                tensor.t().contiguous() if name.transposed else tensor,
            )


def config_from_gpt2(data: Mapping[str, Any], where: str) -> GPTConfig:
    """The configuration that GPT-2's config.json describes; `drop_rate` is its resid_pdrop.

    Raises ValueError, naming the field, if the model computes something else than this one.
    """
    if data.get("model_type") != "gpt2":
        raise ValueError(f"{where}: model_type is {data.get('model_type')!r}: only gpt2 is read.")
    for field, required in _REQUIRED.items():
        if data.get(field, required) != required:
            raise ValueError(f"{where}: {field} is {data[field]!r}: here it must be {required!r}.")
    width = data.get("n_embd", 768)
    if data.get("n_inner") not in (None, 4 * width):
        raise ValueError(
            f"{where}: n_inner is {data['n_inner']!r}: this model has {4 * width} only."
        )
    return GPTConfig(
        vocab_size=data.get("vocab_size", 50257),
        context_length=data.get("n_positions", 1024),
        emb_dim=width,
        n_heads=data.get("n_head", 12),
        n_layers=data.get("n_layer", 12),
        drop_rate=data.get("resid_pdrop", 0.1),
        qkv_bias=True,
        tie_weights=data.get("tie_word_embeddings", True),
    )


def config_to_gpt2(cfg: GPTConfig, precision: str, end_of_text_id: int | None) -> dict[str, Any]:
    """GPT-2's config.json for `cfg` with weights in `precision`."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": cfg.vocab_size,
        "n_positions": cfg.context_length,
        "n_ctx": cfg.context_length,
        "n_embd": cfg.emb_dim,
        "n_head": cfg.n_heads,
        "n_layer": cfg.n_layers,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": cfg.drop_rate,
        "embd_pdrop": cfg.drop_rate,
        "resid_pdrop": cfg.drop_rate,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": cfg.tie_weights,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "torch_dtype": precision,
    }
