"""The parameters of a configuration as the tab shows them: total, table, stacked bar, check."""

from __future__ import annotations

from dataclasses import replace

from gpt.accounting import count_parameters
from gpt.accounting.memory import weights
from gpt.accounting.parameters import GROUPS
from gpt.accounting.timing import count_on_meta
from gpt.config import GPTConfig
from gpt.ui.architecture.operations_section import readable_count
from gpt.ui.architecture.stacked_bars import stacked_bar_html
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html

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
COLUMNS = (
    code_column("part"), Column("parameters"), Column("share", percent), code_column("shape"),
    code_column("formula"), code_column("with these numbers"), "what for",
)  # fmt: skip
_GROUP_TITLES = {
    "embeddings": "Embeddings", "attention": "Block: attention", "norms": "Block: norms",
    "feed-forward": "Block: feed-forward", "final norm": "Final norm", "head": "Output head",
}  # fmt: skip


def total_html(cfg: GPTConfig) -> str:
    """The total in large digits, and what it weighs."""
    total = count_parameters(cfg).total
    weight = mib_and_mb(weights(cfg).value)
    return (
        f'<div class="arch-total"><strong>{total:,}</strong> <span>parameters</span></div>'
        f"<p>{readable_count(total)}; {weight} in float32.</p>"
    )


def tied_html(cfg: GPTConfig) -> str:
    """The totals with the output layer shared and separate; for GPT-2 small's sizes, why 124M."""
    pair = []
    for tied, title in ((True, "output layer shared (tied)"), (False, "separate output layer")):
        current = ' class="current" aria-current="true"' if cfg.tie_weights is tied else ""
        total = count_parameters(replace(cfg, tie_weights=tied)).total
        pair.append(f"<div{current}><dt>{title}</dt><dd>{total:,}</dd></div>")
    shape = replace(cfg, drop_rate=0.1, qkv_bias=False, tie_weights=False)
    why = say(WHY_163_MILLION, "hint") if shape == GPTConfig() else ""
    return f'<dl class="arch-pair">{"".join(pair)}</dl>{why}'


def parameters_table(cfg: GPTConfig) -> str:
    """The per-part table, grouped, with subtotals and the total."""
    count = count_parameters(cfg)
    rows: list[tuple[object, ...]] = []
    kinds = {}
    for group in GROUPS:
        subtotal = count.subtotal(group)
        layers = cfg.n_layers if group in ("attention", "feed-forward", "norms") else 0
        each = f"{layers:,} × {subtotal // layers:,}" if layers else ""
        kinds[len(rows)] = "group"
        share = subtotal / count.total
        rows.append((_GROUP_TITLES[group], subtotal, share, "", "", each, ""))
        for part in count.rows:
            if part.group == group:
                name, share = part.name.replace("trf_blocks.*.", ""), part.count / count.total
                rows.append(
                    (name, part.count, share, part.shape, part.formula, part.numbers, part.purpose)
                )
    kinds[len(rows)] = "total"
    rows.append(("Total", count.total, 1.0, "", "", "", ""))
    caption = "Every part, its formula, and what it adds up to"
    return table_html(COLUMNS, rows, caption, kinds=kinds) + say(LETTERS, "hint")


def parameters_bar(cfg: GPTConfig) -> str:
    """The stacked bar of the groups with its message as a sentence."""
    count = count_parameters(cfg)
    largest = max(GROUPS, key=count.subtotal)
    share = percent(count.subtotal(largest) / count.total)
    sizes = {_GROUP_TITLES[group]: count.subtotal(group) for group in GROUPS}
    return stacked_bar_html(sizes, f"Largest part: {largest}, {share} of the total.", "{:,}".format)


def check_html(cfg: GPTConfig) -> str:
    """The real module, built on torch's meta device, beside the computed total."""
    computed = count_parameters(cfg).total
    if cfg.n_layers > META_LAYERS:
        return say(f"Check left out: more than {META_LAYERS:,} layers of module objects.", "hint")
    try:
        built, took = count_on_meta(cfg)
    except RuntimeError:  # a size beyond 64 bits
        return say("Check left out: a tensor has more bytes than torch can count.", "hint")
    verdict = "equal ✓" if built == computed else f"NOT EQUAL to the computed {computed:,} ✗"
    return say(
        f"Check: GPTModel(cfg) on torch's meta device (shapes without memory) has {built:,} "
        f"parameters — {verdict} ({seconds(took)}).",
        "hint",
    )
