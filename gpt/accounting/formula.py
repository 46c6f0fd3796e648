"""Formulas as data: one text gives the number, the formula shown and the formula with numbers."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

Number = int | float
_OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Formula:
    """A formula in the shape letters of `gpt/model.py`, such as `layers * (4*d*d + 4*d)`.

    The count on the screen is this text evaluated, so the two cannot drift apart.
    """

    source: str

    def value(self, letters: Mapping[str, Number]) -> Number:
        """The result for `letters`, exact for whole numbers. Raises KeyError on an unknown one."""
        return _evaluate(_parse(self.source), letters)

    def text(self) -> str:
        """The formula with multiplication signs: `layers × (4 × d × d + 4 × d)`."""
        return _typeset(self.source)

    def numbers(self, letters: Mapping[str, Number]) -> str:
        """The same with this configuration's numbers: `12 × (4 × 768 × 768 + 4 × 768)`."""
        return _typeset(_NAME.sub(lambda match: _digits(letters[match[0]]), self.source))


@lru_cache(maxsize=256)
def _parse(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def _evaluate(node: ast.expr, letters: Mapping[str, Number]) -> Number:
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, letters), _evaluate(node.right, letters)
        return _OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.Name):
        return letters[node.id]
    assert isinstance(node, ast.Constant)
    return node.value


def _typeset(source: str) -> str:
    tight = re.sub(r"\s*\*\*\s*2\b", "²", source)
    return re.sub(r"\s*([*/])\s*", lambda match: " × " if match[1] == "*" else " / ", tight)


def _digits(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
