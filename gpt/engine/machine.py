"""What this machine can compute with: its devices, and the cores that are really ours."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from pathlib import Path

import torch

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_devices() -> list[str]:
    """Names that `torch.device` takes here, the CPU first."""
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def usable_cores() -> int:
    """Cores this process may use: the smallest of affinity, container quota and CPU_CORES.

    A container sees all cores of its host, and as many threads on a share of them are slow.
    """
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    if _CGROUP_QUOTA.exists():
        quota, period = _CGROUP_QUOTA.read_text().split()
        if quota != "max":
            limits.append(math.ceil(int(quota) / int(period)))
    if os.environ.get("CPU_CORES", "").isdigit():  # set on Spaces
        limits.append(int(os.environ["CPU_CORES"]))
    return max(1, min(limits))


def return_freed_memory() -> None:
    """Gives memory that was freed back to the system, also from between what is in use (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
