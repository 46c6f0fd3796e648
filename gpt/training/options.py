"""Every choice of a training run, with its default."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED, MAX_TEMPERATURE

# The bundled model's shape: the lowest held-out loss of those tried that fits in 32 MiB.
STORYTELLER = GPTConfig(
    context_length=256, emb_dim=256, n_heads=4, n_layers=4, drop_rate=0.1, tie_weights=True
)


@dataclass(frozen=True)
class TrainOptions:
    """How a run goes; the defaults are those of the bundled storyteller.

    Raises ValueError if a value is impossible.
    """

    text: tuple[str, ...] = field(default=(), metadata={"help": "UTF-8 files to learn from"})
    validation: str = field(default="", metadata={"help": "a held-out UTF-8 file"})
    vocabulary: str = field(
        default="gpt2",
        metadata={"help": "gpt2, characters, or how many byte pair tokens to train on the text"},
    )
    out: str = field(default="runs/storyteller", metadata={"help": "folder for what is written"})
    steps: int = field(default=8200, metadata={"help": "updates of the weights"})
    batch_size: int = field(default=8, metadata={"help": "windows a step, over all processes"})
    micro_batch: int = field(default=8, metadata={"help": "windows a forward pass at most"})
    optimizer: str = field(
        default="adamw",
        metadata={"help": "adamw, or muon: Muon for the blocks' matrices, AdamW for the rest"},
    )
    peak_rate: float = field(default=1e-3, metadata={"help": "learning rate after the warm-up"})
    warmup_steps: int = field(default=200, metadata={"help": "steps of linear warm-up"})
    weight_decay: float = field(default=0.5, metadata={"help": "of matrices; never of vectors"})
    beta2: float = field(default=0.95, metadata={"help": "AdamW's second decay rate"})
    clip: float = field(
        default=1.0,
        metadata={
            "help": "largest norm of the gradient; tokens that the text lacks share one row, whose "
            "gradient is the sum of theirs, so the norm is larger than over the whole vocabulary"
        },
    )
    initialisation: str = field(default="gpt2", metadata={"help": "gpt2, or torch for the book's"})
    attention_dropout: bool = field(
        default=False, metadata={"help": "drop attention weights too (much slower)"}
    )
    positions: bool = field(
        default=True, metadata={"help": "learn positions; without, each step shuffles them"}
    )
    precision: str = field(default="bfloat16", metadata={"help": "bfloat16 or float32 arithmetic"})
    device: str = field(default="cpu", metadata={"help": "cpu, cuda or mps"})
    seed: int = field(default=123, metadata={"help": "of weights, order and dropout"})
    report_every: int = field(
        default=10, metadata={"help": "steps between readings of the loss, which wait for a GPU"}
    )
    validate_every: int = field(default=1000, metadata={"help": "steps between validations"})
    checkpoint_every: int = field(default=250, metadata={"help": "steps between checkpoints"})
    prompt: str = field(default="Once upon a time", metadata={"help": "what samples continue"})
    sample_tokens: int = field(default=60, metadata={"help": "tokens of a sample at most"})
    temperature: float = field(default=0.8, metadata={"help": "of samples"})

    def __post_init__(self) -> None:
        for name, low, high in (
            *((name, 1, 2**53) for name in ("steps", "report_every", "validate_every")),
            *((name, 1, 2**53) for name in ("checkpoint_every", "sample_tokens")),
            *((name, 1, 2**16) for name in ("batch_size", "micro_batch")),
            ("warmup_steps", 0, 2**53),
            ("seed", 0, MAX_SEED),
            ("peak_rate", 0, 1e6),
            ("weight_decay", 0, 1e6),
            ("beta2", 0, math.nextafter(1, 0)),
            ("temperature", 0, MAX_TEMPERATURE),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}: use {low:,} to {high:,}.")
        number = self.vocabulary.isdecimal() and len(self.vocabulary) < 10
        if self.vocabulary not in ("gpt2", "characters") and not number:
            raise ValueError(
                f"vocabulary is {self.vocabulary[:40]!r}: use gpt2, characters or a number."
            )
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}: use more than 0, or inf for no limit.")
        for name, allowed in (
            ("optimizer", ("adamw", "muon")),
            ("initialisation", ("gpt2", "torch")),
            ("precision", ("bfloat16", "float32")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: use {' or '.join(allowed)}.")
