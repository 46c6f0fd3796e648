"""What is on disk becomes the same model again, and whatever is wrong with it is one clear line."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import TINY, VARIANTS, tiny_model

from gpt import GPTModel, load_model
from gpt.checkpoints import memory, reading, save_model
from gpt.precision import convert

ROOT = Path(__file__).resolve().parent.parent
SEVEN = {key: value for key, value in asdict(TINY).items() if key != "tie_weights"}


@pytest.fixture
def folder(tmp_path):
    """The tiny model in our format, float32."""
    return save_model(tiny_model(), tmp_path / "ours", "float32")


def book_state(model):
    """A state dict as the book's code saves it: every name, with the causal masks."""
    mask = torch.triu(torch.ones(TINY.context_length, TINY.context_length), diagonal=1)
    masks = {f"trf_blocks.{i}.att.mask": mask for i in range(model.cfg.n_layers)}
    return {**model.state_dict(), **masks}


def assert_equal(one, other):
    names = dict(one.named_parameters())
    assert names.keys() == dict(other.named_parameters()).keys()
    assert all(torch.equal(names[name], value) for name, value in other.named_parameters())
    assert one.cfg == other.cfg


def message(source, **options):
    """The one line with which loading `source` is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# What loads


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
    assert text.endswith("give cfg.")


# What does not


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
