"""What a visitor chooses for a run, by name: each default, its component and its check once.

A new setting is one entry here, its field in SamplingOptions, and its line in `endpoint` of tab.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from gpt.checkpoints.precision_record import default_precision, recorded
from gpt.sampling import MAX_STOP, SamplingOptions
from gpt.ui.parts.numbers import percent, significant, within
from gpt.ui.visit import Visit

MAX_NEW_TOKENS = 500
DRAW_A_SEED = -1
AUTO = "auto"  # the precision that was measured to be the fastest at little cost
UNTRAINED_NOTE = (
    "These weights are random: nothing has been learned yet, so every token is about as likely "
    "as any other and the text is nonsense. This is where the book's chapter 4 ends."
)
STORYTELLER_NOTE = (
    "A small model trained from scratch on public-domain fairy tales. It has learned how they "
    "sound and nothing else: expect fluent nonsense."
)


@dataclass(frozen=True)
class Setting:
    """A setting's default, its component, and what a value of it means in the options."""

    default: Any
    kind: type[gr.components.Component]
    label: str
    info: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    off: Any = None  # stands for None in the options, as an emptied box does
    more: bool = True  # under "More settings"

    def component(self, name: str) -> gr.components.Component:
        elem_id = "gen-stop-text" if name == "stop" else f"gen-{name.replace('_', '-')}"
        return self.kind(
            value=self.default, label=self.label, info=self.info, elem_id=elem_id, **self.limits
        )

    def read(self, value: Any) -> Any:
        """What a value means in the options; browsers do not tell 5.0 from 5."""
        if self.off is not None and value in (None, self.off):
            return None
        return int(value) if isinstance(value, float) and value.is_integer() else value


# Compared on 32 texts of the storyteller each, 100 tokens: share of repeated 4-grams, the model's
# mean log-probability a token, share of distinct tokens. Top-p 0.9 with temperature 0.7: 3.29 %,
# -1.83, 0.54 (it loops: "a son, and a son"); with 0.8: 1.48 %, -2.11, 0.58; with 0.9: 0.32 %,
# -2.55, 0.64 (it stumbles). 0.8 alone: 0.74 %, -2.57, 0.63; 0.9 with min-p 0.05: 1.32 %, -2.05,
# 0.58. Ranked blind by a language model in 28 groups, the mean ranks of 0.8, 0.9 with min-p, 0.7
# and 0.9 were 2.0, 2.4, 2.4 and 3.2.
SETTINGS = {
    "max_new_tokens": Setting(
        120, gr.Slider, "Max new tokens",
        "How many tokens to write at most; one is about three quarters of a word, or one "
        "character if the model was trained on characters.",
        {"minimum": 1, "maximum": MAX_NEW_TOKENS, "step": 1}, more=False,
    ),
    "temperature": Setting(
        0.8, gr.Slider, "Temperature",
        "0: always the likeliest token. 1: the model's own odds. More: surprising.",
        {"minimum": 0, "maximum": 2, "step": 0.05}, more=False,
    ),
    "top_k": Setting(
        0, gr.Number, "Top-k", "Choose among the k likeliest tokens only; 0 is off.",
        {"minimum": 0, "precision": 0}, off=0,
    ),
    "top_p": Setting(
        0.9, gr.Slider, "Top-p",
        "Choose among the likeliest tokens that together reach p; 1 is off.",
        {"minimum": 0.01, "maximum": 1, "step": 0.01},
    ),
    "min_p": Setting(
        0, gr.Slider, "Min-p",
        "Leave out tokens with less than this share of the best one's odds; 0 is off.",
        {"minimum": 0, "maximum": 1, "step": 0.01},
    ),
    "stop": Setting(
        "", gr.Textbox, "Stop text",
        "The run ends with the token that completes this text; empty is off.",
        {"max_length": MAX_STOP},
    ),
    "seed": Setting(  # not empty: gradio shows an empty number as 0
        DRAW_A_SEED, gr.Number, "Seed",
        "Same seed, same text. -1: a new one each time, shown with the result.",
        {"minimum": DRAW_A_SEED, "precision": 0}, off=DRAW_A_SEED,
    ),
}  # fmt: skip
DEFAULTS = {name: setting.default for name, setting in SETTINGS.items()}
STANDARD = {**DEFAULTS, "precision": AUTO, "device": "cpu"}  # what a visit leaves out


def sampling_options(
    values: Mapping[str, Any], steering: tuple[tuple[int, int], ...] = ()
) -> SamplingOptions:
    """The options that the controls, or an API client's values, mean.

    Raises ValueError if a value is impossible or missing: a browser's own limits are not trusted.
    """
    for name, setting in SETTINGS.items():
        if values[name] is None and setting.kind is gr.Slider:
            within(name, None, setting.limits["minimum"], setting.limits["maximum"])
    read = {name: setting.read(values[name]) for name, setting in SETTINGS.items()}
    options = SamplingOptions(**read, steering=steering)
    if (length := options.max_new_tokens) > MAX_NEW_TOKENS:
        raise ValueError(f"max_new_tokens is {length:,}: use at most {MAX_NEW_TOKENS}.")
    return options


def labelled(line: str) -> str:
    """A line that begins with the name of a setting, as the page says it: with the box's label."""
    name, _, rest = line.partition(" ")
    for none, box in (("none to keep", "0 to keep"), ("none to draw", f"{DRAW_A_SEED} to draw")):
        rest = rest.replace(none, box)  # what is None in Python is a number in a box
    return f"{SETTINGS[name].label} {rest}" if name in SETTINGS else line


# A visit is one click away; settings that it does not name get their defaults. Seeds chosen among
# 18 and 12 texts, of which many fall into loops: "a son, and a son".
EXAMPLES = {
    "Once upon a time": Visit("storyteller", "Once upon a time there was a king who", seed=10),
    "The wolf": Visit("storyteller", "The wolf looked at the little girl and said,", seed=9),
    "A dragon · always the top word": Visit(
        "storyteller", "The dragon", {"max_new_tokens": 60, "temperature": 0}, seed=7
    ),
    "The book's untrained model": Visit(
        "book-124M", "Hello, I am",
        {"max_new_tokens": 6, "temperature": 0, "precision": "float32"},
    ),
}  # fmt: skip
OPENING: Visit | None = EXAMPLES["Once upon a time"]  # is there, finished, when the page opens


def model_note(source: str) -> str:
    """One honest line about a model, before anything is generated with it."""
    if source == "storyteller":
        return STORYTELLER_NOTE
    if source == "book-124M" or source.startswith("random"):
        return UNTRAINED_NOTE
    return ""


def precision_note(source: str, precision: str = AUTO, device: str = "cpu") -> str:
    """What the precision costs this model, as `python -m gpt compare` measured it."""
    chosen = default_precision(source, device) if precision == AUTO else precision
    start = f"Auto uses {chosen} here. " if precision == AUTO else ""
    if chosen == "float32":
        return f"{start}float32 is exact: the others are measured against it."
    found = recorded(source)
    if found is None or chosen not in found["precisions"]:
        return f"{start}What {chosen} costs this model was not measured."
    cost, exact = found["precisions"][chosen], found["precisions"]["float32"]
    return (
        f"{start}{chosen} has the same top token as float32 in {percent(cost['top1_agreement'])} "
        f"of {cost['n_tokens']:,} held-out tokens; mean KL divergence "
        f"{cost['mean_kl_nats']:.5f} nats (how far its odds are from float32's; 0: the same), "
        f"perplexity {significant(cost['perplexity'])} "
        f"(float32: {significant(exact['perplexity'])})."
    )
