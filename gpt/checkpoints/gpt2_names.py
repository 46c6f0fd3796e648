"""GPT-2's own names and configuration, and how each becomes ours and back: one table, no files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from gpt.accounting import count_parameters
from gpt.config import GPTConfig

# The name in GPT-2's files -> ours, where `{i}` is the block. GPT-2 keeps its linear layers, c_*,
# as (in, out) and torch as (out, in), so those are transposed; its c_attn is query, key and value
# side by side.
# Source: transformers, models/gpt2/modeling_gpt2.py.
_BLOCK = "trf_blocks.{i}."
_QKV = tuple(_BLOCK + f"att.W_{part}." for part in ("query", "key", "value"))
GPT2_NAMES: dict[str, tuple[str, ...]] = {
    "wte.weight": ("tok_emb.weight",),
    "wpe.weight": ("pos_emb.weight",),
    "h.{i}.attn.c_attn.weight": tuple(part + "weight" for part in _QKV),
    "h.{i}.attn.c_attn.bias": tuple(part + "bias" for part in _QKV),
    "h.{i}.attn.c_proj.weight": (_BLOCK + "att.out_proj.weight",),
    "h.{i}.attn.c_proj.bias": (_BLOCK + "att.out_proj.bias",),
    "h.{i}.mlp.c_fc.weight": (_BLOCK + "ff.layers.0.weight",),
    "h.{i}.mlp.c_fc.bias": (_BLOCK + "ff.layers.0.bias",),
    "h.{i}.mlp.c_proj.weight": (_BLOCK + "ff.layers.2.weight",),
    "h.{i}.mlp.c_proj.bias": (_BLOCK + "ff.layers.2.bias",),
    "h.{i}.ln_1.weight": (_BLOCK + "norm1.scale",),
    "h.{i}.ln_1.bias": (_BLOCK + "norm1.shift",),
    "h.{i}.ln_2.weight": (_BLOCK + "norm2.scale",),
    "h.{i}.ln_2.bias": (_BLOCK + "norm2.shift",),
    "ln_f.weight": ("final_norm.scale",),
    "ln_f.bias": ("final_norm.shift",),
    "lm_head.weight": ("out_head.weight",),
}
_PREFIX = "transformer."
# The causal mask, GPT-2's and the book's, which is computed here.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".att.mask")


def in_our_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors as views under our names and shapes.

    GPT-2's names may have `transformer.` in front. Mask buffers are dropped; a name outside the
    table is kept as it is.
    """
    ours: dict[str, torch.Tensor] = {}
    for stored, tensor in tensors.items():
        theirs = stored.removeprefix(_PREFIX)
        if theirs.endswith(_BUFFERS):
            continue
        block = re.match(r"h\.(\d+)\.", theirs)
        index = block[1] if block else ""
        names = GPT2_NAMES.get(re.sub(r"^h\.\d+\.", "h.{i}.", theirs), (stored,))
        whole = tensor.dim() == 0 or tensor.is_quantized  # then there is no view of a part
        if _is_transposed(theirs) and tensor.dim() == 2 and not whole:
            tensor = tensor.t()  # (in, out) -> (out, in)
        parts = (tensor,) * 3 if whole else tensor.tensor_split(len(names))
        for target, part in zip(names, parts, strict=False):
            name = target.replace("{i}", index)
            ours[f"a second {name}" if name in ours else name] = part
    return ours


def _is_transposed(theirs: str) -> bool:
    return ".c_" in theirs and theirs.endswith(".weight")


def names_of(ours: str) -> str:
    """GPT-2's name of the tensor that holds the one we call `ours`, and ours, for a message."""
    index = re.search(r"\d+", ours)
    pattern = re.sub(r"^trf_blocks\.\d+\.", _BLOCK, ours)
    theirs = next(theirs for theirs, names in GPT2_NAMES.items() if pattern in names)
    return f"{theirs.format(i=index[0] if index else '')} (here {ours})"


