"""The model in one picture, whose areas are parameters, and as code; each part and its numbers."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import NamedTuple

import numpy as np

from gpt.accounting import count_parameters
from gpt.accounting.code_lines import LineCost, line_costs, sources
from gpt.accounting.operations import forward
from gpt.accounting.parameters import GROUPS, ParameterRow, letters_of, typeset_shape
from gpt.config import GPTConfig
from gpt.ui.architecture.costs import readable_count
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.parts.colours import PARTS
from gpt.ui.parts.errors import mistake
from gpt.ui.parts.heat import strips
from gpt.ui.parts.numbers import four, percent
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, code_column, table_html

FIRST = "block"  # the part that is explained at first
# Columns of the picture in the order of the pass, each a stack of parts with parameters.
COLUMNS = (
    ("tok_emb", "pos_emb"), ("norm1",), ("att.W_query", "att.W_key", "att.W_value"),
    ("att.out_proj",), ("norm2",), ("ff.layers.0",), ("ff.layers.2",), ("final_norm",),
    ("out_head",),
)  # fmt: skip
# What stands on the line of the stream; "+" adds to it.
STREAM = (
    "ids", "+", "norm1", "scores", "mixture", "+", "norm2", "gelu", "+", "final_norm", "logits",
)  # fmt: skip
NO_TEXT = (
    "No text was read yet: press “Show in Internals”, or write one in Generation and look inside "
    "it there. Then this part's own numbers stand here."
)
CODE_COLUMNS = (
    Column("line"), code_column("code"), Column("shape"), Column("parameters"),
    Column("operations"),
)  # fmt: skip
LABEL = 26  # px: what a label in the picture has at least, as in style.css
_HUES = dict(zip(GROUPS, PARTS, strict=False))


class Spot(NamedTuple):
    """Where a part is found: in the code, in the trace of a pass, in Internals; and its shape."""

    code: str  # a piece of the line of the GPT that computes it, looked up in the running source
    recorded: str  # its result in the trace; what a block makes is taken from the first one
    section: str = "vectors"  # of Internals, which shows it at work
    label: str = ""  # if it is not the key
    made: str = "b t d"  # the shape of its result, in the letters of `gpt/model.py`


_BLOCK = "trf_blocks.0."
SPOTS = {
    "ids": Spot("ids: torch.Tensor,", "", "tokens", "token ids", "b t"),
    "tok_emb": Spot("self.tok_emb(ids)", "tok_emb", "embeddings"),
    "pos_emb": Spot("self.pos_emb(", "pos_emb", "embeddings", made="t d"),
    "norm1": Spot("self.norm1(x)", _BLOCK + "norm1"),
    "att.W_query": Spot("W_query(x)", _BLOCK + "att.queries", "attention", "W_query", "b h t e"),
    "att.W_key": Spot("W_key(x)", _BLOCK + "att.keys", "attention", "W_key", "b h t e"),
    "att.W_value": Spot("W_value(x)", _BLOCK + "att.values", "attention", "W_value", "b h t e"),
    "scores": Spot(
        "torch.softmax(", _BLOCK + "att.attention", "attention", "softmax(Q Kᵀ / √e)", "b h t t"
    ),
    "mixture": Spot("@ values)", _BLOCK + "att.heads", "attention", "attention × V", "b h t e"),
    "att.out_proj": Spot("self.out_proj(heads", _BLOCK + "att_out", "ledger", "out_proj"),
    "norm2": Spot("self.norm2(", _BLOCK + "norm2"),
    "ff.layers.0": Spot("expand(x)", _BLOCK + "ff.hidden", made="b t 4*d"),
    "gelu": Spot("gelu(hidden)", _BLOCK + "ff.activation", label="GELU", made="b t 4*d"),
    "ff.layers.2": Spot("contract(activation)", _BLOCK + "ff_out"),
    "block": Spot("x = block(", _BLOCK + "resid_out", "stream"),
    "final_norm": Spot("self.final_norm(x)", "final_norm", "lens"),
    "out_head": Spot("self.out_head(final_norm)", "logits", "logits", made="b t vocab"),
    "logits": Spot("self.out_head(final_norm)", "logits", "logits", made="b t vocab"),
}


def made_by(key: str, cfg: GPTConfig, batch: int, tokens: int) -> str:
    """The shape of a part's result."""
    return typeset_shape(SPOTS[key].made, letters_of(cfg, b=batch, t=tokens))


