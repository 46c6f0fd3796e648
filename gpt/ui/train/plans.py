"""A visitor's choices as a run that can begin: checked, counted, its steps from the budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from gpt.accounting import count_parameters, operations
from gpt.accounting.memory import logit_bytes, size_text
from gpt.config import GPTConfig
from gpt.training.choices import OWN, Text, corpus_of, made_text, own_text
from gpt.training.corpus import CompactVocabulary, Corpus
from gpt.training.evaluation import unigram_nats
from gpt.training.options import TrainOptions
from gpt.ui.train.settings import DEFAULTS, EXPERIMENTS, PAIRS, TEMPERATURE, checked

MOST_PARAMETERS = 8_000_000
MOST_STEP_GFLOP = 25  # others wait for a step: about half a second of two cores
MOST_LOGIT_BYTES = 256 * 2**20
LOGIT_FLOPS, SCORE_FLOPS = 1000, 250  # of products in the time of a number of a softmax
BLOCK_FLOPS = 300e6  # of products in the time of a block's other work in a step: calls, copies
TELLING_FLOPS = 0.1e9  # of a step; a smaller one's time is not its arithmetic
NEVER = 2**53  # steps between what the page does at times of its own
# Arithmetic a second of training here: at first that of two cores of an AMD EPYC which trained the
# small model, then as the newest run measured it: by a few steps before it, by all at its end.
pace = SimpleNamespace(flops=107e9)


@dataclass(frozen=True)
class Plan:
    """A run that can begin; `steps` is 0 where the budget is still to be measured."""

    values: Mapping[str, Any]
    text: Text
    corpus: Corpus
    cfg: GPTConfig
    options: TrainOptions

    @cached_property
    def compact(self) -> GPTConfig:
        """The configuration over the tokens that the text uses, which is what is computed."""
        size = CompactVocabulary(self.corpus.ids, self.cfg.vocab_size).size
        return GPTConfig(**{**self.cfg, "vocab_size": size})

    @property
    def step_tokens(self) -> int:
        """Tokens that a step reads."""
        return self.options.batch_size * self.cfg.context_length

    @cached_property
    def flops(self) -> int:
        """Of a step, forward and backward; softmaxes as products that take about as long."""
        cfg = self.compact
        n, t = self.options.batch_size, cfg.context_length
        products = 3 * operations.forward(cfg, n, t).total  # once, and two gradients each
        scores = cfg.n_layers * cfg.n_heads * t
        return products + n * t * (LOGIT_FLOPS * cfg.vocab_size + SCORE_FLOPS * scores)

    @property
    def work(self) -> float:
        """What a step's time goes with: `flops`, and the other work of each block."""
        return self.flops + BLOCK_FLOPS * self.cfg.n_layers

    @property
    def logit_bytes(self) -> int:
        """Of a step."""
        return logit_bytes(self.compact, self.options.batch_size)

    @property
    def seconds(self) -> float:
        """About what a step takes."""
        return max(self.work / pace.flops, 0.004)

    @cached_property
    def baselines(self) -> dict[str, float]:
        """Losses to compare with, by name: guesses without a model, and what no model can beat."""
        found = {
            f"even guess among {self.cfg.vocab_size:,}": math.log(self.cfg.vocab_size),
            "by frequency alone": unigram_nats(self.corpus.ids),
        }
        floor = self.text.floor(self.corpus)
        return found if floor is None else {**found, "floor of this text": floor}

    @property
    def repeated(self) -> dict[str, Any]:
        """The settings that train it again elsewhere: steps, no defaults, no file's text."""
        steps = self.options.steps % NEVER  # 0: not counted yet
        given = {**self.values, "steps": steps, "file": ""}
        if given["text"] != OWN or self.values["file"]:
            given["pasted"] = ""
        return {name: value for name, value in given.items() if value != DEFAULTS.get(name, "")}


def plan(values: Mapping[str, Any], device: str = "cpu") -> Plan:
    """What `values` ask for, checked: a browser's own limits are not trusted.

    Raises ValueError, in one line, for what cannot be trained here.
    """
    given = {**values, **{name: checked(name, values[name]) for name in DEFAULTS}}
    name = given["text"]
    text = own_text(given["pasted"], given["file"]) if name == OWN else made_text(name)
    text = replace(text, text=text.text[: given["characters"] or None])
    vocabulary = str(given["pairs"]) if given["vocabulary"] == PAIRS else given["vocabulary"]
    corpus = corpus_of(text, vocabulary)
    try:
        cfg = GPTConfig(
            vocab_size=corpus.tokenizer.vocab_size,
            context_length=given["context"],
            emb_dim=given["width"],
            n_heads=given["heads"],
            n_layers=given["layers"],
            drop_rate=float(given["dropout"]),
            tie_weights=True,
        )
    except ValueError as error:  # heads that do not divide the width
        raise ValueError(str(error).replace("emb_dim", "Width")) from error
    options = TrainOptions(
        text=("text.txt",), validation="held_out.txt", vocabulary=vocabulary, out="",
        steps=given["steps"] or NEVER, batch_size=given["batch"], micro_batch=given["batch"],
        peak_rate=float(given["rate"]), warmup_steps=given["warmup"], weight_decay=0.1,
        precision="float32", positions=given["positions"], device=device, seed=given["seed"],
        report_every=1, validate_every=NEVER,
        checkpoint_every=NEVER, prompt=text.prompt, sample_tokens=100,
        temperature=TEMPERATURE,
    )  # fmt: skip
    found = Plan(given, text, corpus, cfg, options)
    _check(found)
    return found


def _check(found: Plan) -> None:
    """Raises ValueError if the model, a step or the text has the wrong size for this page."""
    for size, most, text, told, smaller in (
        (count_parameters(found.cfg).total, MOST_PARAMETERS, "{:,}".format,
         "this model has {} parameters", "width, fewer blocks or a smaller vocabulary"),
        (found.logit_bytes, MOST_LOGIT_BYTES, size_text,
         "the logits take {} a step", "batch, context or vocabulary"),
        (found.flops / 1e9, MOST_STEP_GFLOP, "{:,.0f}".format,
         "a step takes as long as {} GFLOP", "batch, context or model"),
    ):  # fmt: skip
        if size > most:
            told = f"{told.format(text(size))} and {text(most)} are allowed here"
            raise ValueError(f"{told}: use a smaller {smaller}.")
    n, t = len(found.corpus.ids), found.cfg.context_length
    if n < 2 * t + 1:
        raise ValueError(
            f"the text has {n:,} tokens to learn from and a context of {t} needs {2 * t + 1:,}: "
            "use more text or a shorter context."
        )


def set_pace(found: Plan, each: float) -> None:
    """From now on estimates count with this measurement: so many seconds a step of the plan."""
    if found.flops > TELLING_FLOPS:
        pace.flops = found.work / each


def with_steps(found: Plan, each: float) -> Plan:
    """The same plan with the steps that its budget buys at so many seconds a step."""
    set_pace(found, each)
    steps = max(int(found.values["budget"] / each), 20)
    return replace(found, options=replace(found.options, steps=steps))


def as_many_steps(found: Plan, former: Plan) -> Plan:
    """The steps of the run before, if only what an experiment changes, or the seed, differs."""
    varied = {"seed"}.union(*(one.changes for one in EXPERIMENTS))
    if any(found.values[name] != former.values[name] for name in found.values.keys() - varied):
        return found
    return replace(found, options=replace(found.options, steps=former.options.steps))
