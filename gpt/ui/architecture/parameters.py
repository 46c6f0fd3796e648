"""The parameters of a configuration as the tab shows them: total, table, stacked bar, check."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from gpt.accounting import ParameterCount, ParameterRow, count_parameters
from gpt.accounting.memory import weights
from gpt.accounting.parameters import GROUPS
from gpt.accounting.timing import count_on_meta
from gpt.config import GPTConfig
from gpt.ui.architecture.tables import Cell, Row, Share, note_html, stacked_bar_html, table_html
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, significant

META_LAYERS = 128  # the check builds a module object a part: more layers take too long
WHY_163_MILLION = (
    "The book counts 163,009,536 because its output head has numbers of its own. GPT-2 uses the "
    "token embedding as its head (tied) and has biases in queries, keys and values: 124,439,808, "
    "which OpenAI rounds to 124M."
)
LETTERS = (
    "vocab is vocab_size, context is context_length, layers is n_layers, d is emb_dim. A shape "
    "after + is a bias, or the shift of a norm. A part of the block is counted over all blocks."
)
_HEADERS = ("part", "shape", "formula", "with these numbers", "parameters", "share", "what for")
_GROUP_TITLES = {
    "embeddings": "Embeddings",
    "attention": "Block: attention",
    "feed-forward": "Block: feed-forward",
    "norms": "Block: norms",
    "final norm": "Final norm",
    "head": "Output head",
}
_IN_A_SENTENCE = {
    "embeddings": "embeddings are the largest part",
    "attention": "attention of the blocks is the largest part",
    "feed-forward": "feed-forward layers are the largest part",
    "norms": "norms of the blocks are the largest part",
    "final norm": "final norm is the largest part",
    "head": "output head is the largest part",
}


def total_html(cfg: GPTConfig) -> str:
    """The total in large digits, and what it weighs."""
    count = count_parameters(cfg)
    return (
        f'<div class="arch-total"><strong>{count.total:,}</strong> <span>parameters</span></div>'
        f"<p>{escape(readable(count.total))}; {mib_and_mb(weights(cfg).value)} in float32.</p>"
    )


def tied_html(cfg: GPTConfig) -> str:
    """The totals with the head tied and of its own, and why the book and OpenAI differ."""
    tied, untied = (
        count_parameters(replace(cfg, tie_weights=choice)).total for choice in (True, False)
    )
    return (
        f'<dl class="arch-pair"><div{_current(cfg.tie_weights)}><dt>head tied</dt>'
        f"<dd>{tied:,}</dd></div><div{_current(not cfg.tie_weights)}><dt>head of its own</dt>"
        f"<dd>{untied:,}</dd></div></dl>" + note_html(WHY_163_MILLION)
    )


def table(cfg: GPTConfig) -> str:
    """The per-part table, grouped, with subtotals and the total."""
    count = count_parameters(cfg)
    rows: list[Row] = []
    for group in GROUPS:
        subtotal = count.subtotal(group)
        rows.append(_group_row(group, subtotal, count, cfg))
        rows += [_part_row(part, count.total) for part in count.rows if part.group == group]
    total = Row(
        (
            Cell("Total"),
            Cell(""),
            Cell(""),
            Cell(""),
            Cell(f"{count.total:,}", "number"),
            Cell("100 %", "number"),
            Cell(""),
        ),
        "total",
    )
    caption = "Every part, its formula, and what it adds up to"
    return table_html(_HEADERS, [*rows, total], caption) + note_html(LETTERS)


def plot(cfg: GPTConfig) -> str:
    """The stacked bar of the groups with its message as a sentence."""
    count = count_parameters(cfg)
    sizes = {group: count.subtotal(group) for group in GROUPS}
    largest = max(sizes, key=lambda group: sizes[group])
    message = (
        f"The {_IN_A_SENTENCE[largest]}: {percent(sizes[largest] / count.total)} of the total."
    )
    shares = [Share(_GROUP_TITLES[group], size, f"{size:,}") for group, size in sizes.items()]
    return stacked_bar_html(shares, message)


def check_html(cfg: GPTConfig) -> str:
    """The real module, built on torch's meta device, beside the computed total."""
    computed = count_parameters(cfg).total
    if cfg.n_layers > META_LAYERS:
        return note_html(f"Check left out: more than {META_LAYERS:,} layers of module objects.")
    built, took = count_on_meta(cfg)
    verdict = "equal ✓" if built == computed else f"NOT EQUAL to the computed {computed:,} ✗"
    return note_html(
        f"Check: GPTModel(cfg) on torch's meta device (shapes without memory) has {built:,} "
        f"parameters — {verdict} ({seconds(took)})."
    )


def readable(count: int) -> str:
    """A count in words: 163 million, 175 billion, 1.01 trillion."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{significant(count / size)} {word}"
    return f"{count:,}"


def _current(here: bool) -> str:
    return ' class="current" aria-current="true"' if here else ""


def _group_row(group: str, subtotal: int, count: ParameterCount, cfg: GPTConfig) -> Row:
    each = ""
    if group in ("attention", "feed-forward", "norms"):
        each = f"{cfg.n_layers:,} × {subtotal // cfg.n_layers:,}"
    return Row(
        (
            Cell(_GROUP_TITLES[group]),
            Cell(""),
            Cell(""),
            Cell(each, "code"),
            Cell(f"{subtotal:,}", "number"),
            Cell(percent(subtotal / count.total), "number"),
            Cell(""),
        ),
        "group",
    )


def _part_row(part: ParameterRow, total: int) -> Row:
    return Row(
        (
            Cell(part.name.replace("trf_blocks.*.", ""), "code"),
            Cell(part.shape, "code"),
            Cell(part.formula, "code"),
            Cell(part.numbers, "code"),
            Cell(f"{part.count:,}", "number"),
            Cell(percent(part.count / total), "number"),
            Cell(part.purpose),
        )
    )
