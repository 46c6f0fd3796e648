"""What a visitor chooses for a run: each default, its component, the sizes, the experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from gpt.sampling import MAX_SEED
from gpt.training.choices import CHOICES
from gpt.ui.parts.numbers import whole, within

CHARACTERS, PAIRS, GPT2 = "characters", "pairs", "gpt2"
YOURS = "yours"
TEMPERATURE = 0.5  # of the sample
# Each named by the seconds to the first readable words, of stories in characters, on two cores:
# tests/benchmarks/train_tab.py measures them.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (label, dict(zip(("layers", "width", "heads", "context", "rate"), numbers, strict=True)))
    for name, label, *numbers in (
        ("small", "Small · words in about 20 s", 2, 128, 4, 32, 0.0025),
        ("medium", "Medium · about 20 s", 4, 128, 4, 32, 0.0025),
        ("large", "Large · about 40 s", 4, 192, 4, 48, 0.002),
    )
}
# Tokens read until the held-out loss is below the guess by frequency alone, and until four of five
# words of the sample are words: measured as the seconds are, counted since machines differ.
MARKS = {"small": (3_000, 390_000), "medium": (3_000, 240_000), "large": (3_500, 330_000)}


@dataclass(frozen=True)
class Number:
    """A number box; a whole number unless `low` is a fraction."""

    default: float
    label: str
    info: str
    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int)

    def component(self, name: str) -> gr.Number:
        return gr.Number(
            self.default, minimum=self.low, maximum=self.high, label=self.label, info=self.info,
            precision=0 if self.is_whole else None, elem_id=f"train-{name}", min_width=150,
        )  # fmt: skip


NUMBERS = {
    "layers": Number(2, "Blocks", "Transformer blocks in a row.", 1, 8),
    "width": Number(128, "Width", "Numbers a token; heads divide it.", 8, 512),
    "heads": Number(4, "Heads", "Of attention, a block.", 1, 16),
    "context": Number(32, "Context", "Tokens that it sees at once.", 16, 512),
    "dropout": Number(0, "Dropout", "Share of numbers set to 0.", 0.0, 0.9),
    "rate": Number(0.0025, "Learning rate", "Its peak.", 0.0, 10),
    "warmup": Number(20, "Warm-up", "Steps up to the peak.", 0, 10_000),
    "batch": Number(8, "Batch", "Windows of text a step.", 1, 64),
    "seed": Number(123, "Seed", "Same seed, same run.", 0, MAX_SEED),
    "steps": Number(0, "Steps", "0: as many as the budget buys.", 0, 100_000),
    "characters": Number(0, "Characters of text", "0: all of it.", 0, 2_000_000),
}


COMPONENTS: dict[str, Callable[[], Any]] = {
    "text": lambda: gr.Radio(CHOICES, value="stories", label="Text", elem_id="train-text"),
    "vocabulary": lambda: gr.Radio(
        [("Characters", CHARACTERS), ("Byte pairs of this text", PAIRS), ("GPT-2's", GPT2)],
        value=CHARACTERS, label="Vocabulary", info="What one token is.",
        elem_id="train-vocabulary",
    ),
    "pairs": lambda: gr.Slider(
        64, 4096, 512, step=1, label="Byte pair tokens", elem_id="train-pairs", visible=False
    ),
    "size": lambda: gr.Radio(
        [(label, name) for name, (label, _) in SIZES.items()] + [("Yours", YOURS)],
        value="small", label="Model", elem_id="train-size",
        info="By the time to first readable words, two quiet cores, stories in characters.",
    ),
    "budget": lambda: gr.Slider(
        60, 300, 60, step=10, label="Budget in seconds", elem_id="train-budget",
        info="Of computing; with other visitors it takes longer.",
    ),
    "positions": lambda: gr.Checkbox(
        True, label="Learn positions", info="Without, each step shuffles them.",
        elem_id="train-positions", min_width=150,
    ),
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "text": "stories", "vocabulary": CHARACTERS, "pairs": 512, "size": "small", "budget": 60,
    "positions": True, **{name: number.default for name, number in NUMBERS.items()},
}  # fmt: skip
_CHOSEN = {
    "text": [name for _, name in CHOICES],
    "vocabulary": [CHARACTERS, PAIRS, GPT2],
    "size": [*SIZES, YOURS],
    "positions": [True, False],
}
_LIMITS = {"pairs": (2, 50_257), "budget": (5, 300)} | {
    name: (number.low, number.high) for name, number in NUMBERS.items()
}


def checked(name: str, value: Any) -> Any:
    """`value` as the setting `name` takes it: a browser's own limits are not trusted.

    Raises ValueError, in one line, if it takes no such value.
    """
    if name in _CHOSEN:
        if value not in (allowed := _CHOSEN[name]):
            told = ", ".join(map(str, allowed))
            raise ValueError(f"{name} is {repr(value)[:40]}: use {told}.")
        return value
    low, high = _LIMITS[name]
    return (whole if isinstance(low, int) else within)(name, value, low, high)


@dataclass(frozen=True)
class Experiment:
    """A run with some settings changed, and what to look for."""

    label: str
    look_for: str
    changes: Mapping[str, Any] = field(default_factory=dict)


EXPERIMENTS = (
    Experiment(
        "The same seed twice",
        "the curve lies exactly on that of the run before: weights, order and text follow from "
        "the seed.",
    ),
    Experiment(
        "Learning rate too high",
        "the loss jumps up and stays near the baselines: each step goes past what it aims at.",
        {"rate": 1.0},
    ),
    Experiment(
        "No warm-up",
        "the first steps, which are large while nothing is known: does the loss rise before it "
        "falls, and is it behind later?",
        {"warmup": 0},
    ),
    Experiment(
        "One head instead of four",
        "the same number of parameters, but one place to look at a time: compare the held-out "
        "loss at the same second.",
        {"heads": 1},
    ),
    Experiment(
        "Without positions",
        "each step shuffles the position embeddings anew, so that they tell nothing of the order; "
        "all that is left of it is what the mask hides: learning is slower.",
        {"positions": False},
    ),
    Experiment(
        "Dropout 0.3",
        "the training loss stays above the held-out one: a third of the numbers are missing while "
        "it learns, none while it is tested.",
        {"dropout": 0.3},
    ),
    Experiment(
        "Only 2 kB of text",
        "training loss goes on falling and held-out loss turns up: it learns the text by heart.",
        {"characters": 2000},
    ),
)
