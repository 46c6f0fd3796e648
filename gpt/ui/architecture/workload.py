"""What memory, operations and shapes are computed for: batch, tokens, number format, machine."""

from __future__ import annotations

from collections.abc import Mapping
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


def workload_controls() -> dict[str, Any]:
    """The components of a workload by NAMES, but for the two that only training needs."""
    with gr.Row():
        return {
            "batch": gr.Number(
                DEFAULTS["batch"], label="Batch",
                info="Sequences at once: 1 to 65,536.", elem_id="arch-batch", min_width=140,
            ),
            "tokens": gr.Number(
                DEFAULTS["tokens"], label="Tokens",
                info="Per sequence, up to the context.", elem_id="arch-tokens", min_width=140,
            ),
            "precision": gr.Dropdown(
                [(label, name) for name, label in LABELS.items()], value=DEFAULTS["precision"],
                label="Number format",
                info="How weights are stored.", elem_id="arch-precision", min_width=140,
            ),
            "device": gr.Dropdown(
                [(each.label, each.key) for each in DEVICES], value=DEFAULTS["device"],
                label="Machine",
                info="For times; all four are compared.", elem_id="arch-device", min_width=200,
            ),
        }  # fmt: skip


def training_controls() -> dict[str, Any]:
    """The other two components."""
    with gr.Row():
        return {
            "train_tokens": gr.Number(
                DEFAULTS["train_tokens"], label="Training tokens D", min_width=160,
                info="2.5 billion is about 20 a parameter for 124M.", elem_id="arch-train-tokens",
            ),
            "utilisation": gr.Slider(
                0.01, 1, DEFAULTS["utilisation"], step=0.01, label="Utilisation", min_width=160,
                info="The share of the peak that training reaches.", elem_id="arch-utilisation",
            ),
        }  # fmt: skip