def parts(cfg: GPTConfig, batch: int, tokens: int) -> dict[str, ParameterRow]:
    """Every part of the picture by its key; what the count has no row of is in no group."""
    count = count_parameters(cfg)
    found = {row.name.replace("trf_blocks.*.", ""): row for row in count.rows}
    title = f"TransformerBlock, {cfg.n_layers:,} times: reads the stream and adds to it twice"
    each, every = f"{cfg.n_layers:,} × {count.block:,}", cfg.n_layers * count.block
    bent = "0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))"
    logits = made_by("logits", cfg, batch, tokens)
    more = {  # formula, numbers, parameters, purpose
        "block": ("layers × block", each, every, title),
        "gelu": (bent, "", 0, "bends the widened numbers, one by one"),
        "ids": ("b × t", f"{batch:,} × {tokens:,}", 0, "what the tokenizer made of the text"),
        "logits": ("b × t × vocab", logits, 0, "a score for each token at each position"),
    }
    flops = {part.name: part for part in forward(cfg, batch, tokens)}
    for key, name in (("scores", "scores Q Kᵀ"), ("mixture", "attention × V")):
        part = flops[name]
        more[key] = part.formula, f"{part.numbers} = {int(part.value):,} FLOP", 0, part.note
    return found | {key: ParameterRow(key, "", *row, "", 1) for key, row in more.items()}


def boxes(cfg: GPTConfig) -> Iterator[tuple[str, float, float, float, float]]:
    """(key, left, top, width, height) of the parts with parameters, each from 0 to 1.

    width x height is the part's share of all parameters.
    """
    counts = {key: part.count for key, part in parts(cfg, 1, 1).items()}
    total = count_parameters(cfg).total
    left = 0.0
    for column in COLUMNS:
        stack = sum(counts[key] for key in column)
        top, width = 0.0, stack / total
        for key in column:
            height = counts[key] / stack if stack else 1 / len(column)
            yield key, left, top, width, height
            top += height
        left += width


def _label_starts(cfg: GPTConfig) -> dict[str, str]:
    """By part, as CSS: its label begins where its area does, or after the labels before it.

    Each has LABEL px, also the last one.
    """
    lefts = {key: left for key, left, *_ in boxes(cfg)}
    columns = [column for column in COLUMNS if column[0] not in STREAM]
    found, before = {}, []
    for at, column in enumerate(columns):
        before.append(f"{lefts[column[0]]:.2%} - {LABEL * at}px")
        start = f"max({', '.join(before)}) + {LABEL * at}px"
        end = f"100% - {LABEL * (len(columns) - at)}px"
        found |= dict.fromkeys(column, f"min({start}, {end})")
    return found


def map_html(cfg: GPTConfig, batch: int, tokens: int, chosen: str) -> str:
    """The picture as buttons, `chosen` pressed. A phone turns it: --x goes down there."""
    found = parts(cfg, batch, tokens)
    areas, block, total = [], found["block"], count_parameters(cfg).total
    starts = _label_starts(cfg)
    for key, left, top, width, height in boxes(cfg):
        place = f"--x:{left:.5f};--y:{top:.5f};--w:{width:.5f};--h:{height:.5f}"
        areas.append(f'<i class="area" style="{place};--hue:{_HUES[found[key].group]}"></i>')
        if key not in STREAM:
            kind = " narrow" * (width < 0.07) + " low" * (height < 0.1) + " stacked" * (height < 1)
            place += f";--at:{starts[key]}"
            areas.append(_button(key, found[key], chosen, place, kind))
    before = (found["tok_emb"].count + found["pos_emb"].count) / total
    frame = f"--x:{before:.5f};--w:{block.count / total:.5f}"
    areas.append(f'<i class="frame" style="{frame}"></i>')
    label = f"TransformerBlock × {cfg.n_layers:,}"
    title = _button("block", block, chosen, frame, label=label)
    plus = '<span class="plus" aria-hidden="true">+</span>'
    line = [plus if key == "+" else _button(key, found[key], chosen) for key in STREAM]
    return (
        '<div class="arch-picture" role="group" aria-label="The model; choose a part">'
        f'<div class="titles"><span style="{frame}">Area: parameters</span>{title}</div>'
        f'<div class="boxes">{"".join(areas)}</div>'
        f'<div class="stream"><span class="name">residual stream</span>{"".join(line)}</div></div>'
    )


