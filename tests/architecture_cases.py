"""Configurations that the tests of the Architecture tab share."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gpt import GPTConfig
from gpt.ui.architecture.presets import presets

TINY = GPTConfig(97, 48, 24, 3, 2)


class NoRegistry:
    """A project without the storyteller."""

    def config_of(self, source: str) -> GPTConfig:
        raise ValueError(f"there is no {source}")


NAMED = presets(NoRegistry())
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
