"""Every choice of a training run, with its default."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED, MAX_TEMPERATURE

# The bundled model's shape: the lowest held-out loss of those tried that fits in 32 MiB.
STORYTELLER_CONFIG = GPTConfig(
    context_length=256, emb_dim=256, n_heads=4, n_layers=4, drop_rate=0.1, tie_weights=True
)

_MANY = 2**53


def _option(default: Any, text: str, low: float | None = None, high: float = _MANY) -> Any:
    """A field: its help on the command line and, of a number that has any, its bounds."""
    return field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(frozen=True)
class TrainOptions:
    """The settings of a run. The bundled storyteller has muon and otherwise the defaults.

    Raises ValueError if a value is impossible.
    """

    text: tuple[str, ...] = _option((), "UTF-8 files to learn from")
    validation: str = _option("", "a held-out UTF-8 file")
    vocabulary: str = _option(
        "gpt2", "gpt2, characters, or how many byte pair tokens to train on the text"
    )
    out: str = _option("runs/storyteller", "folder for what is written")
    steps: int = _option(9000, "updates of the weights", 1)
    batch_size: int = _option(8, "windows a step, over all processes", 1, 2**16)
    micro_batch: int = _option(8, "windows a forward pass at most", 1, 2**16)
    optimizer: str = _option(
        "adamw", "adamw, or muon: Muon for the blocks' matrices, AdamW for the rest"
    )
    peak_rate: float = _option(1e-3, "learning rate after the warm-up", 0, 1e6)
    warmup_steps: int = _option(200, "steps of linear warm-up", 0)
    weight_decay: float = _option(0.5, "of matrices; never of vectors", 0, 1e6)
    beta2: float = _option(0.95, "AdamW's second decay rate", 0, math.nextafter(1, 0))
    clip: float = _option(
        1.0,
        "largest norm of the gradient; tokens that the text lacks share one row, whose gradient is "
        "the sum of theirs, so the norm is larger than over the whole vocabulary",
    )
    initialisation: str = _option("gpt2", "gpt2, or torch for the book's")
    attention_dropout: bool = _option(False, "drop attention weights too (much slower)")
    positions: bool = _option(True, "learn positions; without, each step shuffles them")
    precision: str = _option(
        "auto", "of the arithmetic: float32, bfloat16, or auto: float32 on a CPU, else bfloat16"
    )
    device: str = _option("cpu", "cpu, cuda or mps")
    seed: int = _option(123, "of weights, order and dropout", 0, MAX_SEED)
    report_every: int = _option(10, "steps between readings of the loss, which wait for a GPU", 1)
    validate_every: int = _option(1000, "steps between validations", 1)
    checkpoint_every: int = _option(250, "steps between checkpoints", 1)
    prompt: str = _option("Once upon a time", "what samples continue")
    sample_tokens: int = _option(60, "tokens of a sample at most", 1)
    temperature: float = _option(0.8, "of samples", 0, MAX_TEMPERATURE)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, low, high = getattr(self, item.name), item.metadata["low"], item.metadata["high"]
            if low is not None and not low <= value <= high:
                raise ValueError(f"{item.name} is {value}: use {low:,} to {high:,}.")
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
            ("precision", ("auto", "float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: use {' or '.join(allowed)}.")

    def with_precision(self) -> "TrainOptions":
        """With the precision that "auto" stands for.

        bfloat16 autocast took longer than float32 on an AMD EPYC with AVX2 and on an Intel Xeon
        with AVX-512 BF16; an H100's peak in bfloat16 is 15 times that in float32.
        """
        if self.precision != "auto":
            return self
        on_cpu = self.device.startswith("cpu")
        return replace(self, precision="float32" if on_cpu else "bfloat16")
