"""The picture of the model: areas are shares of the parameters, and each part explains itself."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from architecture_cases import TINY, figures_of
from PIL import Image
from random_configs import any_size
from tiny_models import TinyRegistry, tiny_model

from gpt import GPTConfig, count_parameters
from gpt.accounting.code_lines import line_costs
from gpt.serving.registry import Registry
from gpt.ui.architecture.model_map import (
    LABEL,
    SPOTS,
    boxes,
    code_line,
    made_by,
    map_html,
    part_html,
    parts,
    strip_html,
)
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.parts.numbers import four


@pytest.mark.parametrize("seed", range(5))
def test_each_area_is_the_share_of_the_parameters_and_none_lies_on_another(seed: int) -> None:
    cfg = any_size(seed)
    count = count_parameters(cfg)
    found = {key: box for key, *box in boxes(cfg)}
    for row in count.rows:
        _, _, width, height = found[row.name.replace("trf_blocks.*.", "")]
        assert width * height == pytest.approx(row.count / count.total)
    assert sum(width * height for *_, width, height in found.values()) == pytest.approx(1)
    right = 0.0
    for left, top, width, height in found.values():
        assert left == pytest.approx(right if top == 0 else left)
        assert top + height <= 1 + 1e-9
        right = left + width


@pytest.mark.parametrize(
    "cfg",
    [GPTConfig(), GPTConfig(10**6, 2**20, 65_536, 64, 120), GPTConfig(10**6), GPTConfig(97, 2**20),
     GPTConfig(10**6, 2**20, tie_weights=True)],
)  # fmt: skip
def test_labels_of_small_areas_stand_beside_one_another(cfg: GPTConfig) -> None:
    """With a vocabulary of a million the labels of all four parts of the block lay on one spot."""
    found = dict(re.findall(r'data-part="([^"]+)"[^>]*--at:([^"]+)"', map_html(cfg, 1, 1, "norm1")))
    assert found["tok_emb"] == found.pop("pos_emb")
    assert found["att.W_query"] == found.pop("att.W_key") == found.pop("att.W_value")
    for size in (300, 1200):  # px
        css = (each.replace("px", "").replace("%", "/100*size") for each in found.values())
        starts = [eval(each, {"size": size, "max": lambda *of: max(of)}) for each in css]
        assert len(starts) == 6
        assert all(b - a >= LABEL - 0.01 for a, b in pairwise([*starts, size]))


def test_the_picture_is_well_formed_and_every_part_a_button_with_a_name() -> None:
    root = ElementTree.fromstring(map_html(GPTConfig(), 1, 1024, "norm1"))
    buttons = {each.get("data-part"): each for each in root.iter("button")}
    assert set(buttons) == set(parts(GPTConfig(), 1, 1024))
    assert [key for key, each in buttons.items() if each.get("aria-pressed") == "true"] == ["norm1"]
    assert all("".join(each.itertext()).strip() for each in buttons.values())


def test_a_chosen_part_tells_formula_numbers_shape_share_and_its_line_of_code() -> None:
    found = figures_of(GPTConfig(), [""], part="out_head")
    assert "50,257 × 768 = 38,597,376 parameters" in found["part"]
    assert "Result (1 × 1,024 × 50,257). 23.7 % of all parameters." in found["part"]
    assert "self.out_head(final_norm)" in found["part"]
    blocks = part_html(GPTConfig(), 1, 1024, "block")
    assert "12 × 7,085,568 = 85,026,816 parameters" in blocks
    assert "FLOP" in part_html(GPTConfig(), 1, 1024, "scores")
    tied = part_html(GPTConfig(tie_weights=True), 1, 8, "out_head")
    assert "tied to tok_emb" in tied


def test_every_part_leads_to_a_section_of_internals() -> None:
    sections = {section.key for section in SECTIONS}
    picture = ElementTree.fromstring(map_html(TINY, 1, 1, "norm1"))
    shown = {each.get("data-part"): each.get("data-shown") for each in picture.iter("button")}
    for key in parts(TINY, 1, 1):
        found = re.search(r'data-section="([^"]*)"', part_html(TINY, 1, 1, key))
        assert found[1] in sections
        assert found[1] == shown[key]


def test_every_section_that_a_part_leads_to_leads_back(built) -> None:
    """There was a way from the picture to a section, and none from there to the picture."""
    values = [each["props"].get("value") for each in built.get_config_file()["components"]]
    back = {found for text in map(str, values) for found in re.findall(r'data-drawn="(\w+)"', text)}
    assert back == {spot.section for spot in SPOTS.values()}


def test_the_line_of_a_part_makes_the_shape_that_the_part_tells() -> None:
    costs = line_costs(TINY, 2, 5)
    for key in parts(TINY, 2, 5):
        file, number, text = code_line(key)
        assert re.search(r"\w", text)
        if key in ("ids", "att.W_query", "att.W_key", "att.W_value"):
            continue  # an argument; the line of the three makes them before they are split
        shape = " × ".join(f"{size:,}" for size in costs[file, number].shape)
        if key != "scores":  # its softmax; the products are a line above, of the same shape
            assert made_by(key, TINY, 2, 5) == f"({shape})", key


@pytest.fixture(scope="module")
def lab() -> Lab:
    model = tiny_model(replace(TINY, vocab_size=50257, context_length=160))
    return Lab(TinyRegistry({"words": model}))


@pytest.mark.parametrize("key", parts(TINY, 1, 1))
def test_the_strip_of_every_part_is_its_tensor_in_the_trace(key: str, lab: Lab) -> None:
    at, visit = 3, lab.read("words", "Hello, I am a little", 3)
    trace = lab.run(visit).trace
    block, heads = "trf_blocks.0.", slice(None)
    expected = {
        "ids": torch.tensor(visit.ids[at : at + 1]), "tok_emb": trace["tok_emb"][0, at],
        "pos_emb": trace["pos_emb"][at], "norm1": trace[block + "norm1"][0, at],
        "att.W_query": trace[block + "att.queries"][0, heads, at],
        "att.W_key": trace[block + "att.keys"][0, heads, at],
        "att.W_value": trace[block + "att.values"][0, heads, at],
        "scores": trace[block + "att.attention"][0, heads, at, : at + 1],
        "mixture": trace[block + "att.heads"][0, heads, at],
        "att.out_proj": trace[block + "att_out"][0, at], "norm2": trace[block + "norm2"][0, at],
        "ff.layers.0": trace[block + "ff.hidden"][0, at],
        "gelu": trace[block + "ff.activation"][0, at],
        "ff.layers.2": trace[block + "ff_out"][0, at], "block": trace[block + "resid_out"][0, at],
        "final_norm": trace["final_norm"][0, at], "out_head": trace["logits"][0, at],
        "logits": trace["logits"][0, at],
    }[key].flatten().double().numpy()  # fmt: skip
    text = strip_html(lab, visit, key)
    assert f"{len(expected):,} of (" in text
    least, mean, most = (four(float(x)) for x in (expected.min(), expected.mean(), expected.max()))
    assert f"least {least}, mean {mean}, most {most}." in text
    data = re.search(r"png;base64,([^\"]+)", text)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(float)[0]
    order = np.abs(expected).argsort().argsort() + 1
    right = np.abs(pixels[:, 3] / 255 - order / len(order)) < 0.003
    assert right.mean() > 0.99  # of equal sizes either may be the larger
    blue = pixels[:, 2] > pixels[:, 0]
    assert (blue == (expected > 0))[pixels[:, 3] > 0].all()


def test_the_strip_says_that_a_trained_model_is_gone() -> None:
    """After an hour, opening the tab was an error without a reason, and a traceback."""
    lab = Lab(Registry(budget_bytes=1))
    assert "is gone: train it again" in strip_html(lab, Focus("trained:gone", (1, 2), 1), "norm1")


def test_without_a_text_the_strip_says_how_one_comes_there(lab: Lab) -> None:
    assert "press “Show in Internals”" in strip_html(lab, None, "norm1")
