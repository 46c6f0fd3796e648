"""What is on disk becomes the same model again."""

import json
from dataclasses import replace

import pytest
import torch
from checkpoint_cases import SEVEN, book_state, message
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import TINY, VARIANTS, tiny_model

from gpt import load_model
from gpt.checkpoints import reading, save_model
from gpt.engine import convert


def assert_equal(one, other):
    names = dict(one.named_parameters())
    assert names.keys() == dict(other.named_parameters()).keys()
    assert all(torch.equal(names[name], value) for name, value in other.named_parameters())
    assert one.cfg == other.cfg


@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_a_saved_model_comes_back_bit_for_bit_in_eval_mode(cfg, tmp_path):
    model = tiny_model(cfg)
    loaded = load_model(save_model(model, tmp_path / "ours", "float32"))
    assert_equal(model, loaded)
    assert not loaded.training
    assert (loaded.out_head.weight is loaded.tok_emb.weight) == cfg.tie_weights
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_tied_head_is_stored_once_under_the_books_name(tmp_path):
    model = tiny_model(replace(TINY, tie_weights=True))
    with safe_open(save_model(model, tmp_path, "float32") / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "out_head.weight" in names
    assert "tok_emb.weight" not in names


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_weights_are_converted_to_the_precision_asked_for(precision, folder):
    model = load_model(folder, precision=precision)
    expected = convert(tiny_model(), precision)
    assert_equal(model, expected)
    ids = torch.arange(30)[None]
    assert torch.equal(model(ids), expected(ids))


def test_an_unknown_precision_is_refused_with_those_that_exist(folder):
    assert "use float32, float16, bfloat16, int8" in message(folder, precision="int3")


def test_a_device_that_is_not_here_is_refused(folder):
    assert "there is no meta device here" in message(folder, device="meta")
    assert "unknown" in message(folder, device="abacus")


def test_half_precision_on_disk_reads_as_the_rounded_float32(tmp_path):
    loaded = load_model(save_model(tiny_model(), tmp_path))
    assert torch.equal(loaded.pos_emb.weight, tiny_model().pos_emb.weight.half().float())


def test_a_loaded_model_does_not_depend_on_its_file_any_more(folder):
    loaded = load_model(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(b"\0" * 20_000)
    assert_equal(loaded, tiny_model())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_a_book_checkpoint_loads_with_its_masks_tied_or_not(suffix, cfg, tmp_path):
    model, path = tiny_model(cfg), tmp_path / f"book{suffix}"
    if suffix == ".pth":
        torch.save(book_state(model), path)
    else:  # safetensors refuses two names for one tensor
        save_file({name: t.clone() for name, t in book_state(model).items()}, path)
    assert_equal(load_model(path, cfg=cfg), model)
    assert_equal(load_model(str(path), cfg=dict(cfg)), model)


def test_the_books_dict_of_model_and_optimizer_loads(tmp_path):
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"model_state_dict": book_state(model), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(state, tmp_path / "model_and_optimizer.pth")
    assert_equal(load_model(tmp_path / "model_and_optimizer.pth", cfg=TINY), model)


def test_a_file_of_the_old_torch_format_loads(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(book_state(tiny_model()), path, _use_new_zipfile_serialization=False)
    assert_equal(load_model(path, cfg=TINY), tiny_model())


@pytest.mark.parametrize("name", ["config.json", "book.json"])
def test_the_configuration_beside_a_file_is_found(name, tmp_path):
    torch.save(book_state(tiny_model()), tmp_path / "book.pth")
    (tmp_path / name).write_text(json.dumps(SEVEN))
    assert_equal(load_model(tmp_path / "book.pth"), tiny_model())
    assert_equal(load_model(tmp_path), tiny_model())


def test_a_cfg_that_contradicts_the_file_beside_is_refused(folder):
    assert_equal(load_model(folder, cfg=TINY), tiny_model())
    assert "leave cfg out" in message(folder, cfg=replace(TINY, n_heads=2))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_shapes_that_are_a_presets_need_no_configuration(tied, bias, tmp_path, monkeypatch):
    monkeypatch.setitem(reading.PRESETS, "tiny", TINY)
    model = tiny_model(replace(TINY, qkv_bias=bias, tie_weights=tied))
    torch.save(book_state(model), tmp_path / "book.pth")
    assert_equal(load_model(tmp_path / "book.pth"), model)
    state = {name: t for name, t in model.state_dict().items() if not tied or name[:7] != "tok_emb"}
    save_file(state, tmp_path / "alone.safetensors")
    assert_equal(load_model(tmp_path / "alone.safetensors"), model)


def test_shapes_that_are_no_presets_ask_for_the_configuration(tmp_path):
    torch.save(book_state(tiny_model()), tmp_path / "book.pth")
    text = message(tmp_path / "book.pth")
    assert "vocab_size 97, emb_dim 24, context_length 32, n_layers 2" in text
    assert "give cfg, on the command line --config FILE" in text
