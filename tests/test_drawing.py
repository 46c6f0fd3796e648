"""The drawing of the architecture: its bars and its shapes are the model's."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch
from architecture_cases import TINY
from random_configs import any_size

from gpt import GPTConfig, GPTModel, count_parameters
from gpt.trace import Trace
from gpt.ui.architecture.model_drawing import drawing_html


@pytest.mark.parametrize("seed", range(5))
def test_the_drawing_is_well_formed_and_its_bars_are_in_proportion(seed: int) -> None:
    cfg = any_size(seed)
    count = count_parameters(cfg)
    counts = {row.name.replace("trf_blocks.*.", ""): row.count for row in count.rows}
    qkv = sum(counts.pop(f"att.W_{name}") for name in ("query", "key", "value"))
    counts |= {"qkv": qkv, "blocks": count.block * cfg.n_layers}
    order = ["tok_emb", "pos_emb", "blocks", "final_norm"]
    order += [] if cfg.tie_weights else ["out_head"]
    largest = max(counts[name] for name in order)
    order += ["norm1", "qkv", "att.out_proj", "norm2", "ff.layers.0", "ff.layers.2"]
    rects = drawing(cfg, 2, 5).iter("rect")
    bars = [float(bar.get("width")) for bar in rects if bar.get("class") == "size"]
    assert bars == pytest.approx([max(1, 104 * counts[name] / largest) for name in order], abs=0.01)


def drawing(cfg: GPTConfig, batch: int, tokens: int) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{drawing_html(cfg, batch, tokens)}</div>")


def test_the_drawing_shows_the_shape_on_each_arrow_as_the_trace_records_it() -> None:
    trace = Trace()
    torch.manual_seed(0)
    GPTModel(TINY).eval()(torch.zeros(2, 5, dtype=torch.long), trace=trace)
    texts = drawing(TINY, 2, 5).iter("text")
    shown = [text.text for text in texts if text.get("class") == "shape"]
    names = [None, "tok_emb", "trf_blocks.0.resid_in", "trf_blocks.1.resid_out", None, "logits"]
    block = ["norm1", "att.queries", "att.scores", None, "att_out", "norm2"]
    names += [name and f"trf_blocks.0.{name}" for name in [*block, "ff.hidden", "ff.activation"]]
    names += ["trf_blocks.0.ff_out"]
    assert len(shown) == len(names)
    for text, name in zip(shown, names, strict=True):
        if name is not None:
            sizes = " × ".join(f"{size:,}" for size in trace[name].shape)
            assert text.removeprefix("3 of ").removesuffix("  logits") == sizes


def test_a_part_of_the_drawing_tells_its_formula_and_is_as_wide_as_told() -> None:
    parts = {
        part.find("text").text: part.get("aria-label")
        for part in drawing(GPTConfig(), 1, 1024).iter("g")
        if part.get("aria-label")
    }
    assert "50,257 × 768 = 38,597,376 parameters" in parts["out_head"]
    assert "12 × 7,085,568 = 85,026,816 parameters" in parts["TransformerBlock × 12"]
    assert "FLOP" in parts["softmax(Q Kᵀ / √e)"]
