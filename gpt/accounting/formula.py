"""Formulas as data: one text gives the number, the formula shown and the formula with numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType

Number = int | float
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Formula:
    """A formula in the shape letters of `gpt/model.py`, such as `layers * (4*d*d + 4*d)`.

    The number shown is this text evaluated, so number and formula cannot differ.
    """

    source: str

    def value(self, letters: Mapping[str, Number]) -> Number:
        """The result for `letters`, exact for whole numbers. Raises NameError on an unknown one."""
        return eval(_compiled(self.source), {"__builtins__": {}}, letters)  # our own constants only

    def text(self) -> str:
        """The formula with multiplication signs: `layers × (4 × d × d + 4 × d)`."""
        return _typeset(self.source)

    def numbers(self, letters: Mapping[str, Number]) -> str:
        """The same with this configuration's numbers: `12 × (4 × 768 × 768 + 4 × 768)`."""
        return _typeset(_NAME.sub(lambda match: _digits(letters[match[0]]), self.source))


@cache
def _compiled(source: str) -> CodeType:
    return compile(source, "<formula>", "eval")


def _typeset(source: str) -> str:
    tight = re.sub(r"\s*\*\*\s*2\b", "²", source)
    return re.sub(r"\s*([*/])\s*", lambda match: " × " if match[1] == "*" else " / ", tight)


def _digits(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
