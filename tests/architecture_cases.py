"""Configurations that the tests of the Architecture tab share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from gpt import GPTConfig
from gpt.ui.architecture.layout import figures
from gpt.ui.architecture.presets import presets

TINY = GPTConfig(97, 48, 24, 3, 2)


class NoRegistry:
    """A project without the storyteller."""

    def config_of(self, source: str) -> GPTConfig:
        raise ValueError(f"there is no {source}")


NAMED = presets(NoRegistry())
SECTIONS = ("", "numbers", "code", "memory", "operations", "compare", "work")
WORKLOAD = {
    "batch": 1,
    "tokens": 1024,
    "precision": "float16",
    "device": "laptop",
    "train_tokens": 2.5e9,
    "utilisation": 0.4,
    "compare": "gpt2-small",
    "format": "JSON",
    "part": "block",
}


def values_of(cfg: GPTConfig, **changes: Any) -> dict[str, Any]:
    return {**asdict(cfg), **WORKLOAD, **changes}


def figures_of(
    cfg: GPTConfig, sections: Collection[str] = SECTIONS, **changes: Any
) -> dict[str, str]:
    """The texts of the tab for `cfg`, by the names of the views."""
    return figures(values_of(cfg, **changes), NAMED, sections)
