"""Every choice of a training run, with its default and its flag on the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from typing import Any

from gpt.config import GPTConfig

# The bundled model's shape: the lowest held-out loss of those tried that fits in 32 MiB.
STORYTELLER = GPTConfig(
    context_length=256, emb_dim=256, n_heads=4, n_layers=4, drop_rate=0.1, tie_weights=True
)


@dataclass(frozen=True)
class TrainOptions:
    """How a run goes; the defaults are those of the bundled storyteller."""

    text: tuple[str, ...] = field(default=(), metadata={"help": "UTF-8 files to learn from"})
    validation: str = field(default="", metadata={"help": "a held-out UTF-8 file"})
    out: str = field(default="runs/storyteller", metadata={"help": "folder for what is written"})
    steps: int = field(default=8200, metadata={"help": "updates of the weights"})
    batch_size: int = field(default=8, metadata={"help": "windows a step, over all processes"})
    micro_batch: int = field(default=8, metadata={"help": "windows a forward pass at most"})
    peak_rate: float = field(default=1e-3, metadata={"help": "learning rate after the warm-up"})
    warmup_steps: int = field(default=200, metadata={"help": "steps of linear warm-up"})
    weight_decay: float = field(default=0.5, metadata={"help": "of matrices; never of vectors"})
    beta2: float = field(default=0.95, metadata={"help": "AdamW's second decay rate"})
    clip: float = field(default=1.0, metadata={"help": "largest norm of the gradient"})
    initialisation: str = field(default="gpt2", metadata={"help": "gpt2, or torch for the book's"})
    attention_dropout: bool = field(
        default=False, metadata={"help": "drop attention weights too (much slower)"}
    )
    precision: str = field(default="bfloat16", metadata={"help": "bfloat16 or float32 arithmetic"})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    seed: int = field(default=123, metadata={"help": "of weights, order and dropout"})
    validate_every: int = field(default=1000, metadata={"help": "steps between validations"})
    checkpoint_every: int = field(default=250, metadata={"help": "steps between checkpoints"})

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batch", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use at least 1.")
        for name, allowed in (
            ("initialisation", ("gpt2", "torch")),
            ("precision", ("bfloat16", "float32")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: use {' or '.join(allowed)}.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each field of TrainOptions and GPTConfig, and `--evaluate`."""
    parser.add_argument(
        "--evaluate",
        metavar="CHECKPOINT",
        help="only print the loss of a model on --text",
    )
    for group, defaults in (
        (parser.add_argument_group("the run"), TrainOptions()),
        (parser.add_argument_group("the model"), STORYTELLER),
    ):
        for item in fields(defaults):
            flag, value = "--" + item.name.replace("_", "-"), getattr(defaults, item.name)
            text = item.metadata.get("help", "of the model")
            text += "" if value in ("", ()) else f" (default {value})"
            if isinstance(value, bool):
                parse: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
            elif isinstance(value, tuple):
                parse = {"nargs": "+", "metavar": "FILE"}
            else:
                parse = {"type": type(value), "metavar": type(value).__name__.upper()}
            group.add_argument(flag, dest=item.name, default=value, help=text, **parse)
