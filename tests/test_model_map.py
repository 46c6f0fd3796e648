"""The picture of the model: areas are shares of the parameters, and each part explains itself."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from architecture_cases import NAMED, TINY, values_of
from random_configs import any_size

from gpt import GPTConfig, count_parameters
from gpt.accounting.code_lines import line_costs
from gpt.ui.architecture.model_map import boxes, code_line, map_html, part_html, parts
from gpt.ui.architecture.views import figures
from gpt.ui.internals.sections import SECTIONS


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


def test_the_picture_is_well_formed_and_every_part_a_button_with_a_name() -> None:
    root = ElementTree.fromstring(map_html(GPTConfig(), 1, 1024, "norm1"))
    buttons = {each.get("data-part"): each for each in root.iter("button")}
    assert set(buttons) == set(parts(GPTConfig(), 1, 1024))
    assert [key for key, each in buttons.items() if each.get("aria-pressed") == "true"] == ["norm1"]
    assert all("".join(each.itertext()).strip() for each in buttons.values())


def test_a_chosen_part_tells_formula_numbers_shape_share_and_its_line_of_code() -> None:
    found = figures({**values_of(GPTConfig()), "part": "out_head"}, NAMED, [""])
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
    for key in parts(TINY, 1, 1):
        found = re.search(r'data-section="([^"]*)"', part_html(TINY, 1, 1, key))
        assert found[1] in sections


def test_the_line_of_a_part_makes_the_shape_that_the_part_tells() -> None:
    costs = line_costs(TINY, 2, 5)
    for key, part in parts(TINY, 2, 5).items():
        file, number, text = code_line(key)
        assert re.search(r"\w", text)
        if key in ("ids", "att.W_query", "att.W_key", "att.W_value"):
            continue  # an argument; the line of the three makes them before they are split
        shape = " × ".join(f"{size:,}" for size in costs[file, number].shape)
        if key != "scores":  # its softmax; the products are a line above, of the same shape
            assert part.made == f"({shape})", key
