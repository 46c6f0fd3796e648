"""Tiny random models for the tests: 2 layers, width 24, vocabulary 97, in every variant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from gpt.checkpoints.sources import config_of, load_model
from gpt.config import GPTConfig
from gpt.internals.residual import lens_in_steps
from gpt.model import GPTModel

TINY = GPTConfig(vocab_size=97, context_length=32, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.1)
VARIANTS = [
    replace(TINY, qkv_bias=bias, tie_weights=tied)
    for bias in (False, True)
    for tied in (False, True)
]
IDS = [5, 17, 3, 96, 0, 17, 42]


def tiny_model(cfg: GPTConfig = TINY, seed: int = 0) -> GPTModel:
    """A model in eval mode whose every parameter is random: no bias 0, no scale 1."""
    torch.manual_seed(seed)
    model = GPTModel(cfg).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if name.endswith("scale") else 0.0, 0.3)
    return model


def read_lens(*asked: Any) -> SimpleNamespace:
    *_, lens = lens_in_steps(*asked)
    return SimpleNamespace(**lens)


class TinyRegistry:
    """The part of the registry that a tab needs, over tiny models; counts the loads."""

    def __init__(self, models: dict[str, GPTModel]) -> None:
        self.models = models
        self.borrowed = 0

    def sources(self) -> dict[str, str]:
        return {name: name.title() for name in self.models}

    def config_of(self, source: str) -> GPTConfig:
        return config_of(source) if source.startswith("random:") else self.models[source].cfg

    @contextmanager
    def borrow(self, source: str, *_: Any, **__: Any) -> Iterator[GPTModel]:
        self.borrowed += 1
        yield load_model(source) if source.startswith("random:") else self.models[source]
