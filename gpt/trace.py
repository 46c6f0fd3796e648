"""A record of one forward pass: every intermediate tensor, by name, with the line that made it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """One recorded tensor and where the code computed it."""

    name: str
    value: torch.Tensor
    file: str  # relative to the folder that holds `gpt/`
    line: int


class Trace:
    """What one forward pass computed, in the order in which it was computed.

    Passed to `GPTModel.forward(ids, trace=Trace())`; nothing is kept on the model, so passes
    of different visitors through one shared model cannot mix. Names are dotted paths such as
    `trf_blocks.0.att.attention`; `trace["trf_blocks.0.att.attention"]` is the tensor.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._prefix = ""

    def at(self, part: str) -> Trace:
        """The same record seen from inside `part`: names get `part.` in front."""
        inner = Trace()
        inner.entries = self.entries
        inner._prefix = f"{self._prefix}{part}."
        return inner

    def record(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """`value` itself, detached and kept under `name` with the caller's file and line."""
        frame = sys._getframe(1)
        path = Path(frame.f_code.co_filename).resolve()
        file = path.relative_to(_PACKAGE_PARENT) if path.is_relative_to(_PACKAGE_PARENT) else path
        full = self._prefix + name
        self.entries[full] = Entry(full, value.detach(), str(file), frame.f_lineno)
        return value

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.entries[self._prefix + name].value

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self.entries
