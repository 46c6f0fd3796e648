"""Names -> where a model comes from: the bundled one, a drawn one, the Hub, a folder or a file."""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gpt.accounting.memory import weight_bytes
from gpt.accounting.meta_model import model_without_values
from gpt.accounting.timing import build_bytes
from gpt.checkpoints.free_memory import check_device, check_memory
from gpt.checkpoints.hub import HUB_MODELS, download, is_cached
from gpt.checkpoints.reading import Progress, load_checkpoint, read_config
from gpt.config import PRESETS, GPTConfig, as_config
from gpt.engine import FastModel, check_precision
from gpt.model import GPTModel
from gpt.sampling import MAX_SEED

STORYTELLER = Path(__file__).resolve().parent.parent.parent / "assets" / "storyteller"
BOOK_SEED = 123
RANDOM = "random:"
TRAINED = "trained:"
EARLY = ":early"  # after the name of such a model: the same run's, early in its training
_kept: dict[str, Path] = {}  # folders of models that this process keeps for a while, by name
_generator_lock = threading.Lock()


def load_model(
    source: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    cfg: GPTConfig | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    make_room: Callable[[], object] = lambda: None,
) -> GPTModel:
    """A model that nobody else holds, in eval mode.

    `source` is "storyteller", "book-124M" (seed 123, untrained), "gpt2", "gpt2-medium",
    "gpt2-large" or "gpt2-xl" (from the Hub, cached), what `random_source` gives, or a folder
    or file on disk. `cfg` is for a file that has no configuration beside it. `make_room` is
    called when all that can be checked was found right, before memory is taken.
    Raises ValueError, in one line, whatever is wrong with the source, the disk or the memory.
    """
    name = _name(source)
    drawn = _parse_random(name)
    own = config_of(name) if drawn or name in HUB_MODELS else None
    if own and cfg is not None and as_config(cfg) != own:
        raise ValueError(f"cfg differs from the configuration of {name[:40]}: leave cfg out.")
    if drawn:
        found, seed = drawn
        target = check_device(device)
        check_precision(precision, target)
        make_room()
        check_memory(build_bytes(found), "cpu", "drawing the weights")
        if progress is not None:
            progress(0.0, "building")
        with own_generator(seed):  # as torch.manual_seed(seed) before the constructor
            weights = dict(GPTModel(found).named_parameters())
        return FastModel(model_without_values(found), precision, target, weights)
    if name in HUB_MODELS and not is_cached(name):  # nothing is downloaded that cannot be loaded
        check_memory(weight_bytes(own, precision), check_device(device), f"loading {name}")
    path = download(name, progress) if name in HUB_MODELS else path_of(name)
    return load_checkpoint(path, device, precision, cfg, progress, make_room)


def config_of(source: str | Path) -> GPTConfig:
    """The configuration of a source, without its weights and without the network.

    Raises ValueError if there is none.
    """
    name = _name(source)
    if drawn := _parse_random(name):
        return drawn[0]
    if name in HUB_MODELS:
        preset = PRESETS["gpt2-small" if name == "gpt2" else name]
        return GPTConfig(**{**preset, "qkv_bias": True, "tie_weights": True})
    return read_config(path_of(name))


def _name(source: str | Path) -> str:
    """`source` as a string; a Path is a file or folder even where a model has its name."""
    return source if isinstance(source, str) else str(source.absolute())


def is_named(source: str | Path) -> bool:
    """Whether `source` is a model's name here, and no file or folder."""
    name = _name(source)
    return name in ("storyteller", "book-124M", *HUB_MODELS) or name.startswith(RANDOM)


def keep_trained(folder: Path, early: Path) -> str:
    """A random name by which `load_model` finds the model of `folder` until `forget`.

    The name followed by EARLY is that of the model of `early`. Only who is told the name can use
    it, and only in this process.
    """
    name = TRAINED + secrets.token_hex(8)
    _kept[name], _kept[name + EARLY] = folder, early
    return name


def forget(name: str) -> None:
    """Drops a name that `keep_trained` gave; the folders stay."""
    for one in (name, name + EARLY):
        _kept.pop(one, None)


def is_kept(source: str) -> bool:
    """Whether `source` is a name that `keep_trained` gave and nobody has forgotten."""
    return source in _kept


def path_of(source: str | Path) -> Path:
    """The path of a source on this disk. Raises ValueError if no path can have that name."""
    name = _name(source)
    if name == "storyteller":
        return STORYTELLER
    if name in _kept:
        return _kept[name]
    try:
        path = Path(name).expanduser()
        path.exists()  # raises what the system has against the name
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "no such user"
        raise ValueError(f"there is no file or folder {name[:60]!r} ({reason}).") from error
    return path


def random_source(cfg: GPTConfig | Mapping[str, Any], seed: int = BOOK_SEED) -> str:
    """The source string of an untrained model: torch's own initialisation after that seed."""
    values = {"seed": seed, **as_config(cfg)}
    return RANDOM + ",".join(f"{key}={value}" for key, value in values.items())


def _parse_random(source: str) -> tuple[GPTConfig, int] | None:
    """Configuration and seed of "book-124M" or a string of `random_source`; None for others."""
    if source == "book-124M":
        return GPTConfig(), BOOK_SEED
    if not source.startswith(RANDOM):
        return None
    settings = source.removeprefix(RANDOM)[:500].split(",")
    pairs = (setting.partition("=") for setting in settings)
    try:
        values = {key: json.loads(text.lower()) for key, _, text in pairs}
        seed = values.pop("seed", BOOK_SEED)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(
                f"seed is {str(seed)[:30]}: use a whole number from 0 to {MAX_SEED:,}."
            )
        return as_config(values), seed
    except json.JSONDecodeError as error:
        raise ValueError(f"{source[:60]!r} is no random model: use random_source().") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


@contextlib.contextmanager
def own_generator(seed: int) -> Iterator[None]:
    """Inside, torch's global generator on the CPU starts from `seed` and is this thread's alone.

    Its state is put back afterwards. Initial weights and dropout can be drawn from no other.
    """
    with _generator_lock, torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


if hasattr(os, "register_at_fork"):  # a child waits for no thread that only its parent has
    os.register_at_fork(after_in_child=_generator_lock._at_fork_reinit)
