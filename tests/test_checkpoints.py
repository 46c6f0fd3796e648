"""What is on disk becomes the same model again."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SEVEN, book_state, message
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import TINY, VARIANTS, tiny_model

from gpt import load_model
from gpt.checkpoints import free_memory as memory
from gpt.checkpoints import reading, save_model
from gpt.engine import FastModel

ROOT = Path(__file__).resolve().parent.parent


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
    expected = FastModel(tiny_model(), precision)
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
@pytest.mark.parametrize("cfg", [VARIANTS[0], VARIANTS[-1]], ids=["plain", "tied"])
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


def test_the_same_shapes_with_another_context_need_only_be_told_so(tmp_path, monkeypatch):
    """Chapter 5 trains the 124M model with a context of 256, which is no preset."""
    monkeypatch.setitem(reading.PRESETS, "tiny", replace(TINY, context_length=1024))
    torch.save(book_state(tiny_model()), tmp_path / "model.pth")
    assert "context_length 32, n_layers 2" in message(tmp_path / "model.pth")
    assert "--config FILE" in message(tmp_path / "model.pth")
    assert_equal(load_model(tmp_path / "model.pth", cfg=SEVEN), tiny_model())


# What stands beside the weights or in their names


@pytest.mark.parametrize(
    "name",
    [
        "._book.pth",
        "optimizer.pt",
        "optimizer_0.pt",
        "optim.pt",
        "scheduler.pt",
        "scheduler-2.pt",
        "rng_state_0.pth",
        "training_args.bin",
    ],
)
def test_what_macos_and_trainers_put_beside_the_weights_is_not_taken_for_them(name, tmp_path):
    torch.save(book_state(tiny_model()), tmp_path / "book.pth")
    (tmp_path / "book.json").write_text(json.dumps(SEVEN))
    (tmp_path / name).write_bytes(b"not a model")
    assert_equal(load_model(tmp_path), tiny_model())


def test_a_byte_order_mark_before_the_configuration_is_no_part_of_it(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text, encoding="utf-8-sig")
    assert_equal(load_model(folder), tiny_model())


def test_the_model_json_of_tensorflow_js_is_no_configuration(folder):
    (folder / "model.json").write_text('{"format": "graph-model", "weightsManifest": []}')
    assert_equal(load_model(folder), tiny_model())


def test_a_folder_with_pytorch_model_bin_alone_loads(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_equal(load_model(folder), tiny_model())


@pytest.mark.parametrize(
    "wrapped",
    ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "module.module.{}"],
)
def test_the_names_that_torchs_wrappers_give_are_read_as_the_models(wrapped, tmp_path):
    state = {wrapped.format(name): t for name, t in book_state(tiny_model()).items()}
    torch.save(state, tmp_path / "book.pth")
    assert_equal(load_model(tmp_path / "book.pth", cfg=TINY), tiny_model())


# What is refused; the rest is in hostile/test_reading.py


def test_a_tensor_under_two_names_is_refused(tmp_path):
    """The later of the two was taken, without a word."""
    state = book_state(tiny_model())
    state["module.out_head.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "book.pth")
    told = message(tmp_path / "book.pth", cfg=TINY)
    assert "'module.out_head.weight' is there with another prefix too" in told


def test_a_missing_head_hints_at_tying(tmp_path):
    state = book_state(tiny_model())
    del state["out_head.weight"]
    torch.save(state, tmp_path / "book.pth")
    assert "tie_weights" in message(tmp_path / "book.pth", cfg=TINY)


def test_a_head_that_differs_from_the_embedding_is_not_tied_silently(tmp_path):
    torch.save(book_state(tiny_model()), tmp_path / "book.pth")
    assert "differ" in message(tmp_path / "book.pth", cfg=replace(TINY, tie_weights=True))


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_disk_that_fills_up_leaves_the_old_model_whole(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ValueError, match="cannot be written"):
            save_model(tiny_model(seed=1), folder, "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path):
    """1e6 was stored as infinity without a word."""
    model = tiny_model()
    model.final_norm.scale.data[3] = 1e6
    with pytest.raises(ValueError, match=r"final_norm.scale holds 1e.06 and float16 ends at 65504"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert save_model(model, tmp_path / "model", "bfloat16").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ValueError, match="cannot be written"):
        save_model(tiny_model(), tmp_path / "taken" / "model")


def test_too_little_memory_is_told_before_anything_is_allocated(folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(FastModel, "__init__", lambda *_: pytest.fail("was loaded"))
    assert "MiB free: use a smaller model or precision float16" in message(folder)


def test_an_allocation_that_fails_after_all_is_one_line(folder, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(FastModel, "__init__", refuse)
    assert "has no memory for the weights after all" in message(folder)


def test_tensors_without_a_shape_are_misshapen_too(tmp_path):
    save_file({"h.0.attn.c_attn.weight": torch.tensor(1.0)}, tmp_path / "odd.safetensors")
    assert "missing wte.weight" in message(
        tmp_path / "odd.safetensors",
        cfg=replace(TINY, vocab_size=1, context_length=1, emb_dim=1, n_heads=1, n_layers=1),
    )


@pytest.mark.parametrize("first", ["out_head.weight", "lm_head.weight"])
def test_a_tensor_that_is_there_in_both_projects_names_is_refused(first, tmp_path):
    """The later one was the model's head, without a word."""
    state = {first: torch.ones(97, 24), **tiny_model().state_dict()}
    state["lm_head.weight"] = torch.ones(97, 24)
    torch.save(state, tmp_path / "two.pth")
    second = "a second out_head.weight"
    assert f"not part of the model {second}" in message(tmp_path / "two.pth", cfg=TINY)


def test_a_tied_model_of_ours_is_refused_in_its_own_names(tmp_path):
    """GPT-2's stood before them: the head of such a file had been put under another name."""
    state = tiny_model(replace(TINY, tie_weights=True)).state_dict()
    for name in ("tok_emb.weight", "pos_emb.weight"):
        del state[name]
    torch.save(state, tmp_path / "tied.pth")
    said = message(tmp_path / "tied.pth", cfg=replace(TINY, tie_weights=True))
    assert said.endswith("does not fit its configuration: missing pos_emb.weight.")


def test_a_tied_model_of_one_byte_floats_is_read(tmp_path):
    """torch cannot compare float8: it was a traceback of the command line."""
    model = tiny_model(replace(TINY, tie_weights=True))
    state = {name: t.to(torch.float8_e4m3fn) for name, t in model.state_dict().items()}
    state |= {"out_head.weight": state["tok_emb.weight"]}
    torch.save(state, tmp_path / "f8.pth")
    loaded = load_model(str(tmp_path / "f8.pth"), cfg=model.cfg)
    assert torch.equal(loaded.tok_emb.weight, state["tok_emb.weight"].float())
