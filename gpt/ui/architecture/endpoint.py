"""The endpoint /architecture: the configuration's eight fields in, the count and table out."""

from __future__ import annotations

from typing import Any

from gpt.accounting import count_parameters
from gpt.accounting.memory import weights
from gpt.ui.architecture.controls import configuration


def architecture(
    vocab_size: int = 50257,
    context_length: int = 1024,
    emb_dim: int = 768,
    n_heads: int = 12,
    n_layers: int = 12,
    drop_rate: float = 0.1,
    qkv_bias: bool = False,
    tie_weights: bool = False,
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A sentence with the total, the table (headers, data), and the numbers as JSON.

    Every parameter defaults to the book's 124M configuration. A whole number above 2**53, which
    JSON readers round or refuse, is rounded to a float, and stands in full under "exact".
    """
    cfg = configuration(locals())
    count = count_parameters(cfg)
    headers = ["part", "shape", "formula", "with these numbers", "parameters", "what for"]
    data = [
        [row.name, row.shape, row.formula, row.numbers, _for_json(row.count), row.purpose]
        for row in count.rows
    ]
    exact = {
        "total": count.total,
        "block": count.block,
        "float32_bytes": int(weights(cfg).value),
    }
    numbers: dict[str, Any] = {name: _for_json(value) for name, value in exact.items()}
    numbers["exact"] = {name: str(value) for name, value in exact.items()}
    numbers["config"] = dict(cfg)
    return f"{count.total:,} parameters", {"headers": headers, "data": data}, numbers


def _for_json(whole: int) -> int | float:
    """`whole`, or the nearest float where a browser would round it anyway."""
    return whole if whole <= 2**53 else float(whole)
