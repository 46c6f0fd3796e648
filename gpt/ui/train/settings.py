"""What a visitor chooses for a run: each default, its component, the sizes, the experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from gpt.accounting import count_parameters, memory, operations
from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED
from gpt.training.choices import CHOICES, Text, chosen_text, corpora
from gpt.training.corpus import Corpus
from gpt.training.options import TrainOptions
from gpt.training.trainer import Run
from gpt.ui.internals.lab import whole
from gpt.ui.parts.numbers import mib_and_mb, seconds, significant

CHARACTERS, PAIRS, GPT2 = "characters", "pairs", "gpt2"
YOURS = "yours"
MOST_PARAMETERS = 8_000_000
MOST_STEP_FLOPS = 25e9  # others wait for a step: about half a second of two cores
NEVER = 2**53  # steps between what the page does at times of its own
TRIED_STEPS = 4  # by which the budget's steps are counted, after one more


@dataclass(frozen=True)
class Control:
    """A default, and the component of a value."""

    default: Any
    component: Callable[[Any], Any]


def _number(name: str, label: str, info: str, low: float, high: float, precision: int | None = 0):
    return lambda value: gr.Number(
        value, minimum=low, maximum=high, precision=precision, label=label, info=info,
        elem_id=f"train-{name}", min_width=150,
    )  # fmt: skip


# The sizes are named by the seconds to the first readable words, of stories in characters:
# tests/benchmarks/train_tab.py measures them.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "small": (
        "Small · words in about 20 s",
        {"layers": 2, "width": 128, "heads": 4, "context": 64, "rate": 0.005},
    ),
    "medium": (
        "Medium · about 40 s",
        {"layers": 4, "width": 128, "heads": 4, "context": 128, "rate": 0.004},
    ),
    "large": (
        "Large · about 90 s",
        {"layers": 4, "width": 192, "heads": 4, "context": 128, "rate": 0.003},
    ),
}
_SMALL = SIZES["small"][1]
SHAPE = {
    "layers": Control(
        _SMALL["layers"], _number("layers", "Blocks", "Transformer blocks in a row.", 1, 8)
    ),
    "width": Control(
        _SMALL["width"], _number("width", "Width", "Numbers a token; heads divide it.", 8, 512)
    ),
    "heads": Control(_SMALL["heads"], _number("heads", "Heads", "Of attention, a block.", 1, 16)),
    "context": Control(
        _SMALL["context"],
        _number("context", "Context", "Tokens that it sees at once.", 16, 512),
    ),
    "dropout": Control(
        0.0, _number("dropout", "Dropout", "Share of numbers set to 0.", 0, 0.9, None)
    ),
}
TRAINING = {
    "rate": Control(
        _SMALL["rate"], _number("rate", "Learning rate", "Its peak.", 0, 10, None)
    ),
    "warmup": Control(20, _number("warmup", "Warm-up", "Steps up to the peak.", 0, 10_000)),
    "batch": Control(8, _number("batch", "Batch", "Windows of text a step.", 1, 64)),
    "seed": Control(
        123, _number("seed", "Seed", "Same seed, same run.", 0, MAX_SEED)
    ),
    "steps": Control(
        0, _number("steps", "Steps", "0: as many as the budget buys.", 0, 100_000)
    ),
    "characters": Control(
        0, _number("characters", "Characters of text", "0: all of it.", 0, 2_000_000)
    ),
    "positions": Control(
        True,
        lambda value: gr.Checkbox(
            value, label="Learn positions", elem_id="train-positions",
            info="Without, position embeddings stay 0.", min_width=150,
        ),
    ),
}  # fmt: skip
MAIN = {
    "text": Control(
        "stories",
        lambda value: gr.Radio(CHOICES, value=value, label="Text", elem_id="train-text"),
    ),
    "vocabulary": Control(
        CHARACTERS,
        lambda value: gr.Radio(
            [("Characters", CHARACTERS), ("Byte pairs of this text", PAIRS), ("GPT-2's", GPT2)],
            value=value, label="Vocabulary", elem_id="train-vocabulary",
            info="What one token is.",
        ),
    ),
    "pairs": Control(
        512,
        lambda value: gr.Slider(
            64, 4096, value, step=1, label="Byte pair tokens", elem_id="train-pairs",
            visible=False,
        ),
    ),
    "size": Control(
        "small",
        lambda value: gr.Radio(
            [(label, name) for name, (label, _) in SIZES.items()] + [("Yours", YOURS)],
            value=value, label="Model", elem_id="train-size",
            info="By the time to first readable words, two quiet cores, stories in characters.",
        ),
    ),
    "budget": Control(
        60,
        lambda value: gr.Slider(
            60, 300, value, step=10, label="Budget in seconds", elem_id="train-budget",
            info="Of computing; with other visitors it takes longer.",
        ),
    ),
}  # fmt: skip
NUMBERS = {**SHAPE, **TRAINING}
DEFAULTS = {name: control.default for name, control in {**MAIN, **NUMBERS}.items()}


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
        "all that it has of the order is what the mask hides from it: learning is slower.",
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


@dataclass(frozen=True)
class Plan:
    """A run that can begin; `steps` is 0 where the budget is still to be measured."""

    values: Mapping[str, Any]
    text: Text
    corpus: Corpus
    cfg: GPTConfig
    options: TrainOptions

    @property
    def flops(self) -> int:
        """Of a step: forward and backward."""
        cfg = compact(self.cfg, self.corpus)
        n = self.options.batch_size
        forward = operations.forward(cfg, n, cfg.context_length).total
        return forward + operations.backward_flops(cfg, n, cfg.context_length)


def compact(cfg: GPTConfig, corpus: Corpus) -> GPTConfig:
    """The configuration over the tokens that the text uses, which is what is computed."""
    used = len(corpus.ids.unique())
    return GPTConfig(**{**cfg, "vocab_size": min(used + 1, cfg.vocab_size)})


def plan(values: Mapping[str, Any], device: str = "cpu") -> Plan:
    """What `values` ask for, checked: a browser's own limits are not trusted.

    Raises ValueError, in one line, for what cannot be trained here.
    """
    numbers = {
        name: whole(name, values[name], low, high)
        for name, low, high in (
            ("layers", 1, 8), ("width", 8, 512), ("heads", 1, 16), ("context", 16, 512),
            ("warmup", 0, 10_000), ("batch", 1, 64), ("seed", 0, MAX_SEED),
            ("steps", 0, 100_000), ("characters", 0, 2_000_000), ("budget", 5, 300),
            ("pairs", 2, 50_257),
        )
    }  # fmt: skip
    shares = {
        name: _share(name, values[name], most) for name, most in (("dropout", 0.9), ("rate", 10))
    }
    text = chosen_text({**values, **numbers})
    vocabulary = str(numbers["pairs"]) if values["vocabulary"] == PAIRS else values["vocabulary"]
    if vocabulary not in (CHARACTERS, GPT2) and values["vocabulary"] != PAIRS:
        raise ValueError(f"vocabulary is {repr(vocabulary)[:40]}: use characters, pairs or gpt2.")
    corpus = corpora.of(text, vocabulary)
    cfg = GPTConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        context_length=numbers["context"],
        emb_dim=numbers["width"],
        n_heads=numbers["heads"],
        n_layers=numbers["layers"],
        drop_rate=shares["dropout"],
        tie_weights=True,
    )
    options = TrainOptions(
        text=("text.txt",), validation="held_out.txt", vocabulary=vocabulary, out="",
        steps=numbers["steps"] or NEVER, batch_size=numbers["batch"],
        micro_batch=numbers["batch"], peak_rate=shares["rate"], warmup_steps=numbers["warmup"],
        weight_decay=0.1, precision="float32", positions=bool(values["positions"]),
        device=device, seed=numbers["seed"], report_every=1, validate_every=NEVER,
        checkpoint_every=NEVER, prompt=text.prompt, sample_tokens=100,
    )  # fmt: skip
    found = Plan(dict(values), text, corpus, cfg, options)
    _check(found)
    return found


def _check(found: Plan) -> None:
    """Raises ValueError if the model, a step or the text has the wrong size for this page."""
    n_parameters = count_parameters(found.cfg).total
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(
            f"this model has {n_parameters:,} parameters and {MOST_PARAMETERS:,} are allowed "
            "here: use a smaller width, fewer blocks or a smaller vocabulary."
        )
    if found.flops > MOST_STEP_FLOPS:
        raise ValueError(
            f"a step takes {found.flops / 1e9:,.0f} GFLOP and {MOST_STEP_FLOPS / 1e9:.0f} are "
            "allowed here: use a smaller batch, context or model."
        )
    n, t = len(found.corpus.ids), found.cfg.context_length
    if n < 2 * t + 1:
        raise ValueError(
            f"the text has {n:,} tokens to learn from and a context of {t} needs {2 * t + 1:,}: "
            "use more text or a shorter context."
        )


def _share(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{name} is {repr(value)[:40]}: use a number from 0 to {most:g}.")
    return float(value)


class Pace:
    """Arithmetic a second of training here: a first guess, then as the last run measured it."""

    def __init__(self) -> None:
        self.flops = 30e9

    def seconds(self, found: Plan) -> float:
        """About what a step takes."""
        return max(found.flops / self.flops, 0.004)


pace = Pace()


def with_steps(found: Plan) -> Plan:
    """The same plan with the steps that its budget buys, by a few steps of a run for trial."""
    if found.options.steps < NEVER:
        return found
    trial = Run(found.cfg, found.options, found.corpus)
    events = trial.events()
    next(events)
    before = trial.seconds
    for _ in range(TRIED_STEPS):
        next(events)
    each = (trial.seconds - before) / TRIED_STEPS
    pace.flops = found.flops / each
    steps = max(int(found.values["budget"] / each), 20)
    return replace(found, options=replace(found.options, steps=steps))


def estimate(found: Plan) -> str:
    """Parameters, memory and what the budget buys, in a sentence or two."""
    cfg, options = compact(found.cfg, found.corpus), found.options
    state = memory.training_state(cfg, "adamw-float32").value
    each = pace.seconds(found)
    steps = options.steps if options.steps < NEVER else found.values["budget"] / each
    tokens = steps * options.batch_size * cfg.context_length
    return (
        f"{count_parameters(found.cfg).total:,} parameters; {mib_and_mb(state)} for weights, "
        f"gradients and two moments of each. A step takes about {seconds(each)} here, so "
        f"{seconds(steps * each)} are about {significant(steps, 2)} steps: "
        f"{significant(tokens, 2)} tokens, "
        f"{significant(tokens / len(found.corpus.ids), 2)} times through the text."
    )
