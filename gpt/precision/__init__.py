"""How the weights are stored and multiplied for fast generation, by name."""

from gpt.precision.convert import (
    DTYPES,
    PRECISIONS,
    Progress,
    check_precision,
    convert,
    dtype_of,
    weight_bytes,
)

__all__ = [
    "DTYPES",
    "PRECISIONS",
    "Progress",
    "check_precision",
    "convert",
    "dtype_of",
    "weight_bytes",
]
