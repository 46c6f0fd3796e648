"""A record of one forward pass: every intermediate tensor, by name, with the line that made it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

Edit = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """One recorded tensor and where the code computed it."""

    name: str
    value: torch.Tensor
    file: str  # of its module, relative to the folder that holds the package
    line: int


@dataclass(eq=False, repr=False)
class Trace:
    """Every intermediate tensor of one forward pass, in order of computation.

    Passed to `GPTModel.forward(ids, trace=Trace())`. Nothing is kept on the model, so passes of
    several threads through one shared model cannot mix. Names are dotted paths such as
    `trf_blocks.0.att.attention`; `trace["trf_blocks.0.att.attention"]` is the tensor.

    With `edits`, the pass continues with `edits[name](value)` in place of the value of that name.
    With `keep=False` only the edits act and nothing is recorded. `between` is called after each
    block: a pass over a long prompt gives way to others there.
    """

    edits: Mapping[str, Edit] = field(default_factory=dict)
    keep: bool = True
    between: Callable[[], object] | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    prefix: str = ""  # of each name that is recorded or read

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.entries[self.prefix + name].value


def record(trace: Trace | None, name: str, value: torch.Tensor) -> torch.Tensor:
    """`value`, or the result of its edit in `trace`, with which the pass continues.

    The value is kept detached under `name`, with file and line of the caller.
    """
    if trace is None:
        return value
    full = trace.prefix + name
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
    """The same entries and edits with `part.` in front of each name that is recorded or read."""
    return None if trace is None else replace(trace, prefix=f"{trace.prefix}{part}.")
