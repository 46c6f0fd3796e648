"""Names -> loaded models: one registry that the app and the command line share."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt.accounting import count_parameters
from gpt.accounting.measure import build_bytes
from gpt.checkpoints import (
    HUB_MODELS,
    Progress,
    check_device,
    check_memory,
    download,
    free_bytes,
    is_cached,
    load_checkpoint,
    read_config,
)
from gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig, as_config
from gpt.model import GPTModel
from gpt.precision import check_precision, convert, weight_bytes
from gpt.replay import record_step
from gpt.sampling import MAX_SEED

STORYTELLER = Path(__file__).resolve().parent.parent / "assets" / "storyteller"
BOOK_CONFIG = GPTConfig(**GPT_CONFIG_124M)
BOOK_SEED = 123
_RANDOM = "random:"
_Key = tuple[str, str, str]  # source, device, precision
drawing = threading.Lock()  # whoever draws weights holds it: one generator for all threads


@dataclass(frozen=True)
class ModelSource:
    """A model that can be asked for: its name, a line for a picker, and what getting it takes."""

    name: str
    label: str
    needs_network: bool  # not on this disk yet
    size_bytes: int  # of the file to download or read; of the float32 weights if drawn


def load_model(
    source: str | Path,
    device: str = "cpu",
    precision: str = "float32",
    cfg: GPTConfig | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> GPTModel:
    """A model of one's own, with `.cfg`, in eval mode.

    `source` is "storyteller", "book-124M" (seed 123, untrained), "gpt2", "gpt2-medium",
    "gpt2-large" or "gpt2-xl" (from the Hub, cached), what `random_source` gives, or a folder
    or file on disk. `cfg` is for a file that has no configuration beside it.
    Raises ValueError, in one line, whatever is wrong with the source, the disk or the memory.
    """
    name = _name(source)
    if name == "book-124M" or name.startswith(_RANDOM):
        found, seed = _parse_random(name)
        _refuse_other(cfg, found, name)
        return _draw(found, seed, device, precision, progress)
    if name in HUB_MODELS:
        _refuse_other(cfg, config_of(name), name)
        n_bytes = weight_bytes(config_of(name), precision)
        check_memory(n_bytes, check_device(device), f"loading {name}")
        return load_checkpoint(download(name, progress), device, precision, progress=progress)
    return load_checkpoint(_path(name), device, precision, cfg, progress)


def config_of(source: str | Path) -> GPTConfig:
    """The configuration of a source, without its weights and without the network.

    Raises ValueError if there is none.
    """
    name = _name(source)
    if name == "book-124M" or name.startswith(_RANDOM):
        return _parse_random(name)[0]
    if name in HUB_MODELS:
        preset = PRESETS["gpt2-small" if name == "gpt2" else name]
        return GPTConfig(**{**preset, "qkv_bias": True, "tie_weights": True})
    return read_config(_path(name))


def _name(source: str | Path) -> str:
    """`source` as a string; a Path is a file or folder even where a model has its name."""
    return source if isinstance(source, str) else str(source.absolute())


def _path(name: str) -> Path:
    return STORYTELLER if name == "storyteller" else Path(name).expanduser()


def random_source(cfg: GPTConfig | Mapping[str, Any], seed: int = BOOK_SEED) -> str:
    """The source string of an untrained model: torch's own initialisation after that seed."""
    _check_seed(seed)
    values = {"seed": seed, **as_config(cfg)}
    return _RANDOM + ",".join(f"{key}={value}" for key, value in values.items())


def _parse_random(source: str) -> tuple[GPTConfig, int]:
    """Configuration and seed of "book-124M" or a string that `random_source` made."""
    if source == "book-124M":
        return BOOK_CONFIG, BOOK_SEED
    settings = source.removeprefix(_RANDOM)[:500].split(",")
    pairs = (setting.partition("=") for setting in settings)
    try:
        values = {key: json.loads(text.lower()) for key, _, text in pairs}
        seed = values.pop("seed", BOOK_SEED)
        _check_seed(seed)
        return as_config(values), seed
    except json.JSONDecodeError as error:
        raise ValueError(f"{source[:60]!r} is no random model: use random_source().") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed is {seed!r}: use a whole number from 0 to {MAX_SEED:,}.")


def _refuse_other(cfg: GPTConfig | Mapping[str, Any] | None, found: GPTConfig, source: str) -> None:
    if cfg is not None and as_config(cfg) != found:
        raise ValueError(f"cfg differs from the configuration of {source[:40]}: leave cfg out.")


def _draw(
    cfg: GPTConfig, seed: int, device: str, precision: str, progress: Progress | None
) -> GPTModel:
    """The weights that `torch.manual_seed(seed)` before the constructor gives, on the CPU.

    torch's initialisation knows only its global generator: its state is put back afterwards.
    """
    target = check_device(device)
    check_precision(precision, target)
    check_memory(math.ceil(build_bytes(cfg)), "cpu", "drawing the weights")
    if progress is not None:
        progress(0.0, "building")
    with drawing, torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        model = GPTModel(cfg)
    return convert(model.eval(), precision, target)


@dataclass
class _Held:
    """A loaded model and how many borrowers it has now."""

    model: GPTModel
    n_bytes: int
    borrowers: int = 0


