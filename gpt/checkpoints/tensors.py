"""A file -> named tensors; a damaged or foreign file is a one-line ValueError."""

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

INDEX = "model.safetensors.index.json"  # lists the files of a model that is in several
_PICKLES = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *_PICKLES)
# What wrappers add to the names: DistributedDataParallel in front, torch.compile anywhere.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|_orig_mod\.")


def read_tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the file by its name, memory-mapped: on disk until it is used.

    Names are as stored, without what torch's wrappers of a model add.
    Raises ValueError if the file cannot be read, or holds something else than plain tensors.
    """
    files = [weights]
    if weights.name == INDEX:
        shards = read_json(weights).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(v, str) for v in shards.values()):
            raise ValueError(f"{weights} lists no weight_map: it is damaged, fetch it again.")
        files = [weights.with_name(Path(name).name) for name in sorted(set(shards.values()))]
    tensors = {n: t for file in files for n, t in _read(file).items()}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        shown = repr(name)[:100]
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"{weights}: {shown} is a {type(tensor).__name__}, not a tensor with a name."
            )
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            kind = "has no values" if tensor.is_meta else f"is {tensor.layout} or nested"
            raise ValueError(f"{weights}: {shown} {kind}: save it as a plain (dense) tensor.")
        if found.setdefault(_WRAPPERS.sub("", name), tensor) is not tensor:
            raise ValueError(f"{weights}: {shown} is there with another prefix too: keep one.")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix not in _PICKLES:
            return load_file(path)
        archive = zipfile.is_zipfile(path)  # files older than torch 1.6 are none: not to be mapped
        if archive:
            with zipfile.ZipFile(path) as file:  # a mapped tensor is the bytes as they are stored
                if any(record.compress_type for record in file.infolist()):
                    raise ValueError("its records are compressed, as torch.save never does")
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, which could run code, or is damaged: "
            "save the model's state_dict() alone."
        ) from error
    except Exception as error:  # a malformed pickle can raise anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read ({reason}): fetch it again.") from error
    if isinstance(data, Mapping):
        data = data.get("model_state_dict", data)  # the book keeps the optimizer beside it
    if not isinstance(data, Mapping):
        raise ValueError(f"{path} holds a {type(data).__name__}: save the model's state_dict().")
    return dict(data)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError if it cannot be read or holds none."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): it is damaged, fetch it again.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object: it is damaged, fetch it again.")
    return data


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with line feeds and without a byte order mark.

    Raises ValueError if it cannot be read, is in another encoding or is no text.
    """
    file = Path(os.path.expanduser(path))
    try:
        if file.is_char_device():  # /dev/zero has no end
            raise ValueError(f"{path} is no file: name one.")
        return text_of(file.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def text_of(data: bytes, name: str) -> str:
    """The text of UTF-8 bytes, as `read_text`; `name` is what an error calls them."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is no UTF-8 text (byte 0x{error.object[error.start]:02X} at position "
            f"{error.start:,}): save it as UTF-8."
        ) from error
    if "\0" in text:
        raise ValueError(f"{name} is no UTF-8 text (it has NUL characters): save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
