"""Parameters per part of a GPT, each with its formula, from the configuration alone.

A formula is a text in the shape letters of `gpt/model.py`, such as `layers * (4*d*d + 4*d)`. It
gives the number and what is shown, so the two cannot differ.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from gpt.config import GPTConfig, as_config

_NAME = re.compile(r"[A-Za-z_]\w*")
_compiled = cache(partial(compile, filename="<formula>", mode="eval"))  # parsed once
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
        in_block = (row for row in self.rows if row.name.startswith("trf_blocks."))
        return sum(row.count // row.copies for row in in_block)


def _parts(cfg: GPTConfig) -> tuple[tuple[str, str, str, str, str], ...]:
    """A part's path, shapes of its tensors, formula of one copy, purpose and group, for each."""
    qkv = ("d d, d", "d*d + d") if cfg.qkv_bias else ("d d", "d*d")
    head = ("out_head", "vocab d", "vocab*d", "a score for each token", "head")
    if cfg.tie_weights:
        head = ("out_head", "", "0", "a score for each token, with the weights of tok_emb", "head")
    in_block = (
        ("att.W_query", *qkv, "what a position looks for", "attention"),
        ("att.W_key", *qkv, "what a position offers to be found by", "attention"),
        ("att.W_value", *qkv, "what a position passes on when it is found", "attention"),
        ("att.out_proj", "d d, d", "d*d + d", "mixes the heads back into the stream", "attention"),
        ("ff.layers.0", "4*d d, 4*d", "4*d*d + 4*d", "widens each position to 4 d", "feed-forward"),
        ("ff.layers.2", "d 4*d, d", "4*d*d + d", "narrows it back to d", "feed-forward"),
        ("norm1", "d, d", "2*d", "scale and shift in front of attention", "norms"),
        ("norm2", "d, d", "2*d", "scale and shift in front of feed-forward", "norms"),
    )
    return (
        ("tok_emb", "vocab d", "vocab*d", "a vector for each token", "embeddings"),
        ("pos_emb", "context d", "context*d", "a vector for each position", "embeddings"),
        *((f"trf_blocks.*.{name}", *rest) for name, *rest in in_block),
        ("final_norm", "d, d", "2*d", "scale and shift in front of the head", "final norm"),
        head,
    )


def count_parameters(cfg: GPTConfig | Mapping[str, Any]) -> ParameterCount:
    """Every part of the model with its parameters; `.total` is what the real module holds.

    A tied head is a row with no parameters of its own. Nothing is allocated.
    Raises ValueError if the configuration is impossible.
    """
    cfg = as_config(cfg)
    letters, rows = letters_of(cfg), []
    for name, shapes, each, purpose, group in _parts(cfg):
        copies = cfg.n_layers if name.startswith("trf_blocks.") else 1
        formula = each if copies == 1 else f"layers * ({each})"
        shape = " + ".join(typeset_shape(shape, letters) for shape in shapes.split(", ") if shape)
        shown = typeset(formula), typeset(formula, letters)
        count = int(value_of(formula, letters))
        rows.append(ParameterRow(name, shape or "shared", *shown, count, purpose, group, copies))
    return ParameterCount(tuple(rows))


def letters_of(cfg: GPTConfig, **others: int) -> dict[str, int]:
    """Letters of formulas: vocab, context, layers, and d, h, e as in `gpt/model.py`; `others`."""
    return {
        "vocab": cfg.vocab_size,
        "context": cfg.context_length,
        "layers": cfg.n_layers,
        "d": cfg.emb_dim,
        "h": cfg.n_heads,
        "e": cfg.head_dim,
        **others,
    }


def value_of(formula: str, letters: Mapping[str, int]) -> float:
    """The result for `letters`, exact for whole numbers. Raises NameError on an unknown letter."""
    return eval(_compiled(formula), {"__builtins__": {}}, letters)  # our own constants only


def typeset(formula: str, letters: Mapping[str, int] | None = None) -> str:
    """The formula with multiplication signs: `layers × (4 × d × d + 4 × d)`.

    With `letters`, their numbers stand in it: `12 × (4 × 768 × 768 + 4 × 768)`.
    """
    if letters is not None:
        formula = _NAME.sub(lambda match: f"{letters[match[0]]:,}", formula)
    return re.sub(r"\s*([*/])\s*", lambda match: " × " if match[1] == "*" else " / ", formula)


def typeset_shape(shape: str, letters: Mapping[str, int]) -> str:
    """The sizes that a text such as `b t 4*d` names: `(1 × 1,024 × 3,072)`."""
    sizes = (f"{value_of(axis, letters):,}" for axis in shape.split())
    return f"({' × '.join(sizes)})"
