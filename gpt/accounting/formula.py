"""Formulas as text in the shape letters of `gpt/model.py`, such as `layers * (4*d*d + 4*d)`.

One text gives the number and what is shown, so the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import CodeType

Number = int | float
_NAME = re.compile(r"[A-Za-z_]\w*")


def evaluate(formula: str, letters: Mapping[str, Number]) -> Number:
    """The result for `letters`, exact for whole numbers. Raises NameError on an unknown letter."""
    return eval(_compiled(formula), {"__builtins__": {}}, letters)  # our own constants only


def typeset(formula: str, letters: Mapping[str, Number] | None = None) -> str:
    """The formula with multiplication signs: `layers × (4 × d × d + 4 × d)`.

    With `letters`, their numbers stand in it: `12 × (4 × 768 × 768 + 4 × 768)`.
    """
    if letters is not None:
        formula = _NAME.sub(lambda match: _digits(letters[match[0]]), formula)
    tight = re.sub(r"\s*\*\*\s*2\b", "²", formula)
    return re.sub(r"\s*([*/])\s*", lambda match: " × " if match[1] == "*" else " / ", tight)


@cache
def _compiled(formula: str) -> CodeType:
    return compile(formula, "<formula>", "eval")


def _digits(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