class Registry:
    """Loaded models, shared by all visitors: bounded in memory, one load at a time.

    The least recently used goes first, and never one that somebody has borrowed. Without
    `budget_bytes`, half of the memory that is free now. `paths` are folders or files on disk
    that may be asked for by these strings too; no other path may.
    """

    def __init__(
        self, budget_bytes: int | None = None, paths: Sequence[str] = (), wait_seconds: float = 60
    ) -> None:
        self.budget_bytes = budget_bytes or (free_bytes() or 8 * 2**30) // 2
        self._paths = tuple(paths)
        self._wait_seconds = wait_seconds
        self._held: OrderedDict[_Key, _Held] = OrderedDict()  # oldest use first
        self._loading = False
        self._changed = threading.Condition()

    def sources(self) -> tuple[ModelSource, ...]:
        """What `borrow` can be asked for by name, best first: the default of a picker is [0]."""
        found: list[ModelSource] = []
        if (STORYTELLER / "model.safetensors").exists():
            found.append(_on_disk("storyteller", "Storyteller · small, trained on fairy tales"))
        found += [_on_disk(path, path) for path in self._paths]
        label = f"The book's 124M · untrained, seed {BOOK_SEED}"
        found.append(ModelSource("book-124M", label, False, weight_bytes(BOOK_CONFIG, "float32")))
        return (*found, *(_hub_source(name) for name in HUB_MODELS))

    def config_of(self, source: str) -> GPTConfig:
        """The configuration of a source, at once. Raises ValueError if it is unknown."""
        self._check(source)
        return config_of(source)

    @contextlib.contextmanager
    def borrow(
        self,
        source: str,
        device: str = "cpu",
        precision: str = "float32",
        progress: Progress | None = None,
    ) -> Iterator[GPTModel]:
        """A shared model in eval mode, kept until the `with` block ends: never change it.

        Raises ValueError if it cannot be had; what was loaded before stays.
        """
        self._check(source)
        key = (source, str(check_device(device)), precision)
        held = self._take(key, progress)
        try:
            yield held.model
        finally:
            with self._changed:
                held.borrowers -= 1
                self._changed.notify_all()

    def _check(self, source: str) -> None:
        """Raises ValueError for a path that this registry was not given, or an unknown name."""
        named = {"storyteller", "book-124M", *HUB_MODELS, *self._paths}
        if source not in named and not str(source).startswith(_RANDOM):
            known = ", ".join(s.name for s in self.sources())
            raise ValueError(f"there is no model {str(source)[:60]!r}: use {known}.")

    def _take(self, key: _Key, progress: Progress | None) -> _Held:
        """The model under `key`, borrowed once more; loaded first if it is not held."""
        n_bytes = weight_bytes(config_of(key[0]), key[2])
        if n_bytes > self.budget_bytes:
            raise ValueError(
                f"this model's weights are {n_bytes / 2**20:,.0f} MiB and "
                f"{self.budget_bytes / 2**20:,.0f} MiB are allowed here: use a smaller one."
            )
        if key[0] in HUB_MODELS and key not in self._held:
            download(key[0], progress)  # others may load meanwhile, and nothing is let go for it
        with self._changed:
            if (held := self._held_or_turn(key, progress)) is not None:
                return held
        try:
            with self._changed:
                self._wait_for_room(n_bytes, progress)
            model = load_model(*key, progress=progress)
            # Visitors ask for any number of drawn ones, and torch keeps what it recorded.
            model = model if key[0].startswith(_RANDOM) else record_step(model)
            with self._changed:
                return self._held.setdefault(key, _Held(model, n_bytes, borrowers=1))
        finally:
            with self._changed:
                self._loading = False
                self._changed.notify_all()

    def _held_or_turn(self, key: _Key, progress: Progress | None) -> _Held | None:
        """The model, borrowed once more, if it is held; else None, once it is our turn to load."""
        while key not in self._held:
            if not self._loading:
                self._loading = True
                return None
            self._wait(progress, "waiting for another model to load")
        held = self._held[key]
        held.borrowers += 1
        self._held.move_to_end(key)
        return held

    def _wait_for_room(self, n_bytes: int, progress: Progress | None) -> None:
        """Lets go of what nobody uses until `n_bytes` fit; waits for borrowers if it must."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            excess = n_bytes + sum(h.n_bytes for h in self._held.values()) - self.budget_bytes
            for key in [key for key, held in self._held.items() if held.borrowers == 0]:
                if excess > 0:
                    excess -= self._held.pop(key).n_bytes
                    gc.collect()  # a recorded model is part of a cycle
            if excess <= 0:
                return
            if time.monotonic() > deadline:
                raise ValueError("all memory for models is in use: try again in a minute.")
            self._wait(progress, "waiting for memory")

    def _wait(self, progress: Progress | None, stage: str) -> None:
        if progress is not None:
            progress(0.0, stage)
        self._changed.wait(timeout=0.5)


def _on_disk(name: str, label: str) -> ModelSource:
    files = [_path(name)] if _path(name).is_file() else _path(name).glob("*.safetensors")
    return ModelSource(name, label, False, sum(file.stat().st_size for file in files))


def _hub_source(name: str) -> ModelSource:
    cfg = config_of(name)
    parameters = count_parameters(cfg).total
    n_bytes = 4 * (parameters + cfg.n_layers * cfg.context_length**2)  # the files hold the masks
    size = "downloaded" if (cached := is_cached(name)) else f"{n_bytes / 10**9:.2f} GB to download"
    called = "GPT-2 " + (name.removeprefix("gpt2-") if "-" in name else "small")
    label = f"{called} · {parameters / 10**6:,.0f} M, by OpenAI, {size}"
    return ModelSource(name, label, not cached, n_bytes)
