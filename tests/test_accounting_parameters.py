"""Computed parameters against the real module, which is built on torch's meta device."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from random_configs import buildable

from gpt.accounting import count_parameters
from gpt.accounting.meta_model import model_without_values
from gpt.accounting.parameters import value_of
from gpt.config import PRESETS, GPTConfig
from gpt.model import GPTModel

BOOK = json.loads((Path(__file__).parent / "golden" / "book.json").read_text())


def rows_of_module(model: GPTModel) -> dict[str, int]:
    """Parameters by row name: the path of the module without the block's number."""
    counts: dict[str, int] = {}
    for path, tensor in model.named_parameters():  # a shared tensor appears once
        name = re.sub(r"^trf_blocks\.\d+", "trf_blocks.*", path.rpartition(".")[0])
        counts[name] = counts.get(name, 0) + tensor.numel()
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_every_row_equals_the_module_on_the_meta_device(seed: int) -> None:
    cfg = buildable(seed)
    model = model_without_values(cfg)
    counted = count_parameters(cfg)
    assert counted.total == sum(p.numel() for p in model.parameters())
    assert {row.name: row.count for row in counted.rows if row.count} == rows_of_module(model)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_the_book_s_totals_in_all_four_forms(name: str) -> None:
    sizes, book = PRESETS[name], BOOK["presets"][name]
    forms = {
        "total": {},
        "tied": {"tie_weights": True},
        "total_qkv_bias": {"qkv_bias": True},
        "tied_qkv_bias": {"tie_weights": True, "qkv_bias": True},
    }
    for key, options in forms.items():
        assert count_parameters({**sizes, **options}).total == book[key]


def test_small_adds_up_step_by_step_as_in_the_book() -> None:
    count, book = count_parameters(GPTConfig()), BOOK["parameters"]
    assert count.subtotal("embeddings") == book["embeddings"]
    assert count.subtotal("attention") == 12 * book["attention"]
    assert count.subtotal("feed-forward") == 12 * book["feed_forward"]
    assert count.subtotal("norms") == 12 * book["norms_per_block"]
    assert (count.block, 12 * count.block) == (book["block"], book["blocks"])
    assert count.subtotal("final norm") == book["final_norm"]
    assert count.subtotal("head") == book["out_head"]
    assert count.total == book["total"] == book["without_out_head"] + book["out_head"]
    each = {row.name: row.count // row.copies for row in count.rows}
    assert each["tok_emb"] == book["token_embedding"]
    assert each["pos_emb"] == book["position_embedding"]
    assert each["trf_blocks.*.att.W_query"] == book["w_query_key_value_each"]
    assert each["trf_blocks.*.att.out_proj"] == book["out_proj"]
    assert each["trf_blocks.*.ff.layers.0"] == book["ff_first"]
    assert each["trf_blocks.*.ff.layers.2"] == book["ff_second"]


def test_a_formula_with_numbers_evaluates_to_the_count_of_its_row() -> None:
    for row in count_parameters(GPTConfig(qkv_bias=True)).rows:
        plain = row.numbers.replace(",", "").replace("×", "*")
        assert value_of(plain, {}) == row.count


def test_shapes_are_those_of_the_module() -> None:
    cfg = GPTConfig(97, 32, 24, 4, 2, qkv_bias=True)
    model = model_without_values(cfg)
    for row in count_parameters(cfg).rows:
        module = model.get_submodule(row.name.replace("*", "0"))
        shapes = [" × ".join(f"{size:,}" for size in p.shape) for p in module.parameters()]
        assert row.shape == " + ".join(f"({shape})" for shape in shapes)


def test_a_trillion_parameters_count_at_once_and_exactly() -> None:
    cfg = GPTConfig(51200, 2048, 25600, 160, 128)
    assert count_parameters(cfg).total == sum(
        p.numel() for p in model_without_values(cfg).parameters()
    )
