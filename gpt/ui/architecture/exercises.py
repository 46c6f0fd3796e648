"""The book's exercises 4.1 and 4.2 as settings that answer themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpt.accounting import count_parameters, letters_of
from gpt.accounting.memory import weights
from gpt.accounting.parameters import evaluate, typeset
from gpt.config import PRESETS, GPTConfig
from gpt.ui.parts.numbers import MIB, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html


@dataclass(frozen=True)
class Exercise:
    """A button: what it says, the configuration it sets, the answer it computes."""

    key: str
    label: str
    preset: str
    answer: Callable[[GPTConfig], str]


def feed_forward_or_attention(cfg: GPTConfig) -> str:
    """Exercise 4.1: parameters of a block's feed-forward and attention, compared."""
    feed_forward = "4*d*d + 4*d + 4*d*d + d"
    attention = "3*(d*d + d) + d*d + d" if cfg.qkv_bias else "3*d*d + d*d + d"
    letters = letters_of(cfg)
    rows = [
        (name, evaluate(formula, letters), typeset(formula), typeset(formula, letters))
        for name, formula in (("feed-forward", feed_forward), ("attention", attention))
    ]
    sentence = (
        f"Exercise 4.1: in one block of width {cfg.emb_dim:,} the feed-forward has "
        f"{significant(rows[0][1] / rows[1][1])} times the parameters of attention."
    )
    columns = (
        "module", Column("parameters"), code_column("formula"),
        code_column("with these numbers"),
    )  # fmt: skip
    caption = f"One TransformerBlock, d = {cfg.emb_dim:,}"
    return say(sentence, "note") + table_html(columns, rows, caption)


def larger_models(cfg: GPTConfig) -> str:
    """Exercise 4.2: the three larger sizes, only the configuration changed."""
    rows = [
        (name, count_parameters(each).total, weights(each).value / MIB, each.emb_dim,
         each.n_layers, each.n_heads)
        for name, each in PRESETS.items()
        if name != "gpt2-small"
    ]  # fmt: skip
    kinds = {index: "marked" for index, row in enumerate(rows) if row[3] == cfg.emb_dim}
    sentence = (
        "Exercise 4.2: the same GPTModel, three other configurations. Marked: the one that the "
        f"button set, with emb_dim {cfg.emb_dim:,}."
    )
    columns = (  # the answer first: a phone shows three
        "model", Column("parameters"), Column("float32 MiB", "{:,.2f}".format),
        Column("emb_dim"), Column("n_layers"), Column("n_heads"),
    )  # fmt: skip
    return say(sentence, "note") + table_html(columns, rows, "In the book's form", kinds=kinds)


EXERCISES = (
    Exercise("4-1", "4.1 Feed-forward or attention?", "gpt2-small", feed_forward_or_attention),
    Exercise("4-2-medium", "4.2 GPT-2 medium", "gpt2-medium", larger_models),
    Exercise("4-2-large", "4.2 GPT-2 large", "gpt2-large", larger_models),
    Exercise("4-2-xl", "4.2 GPT-2 XL", "gpt2-xl", larger_models),
)
