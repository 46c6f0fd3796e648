"""How the weights are stored and multiplied for fast generation, by name."""

from gpt.precision.choice import choose_kernels
from gpt.precision.convert import (
    DTYPES,
    PRECISIONS,
    Progress,
    check_precision,
    convert,
    dtype_of,
    named_weights,
    weight_bytes,
)

__all__ = [
    "DTYPES",
    "PRECISIONS",
    "Progress",
    "check_precision",
    "choose_kernels",
    "convert",
    "dtype_of",
    "named_weights",
    "weight_bytes",
]
