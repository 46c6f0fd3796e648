"""The folder of a run: checkpoint.pt, which continues it, and metrics.jsonl, its measurements."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoints.writing import write_file, write_text
from gpt.config import GPTConfig
from gpt.training.options import TrainOptions

# Options that do not change what a step does: a run may be continued with others.
_FREE = {"text", "validation", "out", "device", "prompt", "sample_tokens", "temperature"} | {
    f"{what}_every" for what in ("report", "validate", "checkpoint")
}


class RunFolder:
    """The folder `options.out` of a run on `ids` (n,), created if it is missing.

    Raises ValueError, as its methods do, if it cannot be created or written.
    """

    def __init__(self, cfg: GPTConfig, options: TrainOptions, ids: torch.Tensor) -> None:
        try:
            self.path = Path(options.out).expanduser()
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "no such user"
            raise ValueError(
                f"the folder {options.out} cannot be made ({reason}): use another --out."
            ) from error
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        digest = hashlib.sha256(ids.numpy()).hexdigest()
        self._settings = {"cfg": dict(cfg), "options": asdict(options), "corpus": digest}

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint at once: a crash leaves the old one or the new one, whole."""

        def write(path: Path) -> None:
            with path.open("wb") as file:  # torch.save of a path does not say why it failed
                torch.save({**self._settings, **state}, file)

        write_file(self.checkpoint, write)

    def load(self, restore: Callable[[Any], None]) -> None:
        """Calls `restore` with what is in the checkpoint, if there is one.

        Raises ValueError if it is damaged, has other settings, or `restore` raises anything.
        """
        if not self.checkpoint.exists():
            return
        wrong = "damaged"
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            wrong = "no checkpoint of this version's `train`"
            ours, theirs = _by_name(self._settings), _by_name(dict(state))
            others = [n for n in ours if n not in _FREE and ours[n] != theirs.get(n)]
            if not others:
                restore(state)
        except Exception as error:  # a malformed file, and parts of other types, can raise anything
            raise ValueError(
                f"{self.checkpoint} is {wrong}: remove it or use another --out."
            ) from error
        for name in others:
            raise ValueError(
                f"{self.checkpoint} was made with {name} {theirs.get(name)}, not {ours[name]}: use "
                "the same or another --out."
            )

    def log(self, **measured: Any) -> None:
        """Appends a line to metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(measured) + "\n")
        except OSError as error:
            raise ValueError(
                f"{self.metrics} cannot be written ({error.strerror}): make room and start "
                "again, the run continues from its checkpoint."
            ) from error

    def forget_after(self, step: int) -> None:
        """Drops the metrics of later steps, which a run that continues from `step` repeats."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a line cut short
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        write_text(self.metrics, "".join(kept))


def _by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One level of names; an option that an older checkpoint lacks has its default."""
    options = {**asdict(TrainOptions()), **settings["options"]}
    return {**options, **settings["cfg"], "corpus": settings["corpus"]}