def to_gpt2(
    tensors: Mapping[str, torch.Tensor], n_layers: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Our tensors under GPT-2's names, contiguous, fused and transposed as it keeps them.

    A name of the table that `tensors` has no part of is left out.
    """
    for theirs, names in GPT2_NAMES.items():
        prefix = "" if theirs == "lm_head.weight" else _PREFIX
        for index in range(n_layers) if "{i}" in theirs else (0,):
            parts = [target.format(i=index) for target in names]
            if parts[0] in tensors:
                tensor = torch.cat([tensors[part] for part in parts])
                tensor = tensor.t().contiguous() if _is_transposed(theirs) else tensor
                yield prefix + theirs.format(i=index), tensor


# Configurations, as four projects write them down.


@dataclass(frozen=True)
class _Dialect:
    """How one project writes down a GPT-2: our field by its key, and what a missing key means.

    Where two keys are one field, the later one wins.
    """

    called: str
    fields: Mapping[str, str]
    missing: GPTConfig


_WIDTH_HEADS_LAYERS = {"n_embd": "emb_dim", "n_head": "n_heads", "n_layer": "n_layers"}
# Source: transformers, models/gpt2/configuration_gpt2.py: its fields, and those of attribute_map.
_HUGGING_FACE = {
    "vocab_size": "vocab_size",
    "n_positions": "context_length",
    **_WIDTH_HEADS_LAYERS,
    "resid_pdrop": "drop_rate",
    "tie_word_embeddings": "tie_weights",
}
_ALIASES = {
    "max_position_embeddings": "context_length",
    "hidden_size": "emb_dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
}
_TRANSFORMERS = _Dialect(
    "a Hugging Face GPT-2 configuration",
    {**_HUGGING_FACE, **_ALIASES},
    GPTConfig(qkv_bias=True, tie_weights=True),
)
# Source: nanoGPT, model.py, GPTConfig.
_NANOGPT = _Dialect(
    "nanoGPT's model_args",
    {
        "vocab_size": "vocab_size",
        "block_size": "context_length",
        **_WIDTH_HEADS_LAYERS,
        "dropout": "drop_rate",
        "bias": "qkv_bias",
    },
    GPTConfig(vocab_size=50304, drop_rate=0.0, qkv_bias=True, tie_weights=True),
)
# Source: OpenAI's gpt-2, src/model.py, default_hparams; its code has no dropout.
_OPENAI = _Dialect(
    "OpenAI's hparams",
    {"n_vocab": "vocab_size", "n_ctx": "context_length", **_WIDTH_HEADS_LAYERS},
    GPTConfig(drop_rate=0.0, qkv_bias=True, tie_weights=True),
)
_OURS = _Dialect("a configuration of this app", {name: name for name in GPTConfig()}, GPTConfig())
_EVERY_KEY = {"model_type", *_OURS.fields, *_TRANSFORMERS.fields, *_NANOGPT.fields, *_OPENAI.fields}
FORMAT = "gpt-from-scratch/1"  # what saving writes beside our fields, and their SHA-256

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


# What else stands in GPT-2's configuration and changes no logit.
# Source: transformers, configuration_utils.py and models/gpt2/configuration_gpt2.py.
_HARMLESS = re.compile(
    r"\w+_token_id|summary_\w+|output_\w+|\w+_pdrop|initializer_range|use_cache|(torch_)?dtype|"
    r"transformers_version|_name_or_path|finetuning_task|task_specific_params|num_labels|"
    r"id2label|label2id|pruned_heads|torchscript|use_bfloat16|is_decoder|n_ctx|n_inner|"
    r"intermediate_size"
)


def is_configuration(data: Mapping[str, Any]) -> bool:
    """Whether any key is one of a GPT's configuration, in any of the dialects."""
    return not _EVERY_KEY.isdisjoint(data)


def read_configuration(data: Mapping[str, Any]) -> tuple[GPTConfig, str]:
    """The configuration that a JSON object describes, and in one sentence what was read.

    Ours or the book's dict, transformers' GPT-2 config.json, nanoGPT's model_args or OpenAI's
    hparams; missing keys have the values of their own project.
    Raises ValueError, in one short line that names the key, if it describes another model.
    """
    found: dict[str, str] = {}
    try:
        dialect = _dialect_of(data)
        if dialect is _TRANSFORMERS:
            _check_transformers(data)
        if dialect is _OURS and data.get("format", FORMAT) != FORMAT:
            raise ValueError(f"format is {data['format']!r}: this version reads {FORMAT}.")
        _check_keys(dialect, data)
        found = {ours: key for key, ours in dialect.fields.items() if key in data}
        cfg = replace(dialect.missing, **{ours: data[key] for ours, key in found.items()})
    except (TypeError, ValueError) as error:
        field, _, rest = str(error).partition(" ")  # a size is called as it is in `data`
        text = f"{found.get(field, field)} {rest}"
        raise ValueError(text if len(text) < 400 else f"{text[:200]} … {text[-150:]}") from error
    return cfg, f"Read {dialect.called}{_remark(dialect, data, cfg, found)}."


def _dialect_of(data: Mapping[str, Any]) -> _Dialect:
    if "model_type" in data:
        if data["model_type"] != "gpt2":
            raise ValueError(f"model_type is {data['model_type']!r}: only gpt2 is read.")
        return _TRANSFORMERS
    if not {"block_size", "bias", "dropout"}.isdisjoint(data):
        return _NANOGPT
    positions = ("n_positions", "max_position_embeddings")
    if "n_vocab" in data or ("n_ctx" in data and not any(key in data for key in positions)):
        return _OPENAI
    theirs = any(key in data for key in _TRANSFORMERS.fields if key != "vocab_size")
    return _TRANSFORMERS if theirs else _OURS


def _check_keys(dialect: _Dialect, data: Mapping[str, Any]) -> None:
    """Raises ValueError for a key that another dialect has, or that nobody knows.

    transformers' files hold much beside the model's sizes, and n_ctx from its first versions; one
    that says to be of GPT-2 may hold more, which transformers ignores.
    """
    named = not {"model_type", "architectures"}.isdisjoint(data)  # those of others are refused
    known = [*dialect.fields, *(("format", "sha256") if dialect is _OURS else ())]
    others = {*_OURS.fields, *_NANOGPT.fields, *_OPENAI.fields} - {"n_ctx", "dropout", "drop_rate"}
    for key in data:
        foreign = not (named or key in _REQUIRED or _HARMLESS.fullmatch(key))
        if key not in known and (dialect is not _TRANSFORMERS or key in others or foreign):
            allowed = ", ".join(dialect.fields)
            raise ValueError(
                f"unknown configuration key {key!r} in {dialect.called}: use {allowed}."
            )


def _check_transformers(data: Mapping[str, Any]) -> None:
    """Raises ValueError for a field with which transformers would compute something else."""
    for field, required in _REQUIRED.items():
        if data.get(field, required) != required:
            raise ValueError(f"{field} is {data[field]!r}: here it must be {required!r}.")
    classes = data.get("architectures") or ["GPT2"]
    if not isinstance(classes, list) or not any("GPT2" in str(name) for name in classes):
        raise ValueError(f"architectures is {classes!r}: only those of GPT2 are read.")
    width = data.get("hidden_size", data.get("n_embd", 768))
    for field in ("n_inner", "intermediate_size"):
        if isinstance(width, int) and data.get(field) not in (None, 4 * width):
            raise ValueError(f"{field} is {data[field]!r}: this model has {4 * width} only.")


def _remark(
    dialect: _Dialect, data: Mapping[str, Any], cfg: GPTConfig, found: Mapping[str, str]
) -> str:
    """The end of the sentence about a configuration: what was assumed, left out or differs."""
    if dialect is _OURS and (missing := [name for name in cfg if name not in found]):
        return f"; the book's value for {', '.join(missing)}"
    others = (data.get(name, 0.1) for name in ("embd_pdrop", "attn_pdrop"))
    if dialect is _TRANSFORMERS and any(rate != cfg.drop_rate for rate in others):
        return "; its three dropout rates differ, resid_pdrop is kept"
    if dialect is _NANOGPT and not cfg.qkv_bias:
        kept = (8 * cfg.n_layers + 1) * cfg.emb_dim
        theirs = count_parameters(cfg).total - kept
        return (
            f": with `bias: false` nanoGPT's has {theirs:,} parameters, and this model keeps "
            f"{kept:,} biases and shifts more"
        )
    return ""


def config_to_gpt2(cfg: GPTConfig, precision: str, end_of_text_id: int | None) -> dict[str, Any]:
    """GPT-2's config.json for `cfg` with weights in `precision`."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{key: cfg[ours] for key, ours in _HUGGING_FACE.items()},
        **{key: value for key, value in _REQUIRED.items() if value is not None},
        "n_ctx": cfg.context_length,
        "n_inner": None,
        "attn_pdrop": cfg.drop_rate,
        "embd_pdrop": cfg.drop_rate,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "torch_dtype": precision,
    }
