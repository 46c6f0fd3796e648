"""The memory that is free on a device, and a one-line error if it is too little for a model."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from gpt.accounting.memory import size_text
from gpt.engine.machine import available_devices

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def check_device(device: str | torch.device) -> torch.device:
    """torch's device of that name. Raises ValueError if it is unknown or not in this machine."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device {device!r} is unknown: use cpu, cuda or mps.") from error
    present = available_devices()
    if found.type not in present:
        raise ValueError(f"there is no {found.type} device here: use {' or '.join(present)}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"there is no device {found} here: use cuda:0 to cuda:{last}.")
    return found


def free_bytes(device: str | torch.device = "cpu") -> int | None:
    """Bytes that can still be allocated on `device`; None where the system does not say.

    On the CPU the smaller of what the machine has available and what the process's control
    groups (a container's limit) leave. Source: Linux, proc(5) and cgroup-v2.rst.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # Memory that torch holds for later use is free for this process, but not for others.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu":
        return None
    found = re.findall(r"^MemAvailable: +(\d+) kB", _text(_PROC / "meminfo"), re.MULTILINE)
    known = [*(1024 * int(kib) for kib in found), *_group_bytes()]
    return max(0, min(known)) if known else None


def check_memory(n_bytes: int, device: str | torch.device, what: str) -> None:
    """Raises ValueError, with both sizes, if `device` has not `n_bytes` left for `what`."""
    free = free_bytes(device)
    if free is not None and n_bytes > free:
        raise ValueError(
            f"{what} needs {size_text(n_bytes)} and the {torch.device(device).type} has "
            f"{size_text(free)} free: use a smaller model or precision float16."
        )


def _group_bytes() -> Iterator[int]:
    """Bytes that each control group of this process leaves; inactive cached files are free."""
    for name in re.findall("^0::/?(.*)", _text(_PROC / "self/cgroup"), re.MULTILINE):  # version 2
        group = _CGROUP / name
        while group.is_relative_to(_CGROUP):
            limit, used = (_text(group / f"memory.{n}").strip() for n in ("max", "current"))
            if limit.isdigit() and used.isdigit():  # "max" is no limit
                stat = dict(s.split() for s in _text(group / "memory.stat").splitlines())
                yield int(limit) - int(used) + int(stat.get("inactive_file", 0))
            group = group.parent


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
