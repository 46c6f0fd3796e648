"""The book's exercises 4.1 and 4.2 as settings that answer themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpt.accounting import count_parameters, letters_of
from gpt.accounting.formula import Formula
from gpt.accounting.memory import weights
from gpt.config import PRESETS, GPTConfig
from gpt.ui.architecture.tables import Cell, Row, note_html, table_html
from gpt.ui.parts.numbers import MIB, significant


@dataclass(frozen=True)
class Exercise:
    """A button: what it says, the configuration it sets, the answer it computes."""

    key: str
    label: str
    preset: str
    answer: Callable[[GPTConfig], str]


def feed_forward_or_attention(cfg: GPTConfig) -> str:
    """Exercise 4.1: parameters of a block's feed-forward and attention, compared."""
    feed_forward = Formula("4*d*d + 4*d + 4*d*d + d")
    attention = Formula("3*(d*d + d) + d*d + d" if cfg.qkv_bias else "3*d*d + d*d + d")
    letters = letters_of(cfg)
    ratio = feed_forward.value(letters) / attention.value(letters)
    rows = [
        Row(
            (
                Cell(name),
                Cell(formula.text(), "code"),
                Cell(formula.numbers(letters), "code"),
                Cell(f"{formula.value(letters):,}", "number"),
            )
        )
        for name, formula in (("feed-forward", feed_forward), ("attention", attention))
    ]
    sentence = (
        f"Exercise 4.1: in one block of this configuration the feed-forward has "
        f"{significant(ratio)} times the parameters of attention."
    )
    headers = ("module", "formula", "with these numbers", "parameters")
    caption = f"One TransformerBlock, d = {cfg.emb_dim:,}"
    return note_html(sentence, "note") + table_html(headers, rows, caption)


def larger_models(cfg: GPTConfig) -> str:
    """Exercise 4.2: the three larger sizes, only the configuration changed."""
    rows = []
    for name in ("gpt2-medium", "gpt2-large", "gpt2-xl"):
        each = PRESETS[name]
        chosen = "strong" if each.emb_dim == cfg.emb_dim else ""
        rows.append(
            Row(
                (
                    Cell(name, chosen),
                    Cell(f"{each.emb_dim:,}", "number"),
                    Cell(f"{each.n_layers:,}", "number"),
                    Cell(f"{each.n_heads:,}", "number"),
                    Cell(f"{count_parameters(each).total:,}", "number"),
                    Cell(f"{weights(each).value / MIB:,.2f}", "number"),
                )
            )
        )
    sentence = (
        "Exercise 4.2: the same GPTModel, three other configurations; the controls above now "
        f"show the one with emb_dim {cfg.emb_dim:,}."
    )
    headers = ("model", "emb_dim", "n_layers", "n_heads", "parameters", "float32 MiB")
    return note_html(sentence, "note") + table_html(headers, rows, "In the book's form")


EXERCISES = (
    Exercise("4-1", "4.1 Feed-forward or attention?", "gpt2-small", feed_forward_or_attention),
    Exercise("4-2-medium", "4.2 GPT-2 medium", "gpt2-medium", larger_models),
    Exercise("4-2-large", "4.2 GPT-2 large", "gpt2-large", larger_models),
    Exercise("4-2-xl", "4.2 GPT-2 XL", "gpt2-xl", larger_models),
)
