"""Parameters per part of a GPT, each with its formula, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpt.accounting.formula import Formula, Number
from gpt.config import GPTConfig, as_config

GROUPS = ("embeddings", "attention", "feed-forward", "norms", "final norm", "head")


@dataclass(frozen=True)
class ParameterRow:
    """One part: its tensor shapes, the formula, the same with numbers, the count, its purpose.

    `name` is the module's dotted path, `group` one of GROUPS; `copies` is n_layers for a part
    of the block, and `count` is over all copies.
    """

    name: str
    shape: str
    formula: str
    numbers: str
    count: int
    purpose: str
    group: str
    copies: int

    @property
    def each(self) -> int:
        """The count of one copy."""
        return self.count // self.copies


@dataclass(frozen=True)
class ParameterCount:
    """Rows that add up to `total`, the number of distinct parameters of the model."""

    rows: tuple[ParameterRow, ...]

    @property
    def total(self) -> int:
        return sum(row.count for row in self.rows)

    def subtotal(self, group: str) -> int:
        """Parameters of a group of GROUPS, over all blocks."""
        return sum(row.count for row in self.rows if row.group == group)

    @property
    def block(self) -> int:
        """Parameters of one transformer block."""
        return sum(row.each for row in self.rows if row.name.startswith("trf_blocks."))


@dataclass(frozen=True)
class _Part:
    """A row before the numbers: shapes as names of letters, the formula of one copy."""

    name: str
    shapes: tuple[str, ...]
    each: str
    purpose: str
    group: str

    def row(self, letters: Mapping[str, Number], copies: int) -> ParameterRow:
        formula = Formula(self.each if copies == 1 else f"layers * ({self.each})")
        return ParameterRow(
            name=self.name,
            shape=" + ".join(_shape(shape, letters) for shape in self.shapes) or "shared",
            formula=formula.text(),
            numbers=formula.numbers(letters),
            count=int(formula.value(letters)),
            purpose=self.purpose,
            group=self.group,
            copies=copies,
        )


_BEFORE = (
    _Part("tok_emb", ("vocab d",), "vocab*d", "a vector for each token", "embeddings"),
    _Part("pos_emb", ("context d",), "context*d", "a vector for each position", "embeddings"),
)
_QUERY_KEY_VALUE = (
    _Part("W_query", ("d d",), "d*d", "what a position looks for", "attention"),
    _Part("W_key", ("d d",), "d*d", "what a position offers to be found by", "attention"),
    _Part("W_value", ("d d",), "d*d", "what a position passes on when it is found", "attention"),
)
_PROJECTION = _Part(
    "out_proj", ("d d", "d"), "d*d + d", "mixes the heads back into the stream", "attention"
)
_AFTER_ATTENTION = (
    _Part(
        "ff.layers.0", ("4d d", "4d"), "4*d*d + 4*d", "widens each position to 4 d", "feed-forward"
    ),
    _Part("ff.layers.2", ("d 4d", "d"), "4*d*d + d", "narrows it back to d", "feed-forward"),
    _Part("norm1", ("d", "d"), "2*d", "scale and shift in front of attention", "norms"),
    _Part("norm2", ("d", "d"), "2*d", "scale and shift in front of feed-forward", "norms"),
)
_FINAL_NORM = _Part(
    "final_norm", ("d", "d"), "2*d", "scale and shift in front of the head", "final norm"
)
_HEAD = _Part("out_head", ("vocab d",), "vocab*d", "a score for each token", "head")
_TIED_HEAD = _Part(
    "out_head", (), "0", "a score for each token, with the weights of tok_emb", "head"
)


def count_parameters(cfg: GPTConfig | Mapping[str, Any]) -> ParameterCount:
    """Every part of the model with its parameters; `.total` is what the real module holds.

    A tied head is a row with no parameters of its own. Nothing is allocated.
    Raises ValueError if the configuration is impossible.
    """
    cfg = as_config(cfg)
    letters = letters_of(cfg)
    block = [_in_block(part) for part in _attention_parts(cfg.qkv_bias)]
    block += [_in_block(part) for part in _AFTER_ATTENTION]
    rows = [part.row(letters, copies=1) for part in _BEFORE]
    rows += [part.row(letters, copies=cfg.n_layers) for part in block]
    rows.append(_FINAL_NORM.row(letters, copies=1))
    rows.append((_TIED_HEAD if cfg.tie_weights else _HEAD).row(letters, copies=1))
    return ParameterCount(tuple(rows))


def book_steps(cfg: GPTConfig | Mapping[str, Any]) -> dict[str, int]:
    """The sums of the book's exercise 4.1 and its text, in the order in which they add up.

    Keys: embeddings, attention, feed_forward, norms_per_block, block, blocks, final_norm,
    out_head, total, without_out_head. Attention, feed-forward and norms are of one block.
    """
    cfg = as_config(cfg)
    count = count_parameters(cfg)
    return {
        "embeddings": count.subtotal("embeddings"),
        "attention": count.subtotal("attention") // cfg.n_layers,
        "feed_forward": count.subtotal("feed-forward") // cfg.n_layers,
        "norms_per_block": count.subtotal("norms") // cfg.n_layers,
        "block": count.block,
        "blocks": cfg.n_layers * count.block,
        "final_norm": count.subtotal("final norm"),
        "out_head": count.subtotal("head"),
        "total": count.total,
        "without_out_head": count.total - count.subtotal("head"),
    }


def letters_of(cfg: GPTConfig) -> dict[str, Number]:
    """The letters that formulas use: vocab, context, layers, and d, h, e as in `gpt/model.py`."""
    return {
        "vocab": cfg.vocab_size,
        "context": cfg.context_length,
        "layers": cfg.n_layers,
        "d": cfg.emb_dim,
        "h": cfg.n_heads,
        "e": cfg.head_dim,
    }


def _attention_parts(qkv_bias: bool) -> Iterable[_Part]:
    parts = [replace(part, name=f"att.{part.name}") for part in (*_QUERY_KEY_VALUE, _PROJECTION)]
    if not qkv_bias:
        return parts
    biased = [replace(part, shapes=("d d", "d"), each="d*d + d") for part in parts[:3]]
    return [*biased, parts[3]]


def _in_block(part: _Part) -> _Part:
    return replace(part, name=f"trf_blocks.*.{part.name}")


def _shape(shape: str, letters: Mapping[str, Number]) -> str:
    sizes = []
    for axis in shape.split():
        factor = 4 if axis.startswith("4") else 1
        sizes.append(f"{factor * letters[axis.removeprefix('4')]:,}")
    return f"({' × '.join(sizes)})"
