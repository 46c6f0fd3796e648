"""Loaded models, shared by all visitors and bounded in memory."""

import contextlib
import gc
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping

from gpt.accounting import count_parameters
from gpt.accounting.memory import size_text, weight_bytes
from gpt.checkpoints import HUB_MODELS, Progress, check_device, download, free_bytes, is_cached
from gpt.checkpoints.sources import (
    BOOK_SEED,
    RANDOM,
    STORYTELLER,
    TRAINED,
    config_of,
    is_kept,
    is_named,
    load_model,
)
from gpt.config import GPTConfig
from gpt.model import GPTModel

Key = tuple[str, str, str]  # source, device, precision

_LAYER_BYTES = 75_000  # of a block's Python objects, whatever its width, once it has decoded
# Of a model that a visitor may have made in a few seconds; each step sorts the vocabulary.
_MOST_DRAWN = {"n_layers": 1000, "vocab_size": 2**18}


def held_bytes(cfg: GPTConfig, precision: str) -> int:
    """What a loaded model takes: its weights, and the objects of its layers."""
    return weight_bytes(cfg, precision) + _LAYER_BYTES * cfg.n_layers


class Registry:
    """Loaded models, shared by all visitors: bounded in memory, one load at a time.

    The least recently used goes first, and never one that somebody has borrowed. Without
    `budget_bytes`, half of the memory that is free now. `paths` are folders or files on disk
    that may be asked for by these strings too, no other may; each with its configuration if there
    is none beside it, else None. Who needs room waits at most `wait_seconds`; after
    `patience_seconds` nobody else is given what is loaded, so that it comes free.
    """

    wait_seconds, patience_seconds = 60.0, 20.0

    def __init__(
        self, budget_bytes: int | None = None, paths: Mapping[str, GPTConfig | None] | None = None
    ) -> None:
        if budget_bytes is None:
            free = free_bytes()
            budget_bytes = (free if free is not None else 8 * 2**30) // 2
        self.budget_bytes = budget_bytes
        self._paths = dict(paths or {})
        self._held: OrderedDict[Key, GPTModel] = OrderedDict()  # oldest use first
        self._borrowers: Counter[Key] = Counter()
        self._changed = threading.Condition()
        self._loading = self._impatient = False

    def sources(self) -> dict[str, str]:
        """The names that `borrow` can be asked for, a picker's default first; a line for each."""
        found = {}
        if (STORYTELLER / "model.safetensors").exists():
            found["storyteller"] = "Storyteller · small, trained on fairy tales"
        found |= {path: path for path in self._paths}
        found["book-124M"] = f"The book's 124M · untrained, seed {BOOK_SEED}"
        return found | {name: _hub_label(name) for name in HUB_MODELS}

    def config_of(self, source: str) -> GPTConfig:
        """The configuration of a source, at once. Raises ValueError if it is unknown."""
        if not isinstance(source, str):
            raise ValueError(f"the model is {repr(source)[:40]}: use a name.")
        known = is_named(source) or is_kept(source) or source in self._paths
        if not known and source.startswith(TRAINED):
            raise ValueError("this trained model was kept for an hour and is gone: train it again.")
        if not known:
            raise ValueError(f"there is no model {source[:60]!r}: use {', '.join(self.sources())}.")
        return self._paths.get(source) or config_of(source)

    @contextlib.contextmanager
    def borrow(
        self,
        source: str,
        device: str = "cpu",
        precision: str = "float32",
        progress: Progress | None = None,
    ) -> Iterator[GPTModel]:
        """A shared model in eval mode, kept until the `with` block ends: never change it.

        Raises ValueError if it cannot be had. Other models are let go only once everything that
        can be checked about this one was found right.
        """
        key = (source, str(check_device(device)), precision)
        model = self._take(key, progress)
        try:
            yield model
        finally:
            with self._changed:
                self._borrowers[key] -= 1
                self._changed.notify_all()

    def _allowed_bytes(self, source: str, precision: str) -> int:
        """What a model takes. Raises ValueError if that, or its depth, is more than is allowed."""
        cfg = self.config_of(source)
        for name, most in _MOST_DRAWN.items():
            if source.startswith(RANDOM) and cfg[name] > most:
                raise ValueError(f"{name} is {cfg[name]:,}: a model to run may have {most:,} here.")
        n_bytes = held_bytes(cfg, precision)
        if n_bytes > self.budget_bytes:
            raise ValueError(
                f"this model takes {size_text(n_bytes)} and {size_text(self.budget_bytes)} "
                "are allowed here: use a smaller one."
            )
        return n_bytes

    def _take(self, key: Key, progress: Progress | None) -> GPTModel:
        """The model under `key`, borrowed once more; loaded first if it is not held."""
        n_bytes = self._allowed_bytes(key[0], key[2])
        if key[0] in HUB_MODELS and key not in self._held:
            download(key[0], progress)  # others may load meanwhile, and nothing is let go for it
        with self._changed:
            while self._impatient if key in self._held else self._loading:
                self._wait(progress, "waiting for another model to load")
            if key in self._held:
                self._borrowers[key] += 1
                self._held.move_to_end(key)
                return self._held[key]
            self._loading = True
        try:
            model = load_model(
                *key,
                self._paths.get(key[0]),
                progress,
                make_room=lambda: self._make_room(n_bytes, progress),
            )
            with self._changed:
                self._held[key] = model
                self._borrowers[key] = 1
            return model
        finally:
            with self._changed:
                self._loading = self._impatient = False
                self._changed.notify_all()

    def _make_room(self, n_bytes: int, progress: Progress | None) -> None:
        """Waits until the models that are in use leave `n_bytes`, then lets go of others."""
        started = time.monotonic()
        with self._changed:
            while not self._let_go(n_bytes):
                waited = time.monotonic() - started
                if waited > self.wait_seconds:
                    raise ValueError("all memory for models is in use: try again in a minute.")
                self._impatient = waited >= self.patience_seconds
                self._wait(progress, "waiting for memory")
            self._impatient = False
            self._changed.notify_all()

    def _let_go(self, n_bytes: int) -> bool:
        """Whether `n_bytes` fit now, after letting go of what nobody uses; of nothing if not."""
        sizes = {key: held_bytes(model.cfg, key[2]) for key, model in self._held.items()}
        excess = n_bytes + sum(sizes.values()) - self.budget_bytes
        idle = [key for key in sizes if not self._borrowers[key]]
        if excess > sum(sizes[key] for key in idle):
            return False
        for key in idle:
            if excess > 0:
                excess -= sizes[key]
                del self._held[key], self._borrowers[key]
                gc.collect()  # a recorded model is part of a cycle
        return True

    def _wait(self, progress: Progress | None, stage: str) -> None:
        if progress is not None:
            progress(0.0, stage)
        self._changed.wait(timeout=0.5)


def _hub_label(name: str) -> str:
    cfg = config_of(name)
    parameters = count_parameters(cfg).total
    n_bytes = 4 * (parameters + cfg.n_layers * cfg.context_length**2)  # the files hold the masks
    size = "downloaded" if is_cached(name) else f"{n_bytes / 10**9:.2f} GB to download"
    called = "GPT-2 " + (name.removeprefix("gpt2-") if "-" in name else "small")
    return f"{called} · {parameters / 10**6:,.0f} M, by OpenAI, {size}"
