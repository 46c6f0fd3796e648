"""A folder or file on disk -> a GPTModel, memory-mapped and copied once, one tensor at a time."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpt.accounting.memory import weight_bytes
from gpt.accounting.meta_model import model_without_values
from gpt.checkpoints.free_memory import check_device, check_memory
from gpt.checkpoints.gpt2_names import in_our_names, is_configuration, names_of, read_configuration
from gpt.checkpoints.tensors import INDEX, SUFFIXES, read_json, read_tensors, sha256_of
from gpt.config import PRESETS, GPTConfig, as_config
from gpt.engine import FastModel, Progress, check_precision
from gpt.model import GPTModel

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PICKLED = "pytorch_model.bin"  # Hugging Face's name before safetensors
_FEW = 64  # so many layers without numbers take a tenth of a second, whatever the file holds
_EMBEDDING, _HEAD = "tok_emb.weight", "out_head.weight"
# Beside the weights: what macOS adds, and what Hugging Face's trainer needs to go on.
_BESIDE = re.compile(r"\._|(optim(izer)?|scheduler|rng_state|training_args|scaler)(?![a-z])")


def load_checkpoint(
    path: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    cfg: GPTConfig | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    make_room: Callable[[], object] = lambda: None,
) -> GPTModel:
    """The model of a folder (ours or Hugging Face's GPT-2) or of a .safetensors or .pth file.

    In eval mode, in `precision`, on `device`. The configuration comes from a JSON file beside
    the weights, else from `cfg`, else from the shapes where they are a preset's. `make_room` is
    called when all that can be checked was found right, before memory is taken.
    Raises ValueError, in one line that names file and tensor, for whatever is wrong with it.
    """
    target = check_device(device)
    check_precision(precision, target)
    weights = weights_file(Path(path))
    model, tensors = _fitting(weights, as_config(cfg) if cfg is not None else None)
    make_room()
    check_memory(weight_bytes(model.cfg, precision), target, f"loading {weights}")
    try:
        return FastModel(model, precision, target, tensors, progress)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ValueError(
            f"the {target.type} has no memory for the weights after all: use a smaller model "
            "or precision float16."
        ) from error


def _fitting(weights: Path, given: GPTConfig | None) -> tuple[GPTModel, dict[str, torch.Tensor]]:
    """A model without values, as the configuration of a file says, and the tensors that fit it."""
    beside = _json_beside(weights)
    if beside and weights.name == WEIGHTS:
        stated = read_json(beside).get("sha256")
        if stated is not None and sha256_of(weights) != stated:
            raise ValueError(
                f"{weights} is damaged (not the SHA-256 in {beside.name}): restore it."
            )
    stored = read_tensors(weights)
    tensors = in_our_names(stored)
    named = str if tensors.keys() <= stored.keys() else names_of
    cfg = read_config_file(beside) if beside else given or _config_from_shapes(tensors, weights)
    if given and given != cfg:
        raise ValueError(f"cfg differs from the configuration beside {weights}: leave cfg out.")
    n_blocks = len(tensors) // 13  # a block has 13 or more
    if cfg.n_layers > max(n_blocks, _FEW):
        raise ValueError(
            f"{weights} is smaller than its configuration: n_layers is {cfg.n_layers:,} and the "
            f"file has {n_blocks:,} at most."
        )
    if cfg.tie_weights:  # of embedding and head one is left, under the embedding's name
        head = tensors.pop(_HEAD, None)
        if head is not None and not _equal(tensors.setdefault(_EMBEDDING, head), head):
            raise ValueError(
                f"{weights}: {_EMBEDDING} and {_HEAD} differ, but tie_weights is True."
            )
    try:
        model = model_without_values(cfg)
    except RuntimeError as error:
        raise ValueError(
            f"{weights}: its configuration, {dict(cfg)}, is more bytes than torch can count."
        ) from error
    _check_shapes(model, tensors, weights, named)
    return model, tensors


def read_config(path: str | Path) -> GPTConfig:
    """The configuration of the weights at `path`, without reading their values.

    From the JSON file beside them: `x.json` or config.json for a file `x.pth`. Else the preset
    that has their shapes. Raises ValueError if neither.
    """
    weights = weights_file(Path(path))
    if beside := _json_beside(weights):
        return read_config_file(beside)
    stat = weights.stat()
    return _config_of_file(weights, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _config_of_file(weights: Path, size: int, changed: int) -> GPTConfig:
    """`_config_from_shapes`, once for each state of a file: it may have to compare two tables."""
    return _config_from_shapes(in_our_names(read_tensors(weights)), weights)


def read_config_file(where: Path) -> GPTConfig:
    """The configuration in a JSON file, in one of four dialects (`read_configuration`).

    Raises ValueError, naming the file, if it cannot be read or describes another model.
    """
    data = read_json(where)
    try:
        return read_configuration(data)[0]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def weights_file(path: Path) -> Path:
    """The file that holds (or lists) the weights at `path`, which must exist."""
    if path.is_file():
        if path.name == INDEX or path.suffix in SUFFIXES:
            return path
        raise ValueError(f"{path} is no checkpoint: use a folder, a .safetensors or a .pth file.")
    if not path.is_dir():
        raise ValueError(f"there is no file or folder {path}.")
    for name in (WEIGHTS, INDEX, PICKLED):
        if (path / name).is_file():
            return path / name
    alone = [p for p in path.iterdir() if p.suffix in SUFFIXES and not _BESIDE.match(p.name)]
    if len(alone) == 1:
        return alone[0]
    raise ValueError(f"{path} holds no {WEIGHTS}: name the file to load.")


def _json_beside(weights: Path) -> Path | None:
    """The file of the configuration: the weights' own, else the folder's.

    A JSON of another kind under their name, such as TensorFlow.js's model.json, is left alone.
    """
    own, shared = weights.with_suffix(".json"), weights.with_name(CONFIG)
    if own.is_file() and weights.name != INDEX and is_configuration(read_json(own)):
        return own
    return shared if shared.is_file() else None


def _config_from_shapes(tensors: Mapping[str, torch.Tensor], weights: Path) -> GPTConfig:
    """The preset with exactly these shapes. Raises ValueError, asking for `cfg`, if none has."""
    table = tensors.get(_EMBEDDING, tensors.get(_HEAD))
    positions = tensors.get("pos_emb.weight")
    if table is None or positions is None or table.dim() != 2 or positions.dim() != 2:
        raise ValueError(f"{weights} holds no GPT: {_EMBEDDING} or pos_emb.weight is missing.")
    blocks = {name.split(".")[1] for name in tensors if name.startswith("trf_blocks.")}
    sizes = dict(zip(("vocab_size", "emb_dim"), table.shape, strict=True))
    sizes |= {"context_length": positions.shape[0], "n_layers": len(blocks)}
    for preset in PRESETS.values():
        if sizes.items() <= preset.items():
            both = _EMBEDDING in tensors and _HEAD in tensors
            return replace(
                preset,
                qkv_bias="trf_blocks.0.att.W_query.bias" in tensors,
                tie_weights=not both or _equal(tensors[_EMBEDDING], tensors[_HEAD]),
            )
    told = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    raise ValueError(
        f"{weights} has no configuration beside it and is no preset ({told}): give cfg, on the "
        "command line --config FILE or the sizes that differ from the book's, such as "
        "--context-length 256."
    )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype == other.dtype and one.element_size() == 1:  # torch cannot compare float8
        one, other = one.view(torch.uint8), other.view(torch.uint8)
    return torch.equal(one, other)


def _check_shapes(
    model: GPTModel, tensors: Mapping[str, torch.Tensor], weights: Path, named: Callable[[str], str]
) -> None:
    """Raises ValueError that names what is missing, what is extra and what has another shape."""
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}  # tied: once
    missing = [name for name in expected if name not in tensors]
    both = [(named(name), tensors[name], expected[name]) for name in expected if name in tensors]
    wrong = {
        "missing": [named(name) for name in missing],
        "not part of the model": [name for name in tensors if name not in expected],
        "of another shape": [f"{n} {tuple(t.shape)}, not {s}" for n, t, s in both if t.shape != s],
        "no floating point": [f"{n} {t.dtype}" for n, t, _ in both if not _is_read(t)],
    }
    said = [f"{what} {_listed(names)}" for what, names in wrong.items() if names]
    if _HEAD in missing:
        said[0] += " (is the head tied? then tie_weights is True)"
    if said:
        raise ValueError(f"{weights} does not fit its configuration: {'; '.join(said)}.")


def _is_read(tensor: torch.Tensor) -> bool:
    """Whether it holds floating-point numbers, which torch can convert: of float4 it has none."""
    return tensor.is_floating_point() and "float4" not in str(tensor.dtype)


def _listed(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(name[:100].encode("unicode_escape").decode() for name in names[:limit]) + more
