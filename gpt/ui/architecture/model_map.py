"""The model in one picture, whose areas are parameters, and as code; each part and its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import NamedTuple

import numpy as np

from gpt.accounting import count_parameters
from gpt.accounting.code_lines import LineCost, line_costs, sources
from gpt.accounting.operations import forward
from gpt.accounting.parameters import GROUPS
from gpt.config import GPTConfig
from gpt.ui.architecture.costs import readable_count
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.vector_figures import strips
from gpt.ui.parts.colours import PARTS
from gpt.ui.parts.errors import mistake
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
_HUES = dict(zip(GROUPS, PARTS, strict=False))


class Spot(NamedTuple):
    """Where a part is found: in the code, in the trace of a pass, in Internals."""

    code: str  # a piece of the line of the GPT that computes it, looked up in the running source
    recorded: str  # its result in the trace; what a block makes is taken from the first one
    section: str = "vectors"  # of Internals, which shows it at work
    label: str = ""  # if it is not the key


_BLOCK = "trf_blocks.0."
SPOTS = {
    "ids": Spot("ids: torch.Tensor,", "", "tokens", "token ids"),
    "tok_emb": Spot("self.tok_emb(ids)", "tok_emb", "embeddings"),
    "pos_emb": Spot("self.pos_emb(", "pos_emb", "embeddings"),
    "norm1": Spot("self.norm1(x)", _BLOCK + "norm1"),
    "att.W_query": Spot("self.W_query(x)", _BLOCK + "att.queries", "attention", "W_query"),
    "att.W_key": Spot("self.W_key(x)", _BLOCK + "att.keys", "attention", "W_key"),
    "att.W_value": Spot("self.W_value(x)", _BLOCK + "att.values", "attention", "W_value"),
    "scores": Spot("torch.softmax(", _BLOCK + "att.attention", "attention", "softmax(Q Kᵀ / √e)"),
    "mixture": Spot("@ values)", _BLOCK + "att.heads", "attention", "attention × V"),
    "att.out_proj": Spot("self.out_proj(heads", _BLOCK + "att_out", "ledger", "out_proj"),
    "norm2": Spot("self.norm2(", _BLOCK + "norm2"),
    "ff.layers.0": Spot("expand(x)", _BLOCK + "ff.hidden"),
    "gelu": Spot("gelu(hidden)", _BLOCK + "ff.activation", label="GELU"),
    "ff.layers.2": Spot("contract(activation)", _BLOCK + "ff_out"),
    "block": Spot("x = block(", _BLOCK + "resid_out", "stream"),
    "final_norm": Spot("self.final_norm(x)", "final_norm", "lens"),
    "out_head": Spot("self.out_head(final_norm)", "logits", "logits"),
    "logits": Spot("self.out_head(final_norm)", "logits", "logits"),
}


@dataclass(frozen=True)
class Part:
    """A part of the model: what it is, its formula twice, shapes, and its parameters in all."""

    key: str
    title: str
    formula: str
    numbers: str
    made: str  # the shape of its result
    held: str = ""  # the shapes of its parameters
    count: int = 0
    group: str = ""

    @property
    def label(self) -> str:
        return SPOTS[self.key].label or self.key


def parts(cfg: GPTConfig, batch: int, tokens: int) -> dict[str, Part]:
    """Every part of the picture by its key."""
    count = count_parameters(cfg)
    stream, wide = (_shape(batch, tokens, width) for width in (cfg.emb_dim, 4 * cfg.emb_dim))
    heads, scores = (_shape(batch, cfg.n_heads, tokens, n) for n in (cfg.head_dim, tokens))
    logits = _shape(batch, tokens, cfg.vocab_size)
    made = {"pos_emb": _shape(tokens, cfg.emb_dim), "ff.layers.0": wide, "out_head": logits}
    made |= dict.fromkeys(("att.W_query", "att.W_key", "att.W_value"), heads)
    found = []
    for row in count.rows:
        key = row.name.replace("trf_blocks.*.", "")
        numbers = f"{row.numbers} = {row.count:,} parameters"
        if not row.count:
            numbers = "no parameters of its own: it is tied to tok_emb"
        held = row.shape, row.count, row.group
        found.append(Part(key, row.purpose, row.formula, numbers, made.get(key, stream), *held))
    every = cfg.n_layers * count.block
    title = f"TransformerBlock, {cfg.n_layers:,} times: reads the stream and adds to it twice"
    numbers = f"{cfg.n_layers:,} × {count.block:,} = {every:,} parameters"
    found.append(Part("block", title, "layers × block", numbers, stream, count=every))
    flops = {part.name: part for part in forward(cfg, batch, tokens).parts}
    for key, name, shape in (
        ("scores", "scores Q Kᵀ", scores), ("mixture", "attention × V", heads),
    ):  # fmt: skip
        part = flops[name]
        numbers = f"{part.numbers} = {int(part.value):,} FLOP"
        found.append(Part(key, part.note, part.formula, numbers, shape))
    bent = "0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))"
    found.append(Part("gelu", "bends the widened numbers, one by one", bent, "", wide))
    ids, made_of = f"{batch:,} × {tokens:,}", "what the tokenizer made of the text"
    found.append(Part("ids", made_of, "b × t", ids, _shape(batch, tokens)))
    score = "a score for each token at each position"
    found.append(Part("logits", score, "b × t × vocab", logits, logits))
    return {part.key: part for part in found}


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


def map_html(cfg: GPTConfig, batch: int, tokens: int, chosen: str) -> str:
    """The picture as buttons, `chosen` pressed. A phone turns it: --x goes down there."""
    found = parts(cfg, batch, tokens)
    areas, block = [], []
    for key, left, top, width, height in boxes(cfg):
        part = found[key]
        place = f"--x:{left:.5f};--y:{top:.5f};--w:{width:.5f};--h:{height:.5f}"
        areas.append(f'<i class="area" style="{place};--hue:{_HUES[part.group]}"></i>')
        if key not in STREAM:
            kind = " narrow" * (width < 0.07) + " low" * (height < 0.1)
            areas.append(_button(part, chosen, place, kind))
        if part.group in ("attention", "feed-forward", "norms"):
            block += [left, left + width]
    frame = f"--x:{min(block):.5f};--w:{max(block) - min(block):.5f}"
    areas.append(f'<i class="frame" style="{frame}"></i>')
    label = f"TransformerBlock × {cfg.n_layers:,}"
    title = _button(found["block"], chosen, frame, label=label)
    plus = '<span class="plus" aria-hidden="true">+</span>'
    line = [plus if key == "+" else _button(found[key], chosen) for key in STREAM]
    return (
        '<div class="arch-picture" role="group" aria-label="The model; choose a part">'
        f'<div class="titles"><span>Area: parameters</span>{title}</div>'
        f'<div class="boxes">{"".join(areas)}</div>'
        f'<div class="stream"><span class="name">residual stream</span>{"".join(line)}</div></div>'
    )


def part_html(cfg: GPTConfig, batch: int, tokens: int, chosen: str) -> str:
    """The chosen part: what it does, its formula with numbers, shapes, share, lines of code."""
    part = parts(cfg, batch, tokens)[chosen]
    total = count_parameters(cfg).total
    held = f"Holds {part.held}. " if part.held else ""
    share = f"{percent(part.count / total)} of all parameters" if part.count else "No parameters"
    facts = f"{held}Result {part.made}. {share}."
    file, number, text = code_line(chosen)
    return (
        f'<p class="say"><b>{escape(part.label)}</b>: {escape(part.title)}. '
        f"{escape(facts)}</p>{formula(part.formula, part.numbers)}"
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


def code_html(cfg: GPTConfig, batch: int, tokens: int) -> str:
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


def strip_html(lab: Lab, visit: Visit | None, key: str) -> str:
    """The part's numbers at the visit's position: shape, least, mean and most, and the strip."""
    if visit is None:
        return say(NO_TEXT, "hint")
    try:
        lab = lab.using(visit.source)
        run = lab.run(visit)
    except ValueError as error:  # a trained model may be gone
        return say(str(mistake(error)), "hint")
    if key == "ids":
        made = run.batch()
        here = made[:, visit.position]
    else:
        made = run.trace[SPOTS[key].recorded]
        here = made[..., visit.position, :]
    if key == "scores":  # behind its own position a token looks at nothing
        here = here[..., : visit.position + 1]
    values = here.flatten().double().cpu().numpy()
    place = lab.place(visit) + (", block 0" if "trf_blocks" in SPOTS[key].recorded else "")
    said = f"In the pass of Internals ({visit.source}, {place}): {len(values):,} of "
    said += f"{_shape(*made.shape)} numbers; least {four(values.min())}, "
    said += f"mean {four(values.mean())}, most {four(values.max())}."
    legend = "red: negative, blue: positive; the colour is the rank of a number's size among them."
    return say(said) + strips(ranked(values)[None], [""], "the numbers as a strip", legend)


def ranked(values: np.ndarray) -> np.ndarray:
    """Each number's sign times its rank by size, from 1/n for the least to 1 for the most."""
    ranks = np.empty(len(values))
    ranks[np.argsort(np.abs(values), kind="stable")] = np.arange(1, len(values) + 1) / len(values)
    return np.sign(values) * ranks


def _button(part: Part, chosen: str, style: str = "", kind: str = "", label: str = "") -> str:
    pressed, name = str(part.key == chosen).lower(), escape(label or part.label)
    small = f"<small>{part.count:,}</small>" if part.count and part.key not in STREAM else ""
    return (
        f'<button type="button" class="part{kind}" data-part="{part.key}" aria-pressed="{pressed}"'
        f' data-shown="{SPOTS[part.key].section}" style="{style}"'
        f' title="{name}: {escape(part.title)}"><span>{name} {small}</span></button>'
    )


def _shape(*sizes: int) -> str:
    return f"({' × '.join(f'{size:,}' for size in sizes)})"
