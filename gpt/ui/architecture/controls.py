"""The controls of a configuration: what each allows, and what to do when a pair does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gradio as gr

from gpt.config import GPTConfig, nearest_divisible
from gpt.ui.parts.numbers import whole

BOXES = ("vocab_size", "context_length")
SLIDERS = {"emb_dim": 16_384, "n_heads": 128, "n_layers": 128}  # the longest, unless more is set
SIZES = (*BOXES, *SLIDERS)
FIELDS = (*SIZES, "drop_rate", "qkv_bias", "tie_weights")
LARGEST_SIZE = 10**9
SAYS = {
    "vocab_size": "How many tokens there are.",
    "context_length": "How many tokens the model sees at once.",
    "emb_dim": "Numbers per token. The slider steps by n_heads.",
    "n_heads": "Attention heads in a block; must divide emb_dim.",
    "n_layers": "Transformer blocks.",
    "drop_rate": "0 to 1: the share of numbers dropped in training. Changes no count.",
    "qkv_bias": "Biases in queries, keys and values. GPT-2 has them, the book does not.",
    "tie_weights": "Use the token embedding as the output head. GPT-2 does, the book does not.",
}
Suggestion = tuple[str, int]  # a field and its value


def configuration(values: Mapping[str, Any]) -> GPTConfig:
    """The configuration of plain values by field name; whole numbers may arrive as 768.0.

    Raises ValueError, in one line, if a value is missing, no number, or impossible.
    """
    sizes = {name: whole(name, values[name], 1, LARGEST_SIZE) for name in SIZES}
    try:
        return GPTConfig(**sizes, **{name: values[name] for name in FIELDS if name not in SIZES})
    except TypeError as error:
        raise ValueError(str(error)) from error


def suggestions(emb_dim: Any, n_heads: Any) -> tuple[Suggestion, ...]:
    """The nearest widths and numbers of heads that fit, at most two of each; none if they fit."""
    try:
        width = whole("emb_dim", emb_dim, 1, LARGEST_SIZE)
        heads = whole("n_heads", n_heads, 1, LARGEST_SIZE)
    except ValueError:
        return ()
    if width % heads == 0:
        return ()
    small = [n for n in range(1, math.isqrt(width) + 1) if width % n == 0]  # of 31,622 at most
    divisors = [*small, *(width // n for n in small)]
    fewer = max(n for n in divisors if n <= heads)
    more = min((n for n in divisors if n >= heads), default=fewer)
    return (
        *(("emb_dim", value) for value in nearest_divisible(width, heads)),
        *(("n_heads", value) for value in sorted({fewer, more})),
    )


def slider_update(name: str, value: int) -> dict[str, Any]:
    """An update that shows `value`, the slider made long enough for it."""
    return gr.update(value=value, maximum=max(SLIDERS[name], value))


def field_updates(cfg: GPTConfig) -> list[Any]:
    """Updates of all FIELDS that show `cfg`."""
    updates = {name: cfg[name] for name in FIELDS}
    updates |= {name: slider_update(name, cfg[name]) for name in SLIDERS}
    updates["emb_dim"] |= width_step(cfg.n_heads)
    return list(updates.values())


def width_step(n_heads: Any) -> dict[str, int]:
    """The step of the width's slider: from 0 on it meets multiples of `n_heads` only.

    At most the slider's end: what was typed may be a number that no JSON of gradio's holds.
    """
    possible = isinstance(n_heads, (int, float)) and n_heads >= 1
    return {"step": int(min(n_heads, SLIDERS["emb_dim"])) if possible else 1}


def control(name: str) -> gr.Slider | gr.Number | gr.Checkbox:
    """The component of a field with the book's value, and with the id that scripts use."""
    first = GPTConfig()
    given: dict[str, Any] = {
        "value": first[name], "label": name, "info": SAYS[name], "elem_id": f"arch-{name}",
    }  # fmt: skip
    if name in BOXES:
        return gr.Number(**given, min_width=130)
    if name in SLIDERS:
        step = width_step(first.n_heads) if name == "emb_dim" else {"step": 1}
        return gr.Slider(0, SLIDERS[name], **given, **step, min_width=220)
    if name == "drop_rate":
        return gr.Slider(0, 1, **given, step=0.05, min_width=220)
    return gr.Checkbox(**given, min_width=130)
