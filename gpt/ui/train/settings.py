"""What a visitor chooses for a run: each default, its component, the sizes, the experiments."""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from gpt.sampling import MAX_SEED
from gpt.training.choices import CHOICES
from gpt.ui.parts.numbers import whole, within

CHARACTERS, PAIRS, GPT2 = "characters", "pairs", "gpt2"
YOURS = "yours"
TEMPERATURE = 0.5  # of the sample
# Each named by its time to the first readable words, of stories in characters, beside the small
# one's: 16, 34 and 52 s on two cores of an AMD EPYC (assets/benchmarks/train_tab.txt). Seconds
# differ between machines and hours: they are in the estimate alone.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("Small · words soonest",
              {"layers": 2, "width": 128, "heads": 4, "context": 32, "rate": 0.0025}),
    "medium": ("Medium · twice as long",
               {"layers": 4, "width": 128, "heads": 4, "context": 32, "rate": 0.0025}),
    "large": ("Large · three times as long",
              {"layers": 4, "width": 192, "heads": 4, "context": 48, "rate": 0.002}),
}  # fmt: skip
# Tokens read until the held-out loss is below the guess by frequency alone, and until four of five
# words of the sample are words: measured as the seconds are, counted since machines differ.
MARKS = {"small": (3_000, 390_000), "medium": (3_000, 350_000), "large": (3_500, 370_000)}


def _number(value: float, label: str, info: str, low: float, high: float) -> partial[Any]:
    """A box for a number, a whole one where `low` is whole."""
    precision = 0 if isinstance(low, int) else None
    return partial(
        gr.Number, value=value, label=label, info=info, minimum=low, maximum=high,
        precision=precision, min_width=150,
    )  # fmt: skip


# What each setting is chosen with, beginning with its default.
SETTINGS = {
    "text": partial(gr.Radio, value="stories", label="Text", choices=CHOICES),
    "vocabulary": partial(
        gr.Radio, value=CHARACTERS, label="Vocabulary", info="What one token is.", choices=[
            ("Characters", CHARACTERS), ("Byte pairs of this text", PAIRS), ("GPT-2's", GPT2)
        ],
    ),
    "pairs": partial(
        gr.Slider, value=512, label="Byte pair tokens", minimum=64, maximum=4096, step=1,
        visible=False,
    ),
    "size": partial(
        gr.Radio, value="small", label="Model",
        info="How soon it writes readable words (stories in characters). The seconds are below.",
        choices=[*((label, name) for name, (label, _) in SIZES.items()), ("Yours", YOURS)],
    ),
    "budget": partial(
        gr.Slider, value=60, label="Budget in seconds", minimum=60, maximum=300, step=10,
        info="Of computing; with other visitors it takes longer.",
    ),
    "layers": _number(2, "Blocks", "Transformer blocks in a row.", 1, 8),
    "width": _number(128, "Width", "Numbers a token; heads divide it.", 8, 512),
    "heads": _number(4, "Heads", "Of attention, a block.", 1, 16),
    "context": _number(32, "Context", "Tokens that it sees at once.", 16, 512),
    "dropout": _number(0, "Dropout", "Share of numbers set to 0.", 0.0, 0.9),
    "rate": _number(0.0025, "Learning rate", "Its peak.", 0.0, 10),
    "warmup": _number(20, "Warm-up", "Steps up to the peak.", 0, 10_000),
    "batch": _number(8, "Batch", "Windows of text a step.", 1, 64),
    "seed": _number(123, "Seed", "Same seed, same run.", 0, MAX_SEED),
    "steps": _number(0, "Steps", "0: as many as the budget buys.", 0, 1_000_000),
    "characters": _number(0, "Characters of text", "0: all of it.", 0, 2_000_000),
    "positions": partial(
        gr.Checkbox, value=True, label="Learn positions", min_width=150,
        info="Without, each step shuffles them.",
    ),
}  # fmt: skip
DEFAULTS = {name: component.keywords["value"] for name, component in SETTINGS.items()}
WIDER = {"pairs": {"minimum": 2, "maximum": 50_257}}  # than the slider: in a link


def checked(name: str, value: Any) -> Any:
    """`value` as the setting `name` takes it: a browser's own limits are not trusted.

    Raises ValueError, in one line that names the control, if it takes no such value.
    """
    given = {**SETTINGS[name].keywords, **WIDER.get(name, {})}
    label = given["label"]
    if "minimum" in given:
        low, high = given["minimum"], given["maximum"]
        return (whole if isinstance(low, int) else within)(label, value, low, high)
    allowed = [each for _, each in given.get("choices", [("on", True), ("off", False)])]
    if value not in allowed:
        told = ", ".join(map(str, allowed))
        raise ValueError(f"{label} is {repr(value)[:40]}: use {told}.")
    return value


class Experiment(NamedTuple):
    """A run with some settings changed, and what to look for."""

    label: str
    changes: dict[str, Any]
    look_for: str


EXPERIMENTS = (
    Experiment(
        "The same seed twice", {},
        "after a run with these settings the curve lies exactly on it: weights, order and text "
        "follow from the seed.",
    ),
    Experiment(
        "Learning rate too high", {"rate": 1.0},
        "the loss jumps far above the baselines and may end as no number at all: each step goes "
        "past what it aims at.",
    ),
    Experiment(
        "No warm-up", {"warmup": 0},
        "the first steps, which are large while nothing is known: does the loss rise before it "
        "falls, and is it behind later?",
    ),
    Experiment(
        "One head instead of four", {"heads": 1},
        "the same number of parameters, but one place to look at a time: compare the held-out "
        "loss after as many tokens (“The numbers of the curve” draws it over them).",
    ),
    Experiment(
        "Without positions", {"positions": False},
        "each step shuffles the position embeddings anew, so that they tell nothing of the order; "
        "all that is left of it is what the mask hides: learning is slower.",
    ),
    Experiment(
        "Dropout 0.3", {"dropout": 0.3},
        "the training loss stays above the held-out one: a third of the numbers are missing while "
        "it learns, none while it is tested.",
    ),
    Experiment(
        "Only 2 kB of text", {"characters": 2000},
        "training loss goes on falling and held-out loss turns up: it learns the text by heart.",
    ),
)  # fmt: skip
