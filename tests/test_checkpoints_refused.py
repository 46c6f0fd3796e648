"""Whatever is wrong with a file, a configuration or the machine is one clear line."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_cases import book_state, edit_json, message
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model

from gpt import GPTModel
from gpt.checkpoints import free_memory as memory
from gpt.checkpoints import reading, save_model

ROOT = Path(__file__).resolve().parent.parent


def rewrite(folder, change):
    """Our folder with its tensors changed, without the SHA-256 that would notice."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))


def test_missing_extra_and_misshapen_tensors_are_all_named(folder):
    def change(tensors):
        del tensors["trf_blocks.1.norm2.scale"]
        tensors["surprise"] = torch.zeros(3)
        tensors["pos_emb.weight"] = torch.zeros(5, 24)

    rewrite(folder, change)
    text = message(folder)
    assert "missing trf_blocks.1.norm2.scale" in text
    assert "not part of the model surprise" in text
    assert "pos_emb.weight (5, 24), not (32, 24)" in text


def test_many_missing_tensors_are_counted_instead_of_listed(folder):
    edit_json(folder / "config.json", n_layers=5)
    assert "and 35 more" in message(folder)


def test_whole_numbers_are_no_weights(folder):
    rewrite(folder, lambda tensors: tensors.update({"final_norm.scale": torch.ones(24).int()}))
    assert "final_norm.scale torch.int32" in message(folder)


def test_a_missing_head_hints_at_tying(tmp_path):
    state = book_state(tiny_model())
    del state["out_head.weight"]
    torch.save(state, tmp_path / "book.pth")
    assert "tie_weights" in message(tmp_path / "book.pth", cfg=TINY)


def test_a_head_that_differs_from_the_embedding_is_not_tied_silently(tmp_path):
    torch.save(book_state(tiny_model()), tmp_path / "book.pth")
    assert "differ" in message(tmp_path / "book.pth", cfg=replace(TINY, tie_weights=True))


def test_one_flipped_bit_fails_the_sha256(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert "SHA-256" in message(folder)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_whatever_is_left_of_it(suffix, kept, tmp_path):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(book_state(tiny_model()), path)
    else:
        save_file(tiny_model().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    text = message(path, cfg=TINY)
    assert f"cut{suffix}" in text
    assert "fetch it again" in text or "damaged" in text


def test_noise_instead_of_a_pickle_is_refused(tmp_path):
    for seed in range(40):
        noise = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(seed))
        (tmp_path / "noise.pth").write_bytes(b"\x80\x02" + bytes(noise.tolist()))
        assert "noise.pth" in message(tmp_path / "noise.pth", cfg=TINY)


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"tok_emb.weight": Payload()}, tmp_path / "bad.pth")
    assert "could run code" in message(tmp_path / "bad.pth", cfg=TINY)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ({"tok_emb.weight": "a word"}, "'tok_emb.weight' is a str"),
        ({7: torch.zeros(3)}, "7 is a Tensor, not a tensor with a name"),
        ({}, "holds no GPT"),
    ],
    ids=["a tensor", "a word", "a number", "nothing"],
)
def test_a_pickle_of_something_else_is_refused(content, reason, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    assert reason in message(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        (b"\xff\xfe", "is no JSON"),
        ('{"format": "gpt-from-scratch/2"}', "reads gpt-from-scratch/1"),
        ('{"format": "gpt-from-scratch/1", "colour": 3}', "colour"),
        ('{"vocab_size": "many"}', "vocab_size"),
        ('{"model_type": "llama"}', "llama"),
    ],
)
def test_a_malformed_configuration_is_refused_with_its_name(content, reason, folder):
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "config.json").write_bytes(content)
    text = message(folder)
    assert reason in text
    assert str(folder / "config.json") in text


def test_a_path_that_holds_no_checkpoint_says_what_would(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "there is no file or folder" in message(tmp_path / "nowhere")
    assert "use a folder, a .safetensors or a .pth" in message(tmp_path / "notes.txt")
    assert "holds no model.safetensors" in message(tmp_path)


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
    monkeypatch.setattr(memory, "_machine_bytes", lambda: iter([1000]))
    monkeypatch.setattr(GPTModel, "load_state_dict", lambda *_: pytest.fail("was loaded"))
    assert "MiB free: use a smaller model or precision float16" in message(folder)


def test_an_allocation_that_fails_after_all_is_one_line(folder, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(reading, "convert", refuse)
    assert "has no memory for the weights after all" in message(folder)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_loading_does_not_import_torchs_compiler(precision, folder):
    """Making the empty model once drew on the meta device, which cost a second and 67 MiB."""
    load = "gpt.load_model(sys.argv[1], precision=sys.argv[2])"
    code = f"import sys, gpt; {load}; print('sympy' in sys.modules)"
    command = [sys.executable, "-c", code, folder, precision]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (made.stdout, made.stderr) == ("False\n", "")


@pytest.mark.parametrize("field", ["vocab_size", "context_length", "emb_dim", "n_layers"])
def test_a_configuration_far_beyond_the_file_is_refused_at_once(field, folder):
    """A billion layers were once described, one by one, before the first was missed."""
    edit_json(folder / "config.json", **{field: 3 * 10**15})
    assert f"smaller than its configuration: {field} 3,000" in message(folder)


def test_a_configuration_nested_without_end_is_refused(folder):
    (folder / "config.json").write_text("[" * 100_000)
    assert "is no JSON" in message(folder)


def test_a_list_of_files_that_lists_itself_is_refused(tmp_path):
    index = {"weight_map": {"wte.weight": "model.safetensors.index.json"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "cannot be read" in message(tmp_path)


def test_tensors_without_a_shape_are_misshapen_too(tmp_path):
    save_file({"h.0.attn.c_attn.weight": torch.tensor(1.0)}, tmp_path / "odd.safetensors")
    assert "missing wte.weight" in message(
        tmp_path / "odd.safetensors",
        cfg=replace(TINY, vocab_size=1, context_length=1, emb_dim=1, n_heads=1, n_layers=1),
    )
