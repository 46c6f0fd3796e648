"""The model as two SVGs from its configuration: the whole, and one block, with shapes and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpt.accounting import ParameterRow, count_parameters
from gpt.accounting.memory import Amount
from gpt.accounting.operations import forward
from gpt.config import GPTConfig
from gpt.ui.parts.sentences import say

WIDTH = 324
STREAM = 18  # x of the residual stream
LEFT, BOX, HEIGHT = 50, 150, 30
BAR, BAR_WIDTH = 210, 104
PITCH, TOP, TIP = 56, 42, 58
LONGEST_LINE = 54  # characters of a tip before they are squeezed
HINT = "Point at a part, or press Tab: its formula."


@dataclass(frozen=True)
class Part:
    """A box: its label, the lines that hover or focus shows, and its parameters."""

    label: str
    lines: tuple[str, str, str]
    count: int = 0


@dataclass(frozen=True)
class Level:
    """Boxes side by side, the shape that leaves them, and what they do to the stream."""

    parts: tuple[Part, ...]
    shape: str
    leaves_stream: bool = False  # reads a copy of the stream
    joins_stream: bool = False  # is added back


def drawing_html(cfg: GPTConfig, batch: int, tokens: int) -> str:
    """The whole model and one of its blocks side by side, and what the drawing leaves out.

    Hover or focus on a part shows its formula. The bar beside a part is as long as its
    parameters over all blocks. Colours are the theme's (see assets/style.css).
    """
    whole, block = _levels(cfg, batch, tokens)
    largest = max(sum(part.count for part in level.parts) for level in whole)
    what = f"for {batch:,} × {tokens:,} tokens"
    drawings = (
        _svg(whole, "GPTModel", f"The model as a drawing, {what}", largest, len(whole) - 2),
        _svg(
            block,
            f"TransformerBlock, one of {cfg.n_layers:,}",
            f"A block as a drawing: width {cfg.emb_dim:,}, {cfg.n_heads:,} heads, {what}",
            largest,
            len(block),
        ),
    )
    read = (
        f"Bars: parameters, over all {cfg.n_layers:,} blocks. Grey numbers: the shape on each "
        f"arrow. Not drawn: dropout (drop_rate {cfg.drop_rate:g}), which acts in training only."
    )
    return f'<div class="arch-drawings">{"".join(drawings)}</div>' + say(read, "hint")


def _svg(levels: Sequence[Level], title: str, label: str, largest: int, stream_end: int) -> str:
    """One drawing; the stream runs from the first level that touches it to `stream_end`."""
    tip = TOP + PITCH * len(levels) + 4
    tops = [TOP + PITCH * index for index in range(len(levels))]
    body = [_stream(levels, tops, stream_end)]
    body += [_level(level, top, largest, tip) for level, top in zip(levels, tops, strict=True)]
    return (
        f'<svg class="arch-drawing" viewBox="0 0 {WIDTH} {tip + TIP + 4}" role="group" '
        f'aria-label="{escape(label)}">'
        f'<defs><marker id="arch-arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        f'<text class="strong" x="{LEFT}" y="20">{escape(title)}</text>'
        f'<text class="soft" x="10" y="{tip + 32}">{HINT}</text>{"".join(body)}</svg>'
    )


def _levels(cfg: GPTConfig, batch: int, tokens: int) -> tuple[list[Level], list[Level]]:
    """The levels of the whole model and those of a block, from the ids downwards."""
    count = count_parameters(cfg)
    rows = {row.name.replace("trf_blocks.*.", ""): row for row in count.rows}
    flops = {part.name: part for part in forward(cfg, batch, tokens).parts}
    stream = _shape(batch, tokens, cfg.emb_dim)
    wide = _shape(batch, tokens, 4 * cfg.emb_dim)
    heads = _shape(batch, cfg.n_heads, tokens, cfg.head_dim)
    square = _shape(batch, cfg.n_heads, tokens, tokens)
    logits = _shape(batch, tokens, cfg.vocab_size)
    ids = Part("token ids", ("token ids", "what the tokenizer made of the text", ""))
    gelu = Part("GELU", ("GELU", "0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))", "no parameters"))
    qkv = tuple(_weights(rows[f"att.W_{name}"]) for name in ("query", "key", "value"))
    all_blocks = cfg.n_layers * count.block
    blocks = Part(
        f"TransformerBlock × {cfg.n_layers:,}",
        (
            "trf_blocks: each reads the stream and adds to it",
            "layers × the parameters of a block",
            f"{cfg.n_layers:,} × {count.block:,} = {all_blocks:,} parameters",
        ),
        all_blocks,
    )
    whole = [
        Level((ids,), _shape(batch, tokens)),
        Level((_weights(rows["tok_emb"]),), stream),
        Level((_weights(rows["pos_emb"], "+ pos_emb"),), stream, joins_stream=True),
        Level((blocks,), stream, leaves_stream=True, joins_stream=True),
        Level((_weights(rows["final_norm"]),), stream, leaves_stream=True),
        Level((_weights(rows["out_head"]),), f"{logits}  logits"),
    ]
    block = [
        Level((_weights(rows["norm1"]),), stream, leaves_stream=True),
        Level(qkv, f"3 of {heads}"),
        Level((_product(flops["scores Q Kᵀ"], "softmax(Q Kᵀ / √e)"),), square),
        Level((_product(flops["attention × V"], "attention × V"),), stream),
        Level((_weights(rows["att.out_proj"]),), stream, joins_stream=True),
        Level((_weights(rows["norm2"]),), stream, leaves_stream=True),
        Level((_weights(rows["ff.layers.0"]),), wide),
        Level((gelu,), wide),
        Level((_weights(rows["ff.layers.2"]),), stream, joins_stream=True),
    ]
    return whole, block


def _weights(row: ParameterRow, label: str = "") -> Part:
    name = row.name.replace("trf_blocks.*.", "").removeprefix("att.")
    numbers = f"{row.numbers} = {row.count:,} parameters"
    if row.formula == "0":
        numbers = "no numbers of its own: it is tied to tok_emb"
    return Part(label or name, (f"{name}: {row.purpose}", row.formula, numbers), row.count)


def _product(part: Amount, label: str) -> Part:
    numbers = f"{part.numbers} = {int(part.value):,} FLOP"
    return Part(label, (f"{label}: no parameters; {part.note}", part.formula, numbers))


def _shape(*sizes: int) -> str:
    return " × ".join(f"{size:,}" for size in sizes)


def _level(level: Level, y: int, largest: int, tip: int) -> str:
    middle = LEFT + BOX / 2
    pieces = []
    if level.leaves_stream:
        pieces.append(_path(f"M{STREAM} {y + HEIGHT / 2} H{LEFT - 6}", arrow=True))
    below = y + HEIGHT
    if level.joins_stream:
        into = below + 13
        pieces.append(_path(f"M{middle} {below} V{into} H{STREAM + 9}", arrow=True))
        pieces.append(
            f'<circle class="plus" cx="{STREAM}" cy="{into}" r="8"/>'
            f'<text class="middle" x="{STREAM}" y="{into + 4}">+</text>'
        )
    else:
        pieces.append(_path(f"M{middle} {below} V{y + PITCH - 6}", arrow=True))
    x = middle + 6
    y_text = below + 17
    pieces.append(f'<text class="shape" x="{x}" y="{y_text}">{escape(level.shape)}</text>')
    total = sum(part.count for part in level.parts)
    if total:
        pieces.append(_bar(total, y, largest))
    width = (BOX - 4 * (len(level.parts) - 1)) / len(level.parts)
    for index, part in enumerate(level.parts):
        pieces.append(_box(part, LEFT + index * (width + 4), y, width, tip))
    return "".join(pieces)


def _box(part: Part, x: float, y: int, width: float, tip: int) -> str:
    """A part that can be focused; its formula appears at `tip`, below the drawing."""
    said = escape(". ".join(line for line in part.lines if line))
    lines = []
    for index, line in enumerate(part.lines):
        squeeze = (
            ' textLength="304" lengthAdjust="spacingAndGlyphs"' if len(line) > LONGEST_LINE else ""
        )
        kind = ' class="strong"' if index == 0 else ""
        lines.append(
            f'<text{kind} x="10" y="{tip + 17 + 16 * index}"{squeeze}>{escape(line)}</text>'
        )
    kind = "part" if part.count else "part bare"
    return (
        f'<g class="{kind}" tabindex="0" role="img" aria-label="{said}">'
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="5"/>'
        f'<text class="middle{" small" if width < 100 else ""}" x="{x + width / 2:.1f}" '
        f'y="{y + 19}">{escape(part.label)}</text>'
        f'<g class="tip" aria-hidden="true"><rect x="2" y="{tip}" width="{WIDTH - 4}" '
        f'height="{TIP}" rx="5"/>{"".join(lines)}</g></g>'
    )


def _bar(count: int, y: int, largest: int) -> str:
    width = max(1.0, BAR_WIDTH * count / largest)
    return (
        f'<rect class="size" x="{BAR}" y="{y + 15}" width="{width:.2f}" height="{HEIGHT - 15}"/>'
        f'<text class="count" x="{BAR}" y="{y + 10}">{count:,}</text>'
    )


def _stream(levels: Sequence[Level], tops: list[int], end: int) -> str:
    """The residual stream, from where the first level joins or leaves it to level `end`."""
    first = next(i for i, each in enumerate(levels) if each.joins_stream or each.leaves_stream)
    start = tops[first] + (HEIGHT + 21 if levels[first].joins_stream else -10)
    stop = tops[end] + HEIGHT // 2 if end < len(tops) else tops[-1] + HEIGHT + 22
    middle = (start + stop) // 2
    return (
        f'<path class="stream" d="M{STREAM} {start} V{stop}"/>'
        f'<text class="soft" transform="translate({STREAM - 7} {middle}) rotate(-90)" '
        f'text-anchor="middle">residual stream</text>'
    )


def _path(d: str, arrow: bool = False) -> str:
    end = ' marker-end="url(#arch-arrow)"' if arrow else ""
    return f'<path class="arrow" d="{d}"{end}/>'
