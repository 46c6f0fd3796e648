"""Parameters per part of a GPT, each with its formula, from the configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.config import GPTConfig


@dataclass(frozen=True)
class ParameterRow:
    """One part: its tensor shapes, the formula, the same with numbers, the count, its purpose."""

    name: str
    shape: str
    formula: str
    numbers: str
    count: int
    purpose: str


@dataclass(frozen=True)
class ParameterCount:
    """Rows that add up to `total`, the number of distinct parameters of the model."""

    rows: tuple[ParameterRow, ...]

    @property
    def total(self) -> int:
        return sum(row.count for row in self.rows)


def count_parameters(cfg: GPTConfig | Mapping[str, Any]) -> ParameterCount:
    raise NotImplementedError
