"""Configurations that the tests of the Architecture tab share."""

from __future__ import annotations

import random

from gpt import GPTConfig
from gpt.ui.architecture.presets import presets

TINY = GPTConfig(97, 48, 24, 3, 2)


class NoRegistry:
    """A project without the storyteller."""

    def config_of(self, source: str) -> GPTConfig:
        raise ValueError(f"there is no {source}")


NAMED = presets(NoRegistry())


def random_config(seed: int) -> GPTConfig:
    draw = random.Random(seed)
    heads = draw.randint(1, 40)
    return GPTConfig(
        vocab_size=draw.randint(1, 300_000),
        context_length=draw.randint(1, 100_000),
        emb_dim=heads * draw.randint(1, 600),
        n_heads=heads,
        n_layers=draw.randint(1, 300),
        drop_rate=draw.random(),
        qkv_bias=draw.random() < 0.5,
        tie_weights=draw.random() < 0.5,
    )
