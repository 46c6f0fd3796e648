"""Configurations with a name: the book's, GPT-2's, the storyteller, GPT-3's sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpt.config import PRESETS, GPTConfig, check_heads

CUSTOM = "custom"
TRILLION = GPTConfig(51_200, 2048, 25_600, 160, 128, tie_weights=True, qkv_bias=True)


@dataclass(frozen=True)
class Preset:
    """A configuration to choose: a key, a line for the picker, the sizes."""

    key: str
    label: str
    cfg: GPTConfig


@dataclass(frozen=True)
class PublishedSize:
    """A row of a paper's table, before it is asked whether this model can have that shape."""

    name: str
    n_layers: int
    emb_dim: int
    n_heads: int
    head_dim: int

    def refusal(self) -> str:
        """Why `GPTConfig` cannot express it, or an empty text: heads must divide the width."""
        try:
            check_heads(self.emb_dim, self.n_heads)
        except ValueError:
            heads = f"{self.n_heads} heads of {self.head_dim}"
            return f"{heads} make {self.n_heads * self.head_dim:,}, the width is {self.emb_dim:,}"
        return ""

    def config(self) -> GPTConfig:
        """With GPT-2's vocabulary, biases and tied head and the context of 2,048."""
        return GPTConfig(
            context_length=2048,
            emb_dim=self.emb_dim,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            qkv_bias=True,
            tie_weights=True,
        )


# Source: Brown et al. 2020, table 2.1: layers, d_model, heads, d_head.
GPT3_SIZES = (
    PublishedSize("Small, 125M", 12, 768, 12, 64),
    PublishedSize("Medium, 350M", 24, 1024, 16, 64),
    PublishedSize("Large, 760M", 24, 1536, 16, 96),
    PublishedSize("XL, 1.3B", 24, 2048, 24, 128),
    PublishedSize("2.7B", 32, 2560, 32, 80),
    PublishedSize("6.7B", 32, 4096, 32, 128),
    PublishedSize("13B", 40, 5140, 40, 128),
    PublishedSize("175B", 96, 12288, 96, 128),
)


def presets(registry: Any) -> tuple[Preset, ...]:
    """All presets, the book's first; the storyteller only where `registry` can read it."""
    found = []
    for key, cfg in PRESETS.items():
        form = "the book's 124M" if key == "gpt2-small" else "no biases, own head"
        found.append(Preset(key, f"{key}: {form}", cfg))
    found += _storyteller(registry)
    for key, cfg in PRESETS.items():
        released = replace(cfg, qkv_bias=True, tie_weights=True)
        label = f"{key}, released: biases, tied head"
        found.append(Preset(f"{key}-released", label, released))
    for size in GPT3_SIZES:
        if not size.refusal():
            key = f"gpt3-{size.name.split(', ')[-1].lower()}"
            found.append(Preset(key, f"GPT-3 {size.name}, context 2,048", size.config()))
    found.append(Preset("trillion", "A trillion parameters: 128 layers of 25,600", TRILLION))
    return tuple(found)


def not_expressible() -> tuple[tuple[str, str], ...]:
    """The published sizes that this model cannot have, each with the reason."""
    return tuple((size.name, size.refusal()) for size in GPT3_SIZES if size.refusal())


def name_of(cfg: GPTConfig, among: tuple[Preset, ...]) -> str:
    """The key of the preset equal to `cfg`, else CUSTOM."""
    return next((preset.key for preset in among if preset.cfg == cfg), CUSTOM)


def _storyteller(registry: Any) -> list[Preset]:
    try:
        cfg = registry.config_of("storyteller")
    except ValueError:  # not in this copy of the project
        return []
    return [Preset("storyteller", "The storyteller that this app ships", cfg)]
