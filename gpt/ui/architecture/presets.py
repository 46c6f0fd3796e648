"""Configurations with a name: the book's, GPT-2's, the storyteller, GPT-3's sizes."""

import contextlib
from dataclasses import replace
from typing import Any

from gpt.config import PRESETS, GPTConfig

Presets = dict[str, tuple[str, GPTConfig]]  # by key: a line for the picker, the sizes
CUSTOM = "custom"
TRILLION = GPTConfig(51_200, 2048, 25_600, 160, 128, tie_weights=True, qkv_bias=True)
# Layers, width and heads. Source: Brown et al. 2020, table 2.1.
GPT3_SIZES = {
    "Small, 125M": (12, 768, 12),
    "Medium, 350M": (24, 1024, 16),
    "Large, 760M": (24, 1536, 16),
    "2.7B": (32, 2560, 32),
    "6.7B": (32, 4096, 32),
    "175B": (96, 12288, 96),
}
GPT3_NOTE = (
    "GPT-3 sizes are those of table 2.1 of Brown et al. 2020 with GPT-2's vocabulary, biases and "
    "tied head. XL (24 heads of 128, width 2,048) and 13B (40 heads of 128, width 5,140) are left "
    "out: here the heads divide the width."
)


def presets(registry: Any) -> Presets:
    """All presets, the book's first; the storyteller only where `registry` can read it."""
    found = {}
    for key, cfg in PRESETS.items():
        form = "the book's 124M" if key == "gpt2-small" else "no biases, own head"
        found[key] = f"{key}: {form}", cfg
    with contextlib.suppress(ValueError):  # not in this copy of the project
        cfg = registry.config_of("storyteller")
        found["storyteller"] = "The storyteller that this app ships", cfg
    released = {"qkv_bias": True, "tie_weights": True}
    for key, cfg in PRESETS.items():
        label = f"{key}, released: biases, tied head"
        found[f"{key}-released"] = label, replace(cfg, **released)
    for name, (layers, width, heads) in GPT3_SIZES.items():
        cfg = GPTConfig(50_257, 2_048, width, heads, layers, **released)
        key = f"gpt3-{name.split(', ')[-1].lower()}"
        found[key] = f"GPT-3 {name}, context 2,048", cfg
    found["trillion"] = "A trillion parameters: 128 layers of 25,600", TRILLION
    return found


def name_of(cfg: GPTConfig, among: Presets) -> str:
    """The key of the preset equal to `cfg`, else CUSTOM."""
    return next((key for key, (_, sizes) in among.items() if sizes == cfg), CUSTOM)
