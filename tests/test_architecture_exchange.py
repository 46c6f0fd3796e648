"""Configurations as text and back, models offered to other tabs; hostile: test_importing.py."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from architecture_cases import TINY
from random_configs import any_size

from gpt import GPTConfig, count_parameters
from gpt.accounting.timing import LIMIT_BYTES
from gpt.checkpoints import save_model
from gpt.model import GPTModel
from gpt.serving.registry import Registry
from gpt.ui.architecture import exchange
from gpt.ui.architecture.exchange import offered
from gpt.ui.architecture.parameter_table import EXERCISES


@pytest.mark.parametrize("seed", range(5))
def test_exported_json_comes_back_the_same(seed: int) -> None:
    cfg = any_size(seed)
    assert exchange.from_json(exchange.to_json(cfg)) == (cfg, "Read a configuration of this app.")


def test_the_configuration_that_saving_wrote_is_read(tmp_path: Path) -> None:
    """Its "format" and "sha256" were unknown keys."""
    save_model(GPTModel(TINY), tmp_path)
    saved = (tmp_path / "config.json").read_text()
    assert {"format", "sha256"} < set(json.loads(saved))
    assert exchange.from_json(saved) == (TINY, "Read a configuration of this app.")


def test_exported_python_builds_the_model_it_describes() -> None:
    scope: dict[str, Any] = {}
    exec(exchange.to_python(TINY), scope)
    assert scope["model"].cfg == TINY
    torch.manual_seed(123)
    first = next(iter(scope["model"].parameters()))
    assert torch.equal(first, torch.randn(97, 24))


def test_exported_csv_adds_up() -> None:
    rows = list(csv.DictReader(io.StringIO(exchange.to_csv(GPTConfig(qkv_bias=True)))))
    assert rows[-1]["part"] == "total"
    assert sum(int(row["parameters"]) for row in rows[:-1]) == int(rows[-1]["parameters"])


def test_a_hugging_face_gpt2_configuration_is_read() -> None:
    foreign = {"n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024}
    cfg, said = exchange.from_json(json.dumps(foreign))
    assert count_parameters(cfg).total == 1_557_611_200
    assert said == "Read a Hugging Face GPT-2 configuration."
    _, said = exchange.from_json(json.dumps({**foreign, "attn_pdrop": 0.0}))
    assert said.endswith("its three dropout rates differ, resid_pdrop is kept.")


def test_a_byte_order_mark_before_the_json_is_nothing() -> None:
    """Notepad writes one, and the import said: no valid JSON (line 1)."""
    for text in ('\ufeff{"n_layers": 2}', b'\xef\xbb\xbf{"n_layers": 2}'):
        assert exchange.from_json(text)[0] == GPTConfig(n_layers=2)
    with pytest.raises(ValueError, match="no UTF-8 text"):
        exchange.from_json(b"\xff\xfe{")


def test_missing_fields_of_our_json_are_the_book_s_and_that_is_told() -> None:
    cfg, said = exchange.from_json('{"n_layers": 2}')
    assert cfg == GPTConfig(n_layers=2)
    assert "the book's value for vocab_size, context_length" in said


def test_exercises_answer_with_the_book_s_numbers(book: dict[str, Any]) -> None:
    answers = {key: answer_of(cfg) for key, _, cfg, answer_of in EXERCISES}
    assert f"{book['parameters']['feed_forward']:,}" in answers["4-1"]
    assert f"{book['parameters']['attention']:,}" in answers["4-1"]
    for name in ("gpt2-medium", "gpt2-large", "gpt2-xl"):
        assert f"{book['presets'][name]['total']:,}" in answers["4-2-xl"]
        assert f"{book['presets'][name]['float32_MiB'] / 1024:.2f} GiB" in answers["4-2-xl"]


def test_an_offered_model_is_a_source_the_registry_builds_again() -> None:
    label, source = offered(TINY, 7.0)
    assert "seed 7" in label
    registry = Registry()
    assert registry.config_of(source) == TINY
    with registry.borrow(source) as model:
        assert sum(p.numel() for p in model.parameters()) == count_parameters(TINY).total


def test_a_tied_model_is_offered_only_if_its_two_embeddings_fit_while_it_is_drawn() -> None:
    """Tying lets go of the embedding after it was allocated, which was not counted."""
    cfg = GPTConfig(LIMIT_BYTES // 4 // 512 * 3 // 4, 48, 512, 1, 1, tie_weights=True)
    assert 4 * count_parameters(cfg).total < LIMIT_BYTES
    with pytest.raises(ValueError, match="make it smaller to use it"):
        offered(cfg, 1)
