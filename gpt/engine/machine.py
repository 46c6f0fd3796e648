"""What this machine has: its devices, the cores that are really ours, what its console shows."""

import contextlib
import ctypes
import io
import math
import os
import sys
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


def show_what_can_be_shown() -> None:
    """From now on both streams show ? for what their encoding lacks, where it is not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def return_freed_memory() -> None:
    """Gives memory that was freed back to the system, also from between what is in use (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
