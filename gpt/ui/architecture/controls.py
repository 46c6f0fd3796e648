"""The controls of a configuration: what each allows, and what to do when a pair does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpt.config import GPTConfig, nearest_divisible
from gpt.ui.architecture.presets import CUSTOM, Preset

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


@dataclass(frozen=True)
class Suggestion:
    """A change of one field that makes the pair of width and heads possible."""

    field: str
    value: int

    @property
    def text(self) -> str:
        return f"{self.field} = {self.value:,}"


def configuration(values: Mapping[str, Any]) -> GPTConfig:
    """The configuration of plain values by field name; whole numbers may arrive as 768.0.

    Raises ValueError, in one line, if a value is missing, no number, or impossible.
    """
    fields: dict[str, Any] = {}
    for name in SIZES:
        fields[name] = _whole(name, values[name])
    drop_rate = values["drop_rate"]
    if isinstance(drop_rate, bool) or not isinstance(drop_rate, (int, float)):
        raise ValueError(f"drop_rate is {drop_rate!r}: use a number from 0 to 1.")
    fields["drop_rate"] = float(drop_rate)
    for name in ("qkv_bias", "tie_weights"):
        if not isinstance(values[name], bool):
            raise ValueError(f"{name} is {values[name]!r}: use true or false.")
        fields[name] = values[name]
    return GPTConfig(**fields)


def suggestions(emb_dim: Any, n_heads: Any) -> tuple[Suggestion, ...]:
    """The nearest widths and numbers of heads that fit, at most two of each; none if they fit."""
    try:
        width, heads = _whole("emb_dim", emb_dim), _whole("n_heads", n_heads)
    except ValueError:
        return ()
    if width < 1 or heads < 1 or width % heads == 0:
        return ()
    widths = nearest_divisible(width, heads)
    divisors = _divisors(width)
    fewer = max(n for n in divisors if n <= heads)
    more = min((n for n in divisors if n >= heads), default=fewer)
    return (
        *(Suggestion("emb_dim", value) for value in widths),
        *(Suggestion("n_heads", value) for value in sorted({fewer, more})),
    )


def _divisors(width: int) -> list[int]:
    """All divisors, in no order, from those up to the square root: at most 31,622 are tried."""
    small = [n for n in range(1, math.isqrt(width) + 1) if width % n == 0]
    return [*small, *(width // n for n in small)]


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
    whole = isinstance(n_heads, (int, float)) and n_heads >= 1
    return {"step": int(min(n_heads, SLIDERS["emb_dim"])) if whole else 1}


class Controls:
    """The components of a configuration, with the ids that scripts use.

    Made in three steps, in the order of the page: preset, the sliders, the rest.
    """

    def __init__(self, presets: tuple[Preset, ...], first: GPTConfig) -> None:
        self.first = first
        self.fields: dict[str, Any] = {}
        self.preset = gr.Dropdown(
            [*((preset.label, preset.key) for preset in presets), ("your own sizes", CUSTOM)],
            value=presets[0].key,
            label="Preset",
            elem_id="arch-preset",
        )

    def sliders(self) -> None:
        with gr.Row():
            for name in SLIDERS:
                step = width_step(self.first.n_heads) if name == "emb_dim" else {"step": 1}
                self.fields[name] = gr.Slider(
                    0, SLIDERS[name], self.first[name], label=name, info=SAYS[name],
                    elem_id=f"arch-{name}", min_width=220, **step,
                )  # fmt: skip

    def rest(self) -> None:
        with gr.Row():
            for name in BOXES:
                self.fields[name] = gr.Number(
                    self.first[name], label=name, info=SAYS[name], elem_id=f"arch-{name}",
                    min_width=130,
                )  # fmt: skip
            self.fields["drop_rate"] = gr.Slider(
                0, 1, self.first.drop_rate, step=0.05, label="drop_rate", info=SAYS["drop_rate"],
                elem_id="arch-drop_rate", min_width=220,
            )  # fmt: skip
        with gr.Row():
            for name in ("qkv_bias", "tie_weights"):
                self.fields[name] = gr.Checkbox(
                    self.first[name], label=name, info=SAYS[name], elem_id=f"arch-{name}",
                    min_width=130,
                )  # fmt: skip
        self.reset = gr.Button("Reset to the book's 124M", size="sm", elem_id="arch-reset")

    @property
    def components(self) -> list[Any]:
        """The components of FIELDS, in that order."""
        return [self.fields[name] for name in FIELDS]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        shown = "empty" if value is None else repr(value)
        raise ValueError(f"{name} is {shown}: use a whole number of at least 1.")
    if value > LARGEST_SIZE:
        raise ValueError(f"{name} is {value:,.0f}: use at most {LARGEST_SIZE:,}.")
    return int(value)
