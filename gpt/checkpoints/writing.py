"""A GPTModel -> a folder: ours, with the book's names, or Hugging Face's with its tokenizer."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from gpt.accounting.memory import weight_bytes
from gpt.checkpoints.free_memory import check_memory
from gpt.checkpoints.gpt2_names import FORMAT, config_to_gpt2, to_gpt2
from gpt.checkpoints.reading import CONFIG, WEIGHTS
from gpt.checkpoints.tensors import sha256_of
from gpt.checkpoints.vocabulary import tokenizer_of
from gpt.engine import DTYPES, named_weights
from gpt.model import GPTModel
from gpt.tokenizer import Tokenizer


def save_model(model: GPTModel, folder: str | Path, precision: str = "float16") -> Path:
    """The folder, holding `model` as model.safetensors and config.json (each whole or not at all).

    A tied head is stored once, as out_head.weight. config.json has the eight fields of
    GPTConfig, "format", and "sha256" of the weights, which loading checks.
    Raises ValueError if a weight is too large for `precision`, the disk is full or the folder
    cannot be written.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}: use {', '.join(DTYPES)}.")
    tensors = {n: _rounded(n, t.detach(), precision).contiguous() for n, t in named_weights(model)}
    if model.cfg.tie_weights:
        tensors["out_head.weight"] = tensors.pop("tok_emb.weight")
    folder = Path(folder)
    write_tensors(folder / WEIGHTS, tensors)
    sha256 = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, {"format": FORMAT, **dict(model.cfg), "sha256": sha256})
    return folder


def _rounded(name: str, tensor: torch.Tensor, precision: str) -> torch.Tensor:
    """`tensor` in `precision` on the CPU. Raises ValueError if a finite number became infinite."""
    exact = tensor.cpu()
    rounded = exact.to(DTYPES[precision])
    lost = exact[rounded.isinf() & exact.isfinite()]
    if len(lost):
        raise ValueError(
            f"{name} holds {float(lost.abs().max()):.6g} and {precision} ends at "
            f"{torch.finfo(rounded.dtype).max:.6g}: save in precision float32."
        )
    return rounded


def export_model(model: GPTModel, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
    """The folder, holding `model` as `transformers` and others read GPT-2, in its own precision.

    config.json and model.safetensors; vocab.json, merges.txt and tokenizer_config.json too: of
    `tokenizer` if the model has rows for its tokens, without one GPT-2's if it has 50,257.
    A head of its own is kept (tie_word_embeddings false); biases that the model lacks are zeros,
    which changes no logit.
    Raises ValueError if the folder cannot be written, memory for a second copy is missing, or
    the weights are int8, which the format does not have.
    """
    folder, dtype = Path(folder), model.tok_emb.weight.dtype
    n_bytes = weight_bytes(model.cfg, "float32") // torch.float32.itemsize * dtype.itemsize
    check_memory(n_bytes, "cpu", f"exporting to {folder}")
    tensors = {name: value.detach().to("cpu", dtype) for name, value in named_weights(model)}
    for index in range(0 if model.cfg.qkv_bias else model.cfg.n_layers):
        for part in ("query", "key", "value"):
            bias = torch.zeros(model.cfg.emb_dim, dtype=dtype)
            tensors[f"trf_blocks.{index}.att.W_{part}.bias"] = bias
    write_tensors(folder / WEIGHTS, dict(to_gpt2(tensors, model.cfg.n_layers)))
    if tokenizer is None and model.cfg.vocab_size == (gpt2 := tokenizer_of("gpt2")).vocab_size:
        tokenizer = gpt2
    elif tokenizer is not None and model.cfg.vocab_size < tokenizer.vocab_size:
        tokenizer = None
    end = tokenizer.end_of_text_id if tokenizer is not None else None
    precision = str(dtype).removeprefix("torch.")
    write_json(folder / CONFIG, config_to_gpt2(model.cfg, precision, end))
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer, model.cfg.context_length)
    return folder


def write_tokenizer(folder: Path, tokenizer: Tokenizer, context_length: int) -> None:
    """Writes vocab.json, merges.txt and tokenizer_config.json, as Hugging Face reads GPT-2's kind.

    Raises ValueError if they cannot be written.
    """
    write_text(folder / "vocab.json", json.dumps(tokenizer.ids))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *tokenizer.merges, ""]))
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), tokenizer.end_of_text),
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes contiguous `tensors` as safetensors, with the metadata that Hugging Face expects."""
    write_file(path, lambda target: save_file(dict(tensors), target, metadata={"format": "pt"}))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a JSON object, indented, in UTF-8."""
    write_text(path, json.dumps(dict(data), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file with line feeds."""
    write_file(path, lambda target: target.write_bytes(text.encode()))


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` with a temporary path, then renames that file to `path`: never half a file.

    Creates the folder. Raises ValueError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            ordinary = Path(folder) / "ordinary"
            ordinary.touch()  # safetensors makes files that only their owner can read
            temporary.chmod(ordinary.stat().st_mode & 0o777)
            os.replace(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = error.__context__ if type(error) is RuntimeError else error  # torch.save's
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(
            f"{path} cannot be written ({reason}): make room or choose another folder."
        ) from error
