"""Configurations that nobody chose."""

import random

from gpt import GPTConfig

Range = tuple[int, int]  # the least and the most


def random_config(
    seed: int, vocab: Range, context: Range, heads: Range, head_dim: Range, layers: Range
) -> GPTConfig:
    """The same configuration for the same seed and ranges."""
    draw = random.Random(seed)
    n_heads = draw.randint(*heads)
    return GPTConfig(
        vocab_size=draw.randint(*vocab),
        context_length=draw.randint(*context),
        emb_dim=n_heads * draw.randint(*head_dim),
        n_heads=n_heads,
        n_layers=draw.randint(*layers),
        drop_rate=draw.choice([0.0, 0.1, draw.random()]),
        qkv_bias=draw.random() < 0.5,
        tie_weights=draw.random() < 0.5,
    )


def any_size(seed: int) -> GPTConfig:
    """From one parameter a matrix to far more than any machine holds."""
    return random_config(seed, (1, 300_000), (1, 100_000), (1, 40), (1, 600), (1, 300))


def buildable(seed: int) -> GPTConfig:
    """Small enough for a model of it to be built in a test."""
    return random_config(seed, (1, 70_000), (1, 3_000), (1, 9), (1, 90), (1, 5))


def tiny(seed: int) -> GPTConfig:
    """A model of it computes in no time; at least two tokens fit its context."""
    return random_config(seed, (5, 120), (2, 24), (1, 4), (2, 12), (1, 4))
