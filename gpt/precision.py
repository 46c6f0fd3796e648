"""How the weights are stored, by name: the precisions that a caller may ask for."""

from __future__ import annotations

import torch

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def dtype_of(precision: str) -> torch.dtype:
    """torch's dtype for "float32", "float16" or "bfloat16".

    Raises ValueError, naming what exists, for any other name.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}: use {', '.join(DTYPES)}.")
    return DTYPES[precision]
