"""A record of one forward pass: every intermediate tensor, by name, with the line that made it."""

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Edit = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """One recorded tensor and where the code computed it."""

    name: str
    value: torch.Tensor
    file: str  # of its module, relative to the folder that holds the package
    line: int


class Trace:
    """Every intermediate tensor of one forward pass, in order of computation.

    Passed to `GPTModel.forward(ids, trace=Trace())`. Nothing is kept on the model, so passes of
    several threads through one shared model cannot mix. Names are dotted paths such as
    `trf_blocks.0.att.attention`; `trace["trf_blocks.0.att.attention"]` is the tensor.

    With `edits`, the pass continues with `edits[name](value)` in place of the value of that name.
    With `keep=False` only the edits act and nothing is recorded. `between` is called after each
    block: a pass over a long prompt gives way to others there.
    """

    def __init__(
        self,
        edits: Mapping[str, Edit] | None = None,
        keep: bool = True,
        between: Callable[[], object] | None = None,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.edits = dict(edits or {})
        self.keep, self.between = keep, between
        self._prefix = ""

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.entries[self._prefix + name].value


def record(trace: Trace | None, name: str, value: torch.Tensor) -> torch.Tensor:
    """`value`, or the result of its edit in `trace`, with which the pass continues.

    The value is kept detached under `name`, with file and line of the caller.
    """
    if trace is None:
        return value
    full = trace._prefix + name
    if full in trace.edits:
        value = trace.edits[full](value)
    if trace.keep:
        caller = sys._getframe(1)
        file = caller.f_globals["__name__"].replace(".", "/") + ".py"
        trace.entries[full] = Entry(full, value.detach(), file, caller.f_lineno)
    if trace.between is not None and name == "resid_out":
        trace.between()
    return value


def inside(trace: Trace | None, part: str) -> Trace | None:
    """The same trace with `part.` in front of each name that is recorded or read."""
    if trace is None:
        return None
    inner = copy.copy(trace)  # shares entries and edits
    inner._prefix = f"{trace._prefix}{part}."
    return inner
