"""Four machines with their published peaks: memory, bandwidth, operations a second."""

from collections.abc import Mapping
from dataclasses import dataclass

GIGA, TERA = 10**9, 10**12


@dataclass(frozen=True)
class Device:
    """A machine; peaks are per second and dense, for the arithmetic each precision uses.

    `peak_flops` has the keys of `memory.PRECISIONS`: weights in 4 bits are multiplied in float16,
    and where a machine lacks an arithmetic the fastest one it has for those numbers stands.
    """

    label: str
    memory_bytes: int
    bandwidth_bytes: float  # a second
    peak_flops: Mapping[str, float]
    source: str
    is_gpu: bool = False


def _peaks(float32: float, float16: float, bfloat16: float, int8: float) -> dict[str, float]:
    found = {"float32": float32, "float16": float16, "bfloat16": bfloat16, "int8": int8}
    found["4-bit"] = max(float16, float32)
    return {precision: peak * TERA for precision, peak in found.items()}


# Collected in November 2026 from the makers' pages; FLOP = multiply or add. Laptop: 8 cores x
# 3.3 GHz base x 32 FLOP a cycle (two 256-bit multiply-adds); bfloat16 x 2 and int8 x 4 by AVX-512
# BF16 and VNNI; float16 is converted and runs as float32. Space: one AVX-512 core with two
# multiply-add units, 2.9 GHz x 64 FLOP a cycle. T4: no bfloat16 units, those run as float32.
DEVICES: dict[str, Device] = {
    "laptop": Device(
        "Laptop (Ryzen 7 7840U, 16 GB)",
        16 * GIGA,
        89.6 * GIGA,
        _peaks(float32=0.845, float16=0.845, bfloat16=1.69, int8=3.38),
        "AMD product page of the Ryzen 7 7840U (2023): 8 cores, 3.3 GHz base, two channels of "
        "DDR5-5600; peak = cores × clock × 32 operations a cycle",
    ),
    "space": Device(
        "Space on CPU (2 vCPU, 16 GB)",
        16 * GIGA,
        20 * GIGA,
        _peaks(float32=0.186, float16=0.186, bfloat16=0.186, int8=0.742),
        "Hugging Face, Spaces overview (2026): 2 vCPU, 16 GB; the processor is not stated, so "
        "one AVX-512 core at 2.9 GHz and 20 GB/s are assumed",
    ),
    "t4": Device(
        "NVIDIA T4 (16 GB)",
        16 * GIGA,
        320 * GIGA,
        _peaks(float32=8.1, float16=65, bfloat16=8.1, int8=130),
        "NVIDIA T4 data sheet (2019); bandwidth from the product brief, 320 GB/s (the sheet "
        "says 300)",
        is_gpu=True,
    ),
    "h100": Device(
        "NVIDIA H100 SXM (80 GB)",
        80 * GIGA,
        3350 * GIGA,
        _peaks(float32=67, float16=989.5, bfloat16=989.5, int8=1979),
        "NVIDIA H100 data sheet (2023), dense: half of the figures with sparsity",
        is_gpu=True,
    ),
}
