"""What memory, operations and shapes are computed for: batch, tokens, number format, machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from gpt.accounting.machines import DEVICES, Device, device
from gpt.accounting.memory import PRECISIONS
from gpt.config import GPTConfig
from gpt.ui.parts.numbers import whole, within

LARGEST_BATCH = 65_536
# What a number format is called on the page.
LABELS = {name: name for name in PRECISIONS} | {"4-bit": "4-bit (not implemented here)"}
DEFAULTS: dict[str, Any] = {
    "batch": 1, "tokens": 1024, "precision": "float16", "device": "laptop",
    "train_tokens": 2.5e9, "utilisation": 0.4,
}  # fmt: skip
NAMES = tuple(DEFAULTS)


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
    """The workload of plain values by NAMES, for a model of `cfg`.

    Raises ValueError, in one line, if one is missing or out of range.
    """
    batch = whole("batch", values["batch"], 1, LARGEST_BATCH)
    tokens = whole("tokens", values["tokens"], 1, 10**9)
    precision = values["precision"]
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use {', '.join(PRECISIONS)}.")
    cut = ""
    if tokens > cfg.context_length:
        limit = f"{cfg.context_length:,}"
        cut = f"{tokens:,} tokens exceed the context of {limit}: computed for {limit}."
    return Workload(
        batch,
        min(tokens, cfg.context_length),
        precision,
        device(values["device"]),
        within("training tokens", values["train_tokens"], 1, 1e15),
        within("utilisation", values["utilisation"], 0.01, 1),
        cut,
    )


_KINDS = {
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
        gr.Dropdown, [(each.label, each.key) for each in DEVICES], label="Machine",
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


def workload_control(name: str) -> Any:
    """The component of one of NAMES, with the id that scripts use."""
    return _KINDS[name](value=DEFAULTS[name], elem_id=f"arch-{name.replace('_', '-')}")
