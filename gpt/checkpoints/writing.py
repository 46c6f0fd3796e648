"""A GPTModel -> our folder: model.safetensors with the book's names, and config.json."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from gpt.checkpoints.gpt2_names import FORMAT
from gpt.checkpoints.reading import CONFIG, WEIGHTS
from gpt.checkpoints.tensors import sha256_of
from gpt.engine import DTYPES, named_weights
from gpt.model import GPTModel


def save_model(model: GPTModel, folder: str | Path, precision: str = "float16") -> Path:
    """The folder, holding `model` as model.safetensors and config.json (each whole or not at all).

    A tied head is stored once, as out_head.weight. config.json has the eight fields of
    GPTConfig, "format", and "sha256" of the weights, which loading checks.
    Raises ValueError if a weight is too large for `precision`, the disk is full or the folder
    cannot be written.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}: use {', '.join(DTYPES)}.")
    dtype = DTYPES[precision]
    tensors = {
        "out_head.weight" if model.cfg.tie_weights and name == "tok_emb.weight" else name: value
        for name, value in named_weights(model)  # a tied weight appears once
    }
    tensors = {n: _rounded(n, t.detach(), dtype).contiguous() for n, t in tensors.items()}
    folder = Path(folder)
    write_tensors(folder / WEIGHTS, tensors)
    sha256 = sha256_of(folder / WEIGHTS)
    write_json(folder / CONFIG, {"format": FORMAT, **dict(model.cfg), "sha256": sha256})
    return folder


def _rounded(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor` in `dtype` on the CPU. Raises ValueError if a finite number became infinite."""
    exact = tensor.cpu()
    rounded = exact.to(dtype)
    lost = exact[rounded.isinf() & exact.isfinite()]
    if len(lost):
        precision = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} holds {float(lost.abs().max()):.6g} and {precision} ends at "
            f"{torch.finfo(dtype).max:.6g}: save in precision float32."
        )
    return rounded


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A safetensors file of contiguous `tensors`; metadata as Hugging Face expects it."""
    write_file(path, lambda target: save_file(dict(tensors), target, metadata={"format": "pt"}))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """A JSON object, indented, UTF-8."""
    write_text(path, json.dumps(dict(data), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file with line feeds."""
    write_file(path, lambda target: target.write_bytes(text.encode()))


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """What `write` makes, put under its name only when it is whole; the folder is made.

    Raises ValueError if it cannot be written.
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
