"""The controls of a configuration: what each allows, and what to do when a pair does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpt.config import GPTConfig, nearest_divisible
from gpt.ui.architecture.presets import CUSTOM, Preset

SIZES = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers")
FIELDS = (*SIZES, "drop_rate", "qkv_bias", "tie_weights")
LARGEST_SIZE = 10**9  # what the endpoint takes; sliders reach less


@dataclass(frozen=True)
class Range:
    """What a slider reaches at each of REACHES, its step, and one sentence of help."""

    minimum: int
    maxima: tuple[int, int, int]
    step: int
    about: str


REACHES = ("GPT-2 sizes", "GPT-3 sizes", "beyond any machine")
RANGES: dict[str, Range] = {
    "vocab_size": Range(1, (102_400, 262_144, 1_048_576), 1, "How many tokens there are."),
    "context_length": Range(1, (4_096, 32_768, 1_048_576), 1, "How many tokens it sees at once."),
    "emb_dim": Range(
        1, (2_048, 16_384, 65_536), 1, "Numbers per token. The slider steps by n_heads."
    ),
    "n_heads": Range(1, (32, 128, 512), 1, "Attention heads a block; must divide emb_dim."),
    "n_layers": Range(1, (64, 128, 1_024), 1, "Transformer blocks."),
}
SAYS = {
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


def reach_for(cfg: GPTConfig) -> int:
    """The index of the first of REACHES whose sliders can show `cfg`."""
    for index in range(len(REACHES)):
        if all(getattr(cfg, name) <= RANGES[name].maxima[index] for name in SIZES):
            return index
    return len(REACHES) - 1


def allowed(name: str, reach: int) -> str:
    """The help of a size: what it is and what the slider allows."""
    limits = RANGES[name]
    return f"{limits.about} {limits.minimum:,} to {limits.maxima[reach]:,}."


def within_reach_js(components: list[Any]) -> str:
    """JavaScript that clips what sliders send to their ends, as the page does on leaving them.

    While somebody types, a number can be too large or absent, which the server would refuse
    before any function of ours could answer. `components` in the order of the event's inputs.
    """
    ids = json.dumps([getattr(component, "elem_id", None) or "" for component in components])
    return f"""(...values) => values.map((value, i) => {{
        const id = {ids}[i];
        const range = id && document.querySelector(`#${{id}} input[type=range]`);
        if (!range) return value;
        const given = typeof value === "number" ? value : Number(range.value);
        return Math.min(Math.max(given, Number(range.min)), Number(range.max));
    }})"""


def reached(name: str, reach: int, value: float) -> Any:
    """An update of a slider's end and help: as long as `reach` says, and as `value` needs."""
    limits = RANGES[name]
    return gr.update(maximum=max(limits.maxima[reach], int(value)), info=allowed(name, reach))


def width_steps(emb_dim: Any, n_heads: Any) -> dict[str, int]:
    """Least value and step of the width's slider, so that it meets multiples of `n_heads` only."""
    try:
        width, heads = _whole("emb_dim", emb_dim), _whole("n_heads", n_heads)
    except ValueError:
        return {}
    step = heads if 1 <= heads <= width else 1
    return {"minimum": step, "step": step}


def slider_updates(cfg: GPTConfig) -> list[Any]:
    """Updates of all FIELDS that show `cfg`, with sliders long enough for it."""
    reach = reach_for(cfg)
    sizes = {name: {**reached(name, reach, cfg[name]), "value": cfg[name]} for name in SIZES}
    sizes["emb_dim"] |= width_steps(cfg.emb_dim, cfg.n_heads)
    return [*sizes.values(), cfg.drop_rate, cfg.qkv_bias, cfg.tie_weights]


class Controls:
    """The components of a configuration, with the ids that scripts use."""

    def __init__(self, presets: tuple[Preset, ...], first: GPTConfig) -> None:
        self.preset = gr.Dropdown(
            [*((preset.label, preset.key) for preset in presets), ("your own sizes", CUSTOM)],
            value=presets[0].key,
            label="preset",
            elem_id="arch-preset",
            info="A named configuration; change any control afterwards.",
        )
        self.fields: dict[str, Any] = {name: _slider(name, first) for name in SIZES}
        self.fields["drop_rate"] = gr.Slider(
            0, 1, first.drop_rate, step=0.05, label="drop_rate", info=SAYS["drop_rate"],
            elem_id="arch-drop_rate",
        )  # fmt: skip
        with gr.Row():
            for name in ("qkv_bias", "tie_weights"):
                self.fields[name] = gr.Checkbox(
                    getattr(first, name), label=name, info=SAYS[name], elem_id=f"arch-{name}",
                    min_width=130,
                )  # fmt: skip
        self.reach = gr.Radio(
            list(REACHES), value=REACHES[0], label="sliders reach", elem_id="arch-reach",
            info="Longer sliders for larger models; presets switch this by themselves.",
        )  # fmt: skip
        self.reset = gr.Button("Reset to the book's 124M", size="sm", elem_id="arch-reset")

    @property
    def components(self) -> list[Any]:
        """The components of FIELDS, in that order."""
        return [self.fields[name] for name in FIELDS]


def _slider(name: str, first: GPTConfig) -> gr.Slider:
    limits = RANGES[name]
    ends = {"minimum": limits.minimum, "step": limits.step}
    if name == "emb_dim":
        ends = width_steps(first.emb_dim, first.n_heads)
    return gr.Slider(
        value=getattr(first, name),
        maximum=limits.maxima[0],
        **ends,
        label=name,
        info=allowed(name, 0),
        elem_id=f"arch-{name}",
    )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise ValueError(f"{name} is {value!r}: use a whole number of at least 1.")
    if value > LARGEST_SIZE:
        raise ValueError(f"{name} is {value:,.0f}: use at most {LARGEST_SIZE:,}.")
    return int(value)
