"""Parameters as the tab shows them: total, table, stacked bar, check, the book's exercises."""

from dataclasses import replace

from gpt.accounting import count_parameters
from gpt.accounting.memory import size_text, weights
from gpt.accounting.parameters import GROUPS
from gpt.accounting.timing import count_on_meta
from gpt.config import PRESETS, GPTConfig
from gpt.ui.architecture.costs import readable_count
from gpt.ui.parts.bars import stacked_bar_html
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, significant
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


def feed_forward_or_attention(cfg: GPTConfig) -> str:
    """Exercise 4.1: parameters of a block's feed-forward and attention, compared."""
    groups, count = ("feed-forward", "attention"), count_parameters(cfg)
    feed_forward, attention = (count.subtotal(group) // cfg.n_layers for group in groups)
    return say(
        f"Exercise 4.1: in one block of width {cfg.emb_dim:,} the feed-forward has "
        f"{significant(feed_forward / attention)} times the parameters of attention: "
        f"{feed_forward:,} and {attention:,}.",
        "note",
    )


def larger_models(cfg: GPTConfig) -> str:
    """Exercise 4.2: the three larger sizes, only the configuration changed."""
    rows = [
        (name, count_parameters(each).total, weights(each).value, each.emb_dim,
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
        "model", Column("parameters"), Column("in float32", size_text),
        Column("emb_dim"), Column("n_layers"), Column("n_heads"),
    )  # fmt: skip
    return say(sentence, "note") + table_html(columns, rows, "In the book's form", kinds=kinds)


# Buttons: a key, what each says, the configuration that it sets, what computes its answer.
EXERCISES = (
    ("4-1", "4.1 Feed-forward or attention?", PRESETS["gpt2-small"], feed_forward_or_attention),
    ("4-2-medium", "4.2 GPT-2 medium", PRESETS["gpt2-medium"], larger_models),
    ("4-2-large", "4.2 GPT-2 large", PRESETS["gpt2-large"], larger_models),
    ("4-2-xl", "4.2 GPT-2 XL", PRESETS["gpt2-xl"], larger_models),
)
