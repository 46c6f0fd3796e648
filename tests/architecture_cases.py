"""Configurations that the tests of the Architecture tab share."""

from __future__ import annotations

from gpt import GPTConfig
from gpt.ui.architecture.presets import presets

TINY = GPTConfig(97, 48, 24, 3, 2)


class NoRegistry:
    """A project without the storyteller."""

    def config_of(self, source: str) -> GPTConfig:
        raise ValueError(f"there is no {source}")


NAMED = presets(NoRegistry())
