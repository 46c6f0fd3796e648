"""The GPT's pass, faster on a CPU: precisions, packed layers, the recorded decode step.

Imports the room accounting.
"""

from gpt.engine.choice import choose_kernels
from gpt.engine.convert import (
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
