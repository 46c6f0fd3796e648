"""Bytes of a GPT: weights, keys and values, activations, training state, each with its formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpt.accounting.formula import Formula, Number
from gpt.accounting.parameters import count_parameters, letters_of
from gpt.config import GPTConfig

# The matrices M of attention, feed-forward and head (R rows in all) and the P - M other numbers.
# int8: a float32 scale a row, the rest in float16. 4-bit: a float16 scale per 32 numbers.
# Source for 4-bit: ggml's block_q4_0, 18 bytes for 32 numbers; int8 is one scale an output row.
_WEIGHTS: dict[str, str] = {
    "float32": "4*P",
    "float16": "2*P",
    "bfloat16": "2*P",
    "int8": "M + 4*R + 2*(P - M)",
    "4-bit": "M*18/32 + 2*(P - M)",
}
PRECISIONS = tuple(_WEIGHTS)
CACHE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 2, "4-bit": 2}

# Rajbhandari et al. 2020 (ZeRO), section 3.1: weights and gradients in 16 bits, then the
# float32 copy and Adam's two moments. The others keep everything in float32.
_TRAINING: dict[str, tuple[str, str, str]] = {
    "adamw-mixed": (
        "AdamW, mixed precision",
        "(2 + 2 + 4 + 4 + 4)*P",
        "16-bit weights and gradients; a float32 copy and two moments",
    ),
    "adamw-float32": (
        "AdamW, float32 (the book's)",
        "(4 + 4 + 4 + 4)*P",
        "weights, gradients and two moments",
    ),
    "sgd-float32": ("SGD, float32", "(4 + 4)*P", "weights and gradients, no momentum"),
}
TRAINING_STATES = tuple(_TRAINING)


@dataclass(frozen=True)
class Amount:
    """A number of bytes (or operations) with its formula, the same with numbers, and a note."""

    name: str
    value: float
    formula: str
    numbers: str
    note: str = ""
    estimate: bool = False


def amount(
    name: str,
    source: str,
    letters: Mapping[str, Number],
    note: str = "",
    estimate: bool = False,
) -> Amount:
    """`source` evaluated for `letters`, with its text."""
    formula = Formula(source)
    return Amount(
        name, formula.value(letters), formula.text(), formula.numbers(letters), note, estimate
    )


def weights(cfg: GPTConfig, precision: str = "float32") -> Amount:
    """Bytes of all parameters as stored in `precision`, one of PRECISIONS."""
    _check(precision, PRECISIONS, "precision")
    notes = {
        "int8": "matrices in 8 bits with a float32 scale a row; the rest in float16",
        "4-bit": "matrices in 4 bits with a float16 scale per 32; the rest in float16",
    }
    letters = _weight_letters(cfg)
    return amount(precision, _WEIGHTS[precision], letters, notes.get(precision, ""))


def read_per_pass(cfg: GPTConfig, precision: str) -> float:
    """Bytes of weights that a pass reads: all but the embedding rows that are only looked up."""
    total = weights(cfg, precision).value
    looked_up = cfg.context_length * cfg.emb_dim
    if not cfg.tie_weights:  # a tied table is the head and is read whole
        looked_up += cfg.vocab_size * cfg.emb_dim
    return total - looked_up * (4 if precision == "float32" else 2)


def kv_cache(cfg: GPTConfig, batch: int, seen_tokens: int, precision: str = "float32") -> Amount:
    """Bytes of the keys and values of `seen_tokens` positions in all layers."""
    _check(precision, PRECISIONS, "precision")
    letters = {**letters_of(cfg), "b": batch, "s": seen_tokens, "bytes": CACHE_BYTES[precision]}
    note = "kept in 16 bits" if precision in ("int8", "4-bit") else ""
    return amount("KV cache", "2*layers*b*s*d*bytes", letters, note)


def forward_activations(
    cfg: GPTConfig, batch: int, new_tokens: int, precision: str, last_only: bool = True
) -> Amount:
    """Most bytes of tensors alive at once in a forward pass without gradients, an estimate.

    The larger of a feed-forward (hidden, activation and result are 9 d a position, six of the
    stream's tensors wait) and the head's scores. Exact for the tensors of `gpt/model.py` in
    float32; what a kernel needs for itself comes on top. `last_only`: one position is scored,
    and a single block has no other in its feed-forward.
    """
    letters = letters_of(cfg)
    letters |= {"b": batch, "t": new_tokens, "n": 1 if last_only else new_tokens}
    letters["bytes"] = CACHE_BYTES[precision]
    at_once = {
        "15*b*t*d": "in a feed-forward",
        "b*t*d + 2*b*n*d + b*n*vocab": f"at the head, n = {letters['n']:,} scored",
    }
    if last_only and cfg.n_layers == 1:
        del at_once["15*b*t*d"]
        at_once["6*b*t*d + 2*b*n*d"] = "in the attention"
        at_once["3*b*t*d + 12*b*n*d"] = "in the feed-forward"
    largest = max(at_once, key=lambda numbers: Formula(numbers).value(letters))
    note = f"the peak is {at_once[largest]}; attention's t × t matrix is never whole"
    source = f"bytes*({largest} + t*d) + 8*t"
    return amount("activations", source, letters, note, estimate=True)


def training_state(cfg: GPTConfig, optimiser: str = "adamw-mixed") -> Amount:
    """Bytes of weights, gradients and optimiser state; `optimiser` one of TRAINING_STATES."""
    _check(optimiser, TRAINING_STATES, "optimiser")
    name, source, note = _TRAINING[optimiser]
    return amount(name, source, _weight_letters(cfg), note)


def _weight_letters(cfg: GPTConfig) -> dict[str, Number]:
    d, layers, vocab = cfg.emb_dim, cfg.n_layers, cfg.vocab_size
    return {
        "P": count_parameters(cfg).total,
        "M": layers * 12 * d * d + vocab * d,
        "R": layers * 9 * d + vocab,
    }


def _check(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: use {', '.join(allowed)}.")