def part_html(cfg: GPTConfig, batch: int, tokens: int, chosen: str) -> str:
    """The chosen part: what it does, its formula with numbers, shapes, share, lines of code."""
    part = parts(cfg, batch, tokens)[chosen]
    total = count_parameters(cfg).total
    held = f"Holds {part.shape}. " if part.shape else ""
    numbers, share = part.numbers, "No parameters"
    if part.count:
        numbers += f" = {part.count:,} parameters"
        share = f"{percent(part.count / total)} of all parameters"
    elif part.group:
        numbers = "no parameters of its own: it is tied to tok_emb"
    facts = f"{held}Result {made_by(chosen, cfg, batch, tokens)}. {share}."
    file, number, text = code_line(chosen)
    return (
        f'<p class="say"><b>{escape(SPOTS[chosen].label or chosen)}</b>: {escape(part.purpose)}. '
        f"{escape(facts)}</p>{formula(part.formula, numbers)}"
        f'<p class="code-line"><span>{file}:{number}</span> <code>{escape(text)}</code></p>'
        f'<button type="button" class="link" data-section="{SPOTS[chosen].section}">'
        "Show in Internals</button>"
    )


@cache
def code_line(key: str) -> tuple[str, int, str]:
    """(file, line, text) of the code that computes a part."""
    return next(
        (file, number, text.strip())
        for file, lines in sources().items()
        for number, text in enumerate(lines, 1)
        if SPOTS[key].code in text
    )


def source_html(cfg: GPTConfig, batch: int, tokens: int) -> str:
    """Both files of the GPT as tables; a line that makes a tensor has shape, parameters, FLOP."""
    try:
        costs = line_costs(cfg, batch, tokens)
    except RuntimeError:  # a size beyond 64 bits
        return say("A tensor of this model has more bytes than torch can count: make it smaller.")
    total, flops = count_parameters(cfg).total, forward(cfg, batch, tokens).total
    told = (
        f"What each line makes for {batch:,} × {tokens:,} tokens, found by running it without "
        f"values; parameters and operations over all {cfg.n_layers:,} blocks. A line that calls "
        f"others contains theirs: GPTModel.forward adds up to {total:,} parameters and "
        f"{readable_count(flops)} operations."
    )
    tables = []
    for file, lines in sources().items():
        rows = []
        for number, text in enumerate(lines, 1):
            cost = costs.get((file, number), LineCost())
            shape = " × ".join(f"{size:,}" for size in cost.shape)
            rows.append((number, text, shape, cost.parameters or None, cost.flops or None))
        kinds = {number - 1: "makes" for of, number in costs if of == file}
        tables.append(table_html(CODE_COLUMNS, rows, file, kinds=kinds))
    return f'{say(told)}<div class="source">{"".join(tables)}</div>'


def strip_html(lab: Lab, focus: Focus | None, key: str) -> str:
    """The part's numbers at the focus's position: shape, least, mean and most, and the strip."""
    if focus is None:
        return say(NO_TEXT, "hint")
    try:
        lab = lab.using(focus.source)
        run = lab.run(focus)
    except ValueError as error:  # a trained model may be gone
        return say(str(mistake(error)), "hint")
    made = run.batch()[..., None] if key == "ids" else run.trace[SPOTS[key].recorded]
    here = made[..., focus.position, :]
    if key == "scores":  # behind its own position a token looks at nothing
        here = here[..., : focus.position + 1]
    values = here.flatten().double().cpu().numpy()
    place = lab.place(focus) + (", block 0" if "trf_blocks" in SPOTS[key].recorded else "")
    said = f"In the pass of Internals ({focus.source}, {place}): {len(values):,} of "
    said += f"{made_by(key, run.cfg, 1, len(focus.ids))} numbers; least {four(values.min())}, "
    said += f"mean {four(values.mean())}, most {four(values.max())}."
    legend = "red: negative, blue: positive; the colour is the rank of a number's size among them."
    ranks = np.abs(values).argsort(kind="stable").argsort() + 1  # from 1 for the least
    shades = np.sign(values) * ranks / len(values)
    return say(said) + strips(shades[None], [""], "the numbers as a strip", legend)


def _button(
    key: str, part: ParameterRow, chosen: str, style: str = "", kind: str = "", label: str = ""
) -> str:
    pressed, name = str(key == chosen).lower(), escape(label or SPOTS[key].label or key)
    small = f"<small>{part.count:,}</small>" if part.count and key not in STREAM else ""
    return (
        f'<button type="button" class="part{kind}" data-part="{key}" aria-pressed="{pressed}"'
        f' data-shown="{SPOTS[key].section}" style="{style}"'
        f' title="{name}: {escape(part.purpose)}"><span>{name} {small}</span></button>'
    )
