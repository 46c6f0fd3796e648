"""Four machines with their published peaks: memory, bandwidth, operations a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIGA = 10**9
TERA = 10**12


@dataclass(frozen=True)
class Device:
    """A machine; peaks are per second and dense, for the arithmetic each precision uses.

    `peak_flops` has the keys of `memory.PRECISIONS`: weights in 4 bits are multiplied in float16,
    and where a machine lacks an arithmetic the fastest one it has for those numbers stands.
    """

    key: str
    label: str
    memory_bytes: int
    bandwidth_bytes: float  # a second
    peak_flops: Mapping[str, float]
    source: str


def _peaks(float32: float, float16: float, bfloat16: float, int8: float) -> dict[str, float]:
    return {
        "float32": float32 * TERA,
        "float16": float16 * TERA,
        "bfloat16": bfloat16 * TERA,
        "int8": int8 * TERA,
        "4-bit": max(float16, float32) * TERA,
    }


# Collected in November 2026 from the makers' pages; FLOP = multiply or add.
DEVICES: tuple[Device, ...] = (
    Device(
        key="laptop",
        label="Laptop (Ryzen 7 7840U, 16 GB)",
        memory_bytes=16 * GIGA,
        bandwidth_bytes=89.6 * GIGA,
        # 8 cores x 3.3 GHz base x 32 FLOP a cycle (two 256-bit multiply-adds); bfloat16 x 2
        # and int8 x 4 by AVX-512 BF16 and VNNI; float16 is converted and runs as float32.
        peak_flops=_peaks(float32=0.845, float16=0.845, bfloat16=1.69, int8=3.38),
        source=(
            "AMD product page of the Ryzen 7 7840U (2023): 8 cores, 3.3 GHz base, two channels of "
            "DDR5-5600; peak = cores × clock × 32 operations a cycle"
        ),
    ),
    Device(
        key="space",
        label="Space on CPU (2 vCPU, 16 GB)",
        memory_bytes=16 * GIGA,
        bandwidth_bytes=20 * GIGA,
        # One AVX-512 core with two multiply-add units: 2.9 GHz x 64 FLOP a cycle.
        peak_flops=_peaks(float32=0.186, float16=0.186, bfloat16=0.186, int8=0.742),
        source=(
            "Hugging Face, Spaces overview (2026): 2 vCPU, 16 GB; the processor is not stated, so "
            "one AVX-512 core at 2.9 GHz and 20 GB/s are assumed"
        ),
    ),
    Device(
        key="t4",
        label="NVIDIA T4 (16 GB)",
        memory_bytes=16 * GIGA,
        bandwidth_bytes=320 * GIGA,
        # No bfloat16 units: those numbers run as float32.
        peak_flops=_peaks(float32=8.1, float16=65, bfloat16=8.1, int8=130),
        source=(
            "NVIDIA T4 data sheet (2019); bandwidth from the product brief, 320 GB/s (the sheet "
            "says 300)"
        ),
    ),
    Device(
        key="h100",
        label="NVIDIA H100 SXM (80 GB)",
        memory_bytes=80 * GIGA,
        bandwidth_bytes=3350 * GIGA,
        # The sheet's figures with sparsity, halved.
        peak_flops=_peaks(float32=67, float16=989.5, bfloat16=989.5, int8=1979),
        source="NVIDIA H100 data sheet (2023), dense: half of the figures with sparsity",
    ),
)


def device(key: str) -> Device:
    """The device named `key`. Raises ValueError if there is none."""
    for candidate in DEVICES:
        if candidate.key == key:
            return candidate
    keys = ", ".join(candidate.key for candidate in DEVICES)
    raise ValueError(f"no device is called {key!r}: use {keys}.")
