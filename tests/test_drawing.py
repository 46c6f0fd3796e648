"""The drawing of the architecture: its bars and its shapes are the model's."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch
from architecture_cases import TINY
from random_configs import any_size

from gpt import GPTModel, count_parameters
from gpt.trace import Trace
from gpt.ui.architecture.drawing import drawing_svg


@pytest.mark.parametrize("seed", range(15))
def test_the_drawing_is_well_formed_and_its_bars_are_in_proportion(seed: int) -> None:
    cfg = any_size(seed)
    drawing = ElementTree.fromstring(drawing_svg(cfg, 2, 5))
    counts = {
        row.name.replace("trf_blocks.*.", ""): row.count for row in count_parameters(cfg).rows
    }
    qkv = sum(counts.pop(f"att.W_{name}") for name in ("query", "key", "value"))
    bars = [float(bar.get("width")) for bar in drawing.iter("rect") if bar.get("class") == "size"]
    order = ["tok_emb", "pos_emb", "norm1", None, "att.out_proj", "norm2", "ff.layers.0"]
    order += ["ff.layers.2", "final_norm", *([] if cfg.tie_weights else ["out_head"])]
    sizes = [qkv if name is None else counts[name] for name in order]
    assert bars == pytest.approx([max(1, 104 * size / max(sizes)) for size in sizes], abs=0.01)


def test_the_drawing_shows_the_shape_on_each_arrow_as_the_trace_records_it() -> None:
    trace = Trace()
    torch.manual_seed(0)
    GPTModel(TINY).eval()(torch.zeros(2, 5, dtype=torch.long), trace=trace)
    drawing = ElementTree.fromstring(drawing_svg(TINY, 2, 5))
    shown = [text.text for text in drawing.iter("text") if text.get("class") == "shape"]
    names = ["tok_emb", None, "norm1", "att.queries", "att.scores", None, "att_out", "norm2"]
    names += ["ff.hidden", "ff.activation", "ff_out"]
    for text, name in zip(shown[1:], names, strict=False):
        if name is None:
            continue
        value = trace[name if name == "tok_emb" else f"trf_blocks.0.{name}"]
        assert text.removeprefix("3 of ") == " × ".join(f"{size:,}" for size in value.shape)
    assert shown[-1] == "2 × 5 × 97  logits"
