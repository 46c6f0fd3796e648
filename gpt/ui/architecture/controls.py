"""The controls: what each allows, what the values mean, what to do where a pair does not fit."""

import math
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from gpt.accounting.machines import DEVICES, Device
from gpt.accounting.memory import PRECISIONS
from gpt.config import GPTConfig, nearest_divisible
from gpt.ui.architecture.presets import TRILLION
from gpt.ui.parts.numbers import whole, within

FIELDS = tuple(GPTConfig())
BOXES = ("vocab_size", "context_length")
SLIDERS = ("emb_dim", "n_heads", "n_layers")  # which end at the largest preset's sizes
LARGEST_SIZE, LARGEST_BATCH = 10**9, 65_536
# What memory, operations and shapes are computed for.
WORKLOAD: dict[str, Any] = {
    "batch": 1, "tokens": 1024, "precision": "float16", "device": "laptop",
    "train_tokens": 2.5e9, "utilisation": 0.4,
}  # fmt: skip
DEFAULTS = {**GPTConfig(), **WORKLOAD}
# What a number format is called on the page.
LABELS = {name: name for name in PRECISIONS} | {"4-bit": "4-bit (not implemented here)"}

_INFO = {
    "vocab_size": "How many tokens there are.",
    "context_length": "How many tokens the model sees at once.",
    "emb_dim": "Numbers per token. The slider steps by n_heads.",
    "n_heads": "Attention heads in a block; must divide emb_dim.",
    "n_layers": "Transformer blocks, one after the other in the residual stream.",
    "drop_rate": "0 to 1: the share of numbers dropped in training. Changes no count.",
    "qkv_bias": "Biases in queries, keys and values. GPT-2 has them, the book does not.",
    "tie_weights": "Use the token embedding as the output head. GPT-2 does, the book does not.",
}
_OF_WORKLOAD = {
    "batch": partial(
        gr.Number, label="Batch", info="Sequences at once: 1 to 65,536.", min_width=140
    ),
    "tokens": partial(
        gr.Number, label="Tokens", info="Per sequence, up to the context.", min_width=140
    ),
    "precision": partial(
        gr.Dropdown, [(label, name) for name, label in LABELS.items()], label="Number format",
        info="How weights are stored.", min_width=140,
    ),
    "device": partial(
        gr.Dropdown, [(each.label, key) for key, each in DEVICES.items()], label="Machine",
        info="For times; all four are compared.", min_width=200,
    ),
    "train_tokens": partial(
        gr.Number, label="Training tokens D", min_width=160,
        info="2.5 billion is about 20 a parameter for 124M.",
    ),
    "utilisation": partial(
        gr.Slider, 0.01, 1, step=0.01, label="Utilisation", min_width=160,
        info="The share of the peak that training reaches.",
    ),
}  # fmt: skip


def control(name: str) -> Any:
    """The component of one of DEFAULTS, with the id that scripts use."""
    first = DEFAULTS[name]
    if name in WORKLOAD:
        return _OF_WORKLOAD[name](value=first, elem_id=f"arch-{name.replace('_', '-')}")
    said = {"label": name, "info": _INFO[name], "elem_id": f"arch-{name}"}
    if name in SLIDERS:
        step = DEFAULTS["n_heads"] if name == "emb_dim" else 1
        return gr.Slider(0, TRILLION[name], first, step=step, min_width=220, **said)
    if name == "drop_rate":
        return gr.Slider(0, 1, first, step=0.05, min_width=220, **said)
    kind = gr.Number if name in BOXES else gr.Checkbox
    return kind(first, min_width=130, **said)


def configuration(values: Mapping[str, Any]) -> GPTConfig:
    """The configuration of plain values by field name; whole numbers may arrive as 768.0.

    Raises ValueError, in one line, if a value is missing, no number, or impossible.
    """
    given = {name: values[name] for name in FIELDS}
    given |= {name: whole(name, given[name], 1, LARGEST_SIZE) for name in (*BOXES, *SLIDERS)}
    try:
        return GPTConfig(**given)
    except TypeError as error:
        raise ValueError(str(error)) from error


class Workload(NamedTuple):
    """A validated workload; `tokens` is at most the context of the model."""

    batch: int
    tokens: int
    precision: str
    device: Device
    train_tokens: float
    utilisation: float
    cut: str = ""  # told when `tokens` had to be cut


def workload_of(values: Mapping[str, Any], cfg: GPTConfig) -> Workload:
    """The workload of plain values by the names of WORKLOAD, for a model of `cfg`.

    Raises ValueError, in one line, if one is missing or out of range.
    """
    batch = whole("batch", values["batch"], 1, LARGEST_BATCH)
    tokens = whole("tokens", values["tokens"], 1, LARGEST_SIZE)
    precision = values["precision"]
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use {', '.join(PRECISIONS)}.")
    if (device := values["device"]) not in tuple(DEVICES):
        raise ValueError(f"no device is called {device!r}: use {', '.join(DEVICES)}.")
    limit = f"{cfg.context_length:,}"
    cut = f"{tokens:,} tokens exceed the context of {limit}: computed for {limit}."
    return Workload(
        batch,
        min(tokens, cfg.context_length),
        precision,
        DEVICES[device],
        within("training tokens", values["train_tokens"], 1, 1e15),
        within("utilisation", values["utilisation"], 0.01, 1),
        cut if tokens > cfg.context_length else "",
    )


def suggestions(emb_dim: Any, n_heads: Any) -> tuple[tuple[str, int], ...]:
    """Field and value of the nearest widths and heads, at most two of each; none if these fit."""
    try:
        width, heads = (whole("size", size, 1, LARGEST_SIZE) for size in (emb_dim, n_heads))
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


def problem_html(error: ValueError, given: Mapping[str, Any] | None = None) -> str:
    """What is impossible; beside the controls, whose values are `given`, what to do about it."""
    more = ""
    if given is not None:
        buttons = "".join(
            f'<button type="button" data-field="{field}" data-value="{value}">{field} = {value:,}'
            "</button>"
            for field, value in suggestions(given["emb_dim"], given["n_heads"])
        )
        if buttons:
            more = f' Or take one of these: <span id="arch-suggestions">{buttons}</span>'
        more += "<small>The figures still show the last possible configuration.</small>"
    return f'<div class="arch-problem" role="alert"><b>{escape(str(error))}</b>{more}</div>'


def field_updates(cfg: GPTConfig) -> dict[str, Any]:
    """Updates of all FIELDS, by name, that show `cfg`."""
    return {**cfg, "emb_dim": gr.update(value=cfg.emb_dim, **width_step(cfg.n_heads))}


def width_step(n_heads: Any) -> dict[str, int]:
    """The step of the width's slider: from 0 on it meets multiples of `n_heads` only.

    At most the slider's end: what was typed may be a number that no JSON of gradio's holds.
    """
    possible = isinstance(n_heads, (int, float)) and n_heads >= 1
    return {"step": int(min(n_heads, TRILLION.emb_dim)) if possible else 1}
