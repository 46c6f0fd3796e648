"""A visitor's choices as a run that can begin: checked, counted, its steps from the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpt.accounting import count_parameters, memory, operations
from gpt.config import GPTConfig
from gpt.training.choices import Text, chosen_text, corpora
from gpt.training.corpus import Corpus
from gpt.training.options import TrainOptions
from gpt.ui.internals.lab import whole
from gpt.ui.parts.numbers import mib_and_mb, seconds, significant
from gpt.ui.train.settings import CHARACTERS, GPT2, NUMBERS, PAIRS

MOST_PARAMETERS = 8_000_000
MOST_STEP_FLOPS = 25e9  # others wait for a step: about half a second of two cores
NEVER = 2**53  # steps between what the page does at times of its own


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
    numbers = {name: _number(name, values[name]) for name in NUMBERS}
    budget, pairs = (
        whole("budget", values["budget"], 5, 300),
        whole("pairs", values["pairs"], 2, 50_257),
    )
    text = chosen_text({**values, **numbers})
    vocabulary = str(pairs) if values["vocabulary"] == PAIRS else values["vocabulary"]
    if vocabulary not in (CHARACTERS, GPT2) and values["vocabulary"] != PAIRS:
        raise ValueError(f"vocabulary is {repr(vocabulary)[:40]}: use characters, pairs or gpt2.")
    corpus = corpora.of(text, vocabulary)
    cfg = GPTConfig(
        vocab_size=corpus.tokenizer.vocab_size,
        context_length=numbers["context"],
        emb_dim=numbers["width"],
        n_heads=numbers["heads"],
        n_layers=numbers["layers"],
        drop_rate=float(numbers["dropout"]),
        tie_weights=True,
    )
    options = TrainOptions(
        text=("text.txt",), validation="held_out.txt", vocabulary=vocabulary, out="",
        steps=numbers["steps"] or NEVER, batch_size=numbers["batch"],
        micro_batch=numbers["batch"], peak_rate=float(numbers["rate"]),
        warmup_steps=numbers["warmup"],
        weight_decay=0.1, precision="float32", positions=bool(values["positions"]),
        device=device, seed=numbers["seed"], report_every=1, validate_every=NEVER,
        checkpoint_every=NEVER, prompt=text.prompt, sample_tokens=100,
    )  # fmt: skip
    found = Plan({**values, **numbers, "budget": budget}, text, corpus, cfg, options)
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


def _number(name: str, value: Any) -> float:
    number = NUMBERS[name]
    if number.is_whole:
        return whole(name, value, number.low, number.high)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not number.low <= value <= number.high:
        said = f"use a number from {number.low:g} to {number.high:g}"
        raise ValueError(f"{name} is {repr(value)[:40]}: {said}.")
    return value


class Pace:
    """Arithmetic a second of training here: a first guess, then as the last run measured it."""

    def __init__(self) -> None:
        self.flops = 30e9

    def seconds(self, found: Plan) -> float:
        """About what a step takes."""
        return max(found.flops / self.flops, 0.004)


pace = Pace()


def with_steps(found: Plan, each: float) -> Plan:
    """The same plan with the steps that its budget buys at so many seconds a step."""
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
