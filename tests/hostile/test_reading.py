"""Whatever stands in a file or a name, reading it ends within a second, in one short line."""

import json
import os
import re
import time
import warnings
import zipfile
from dataclasses import replace

import pytest
import torch
from checkpoint_cases import book_state
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model

from gpt import load_model
from gpt.checkpoints import save_model, tokenizer_of
from gpt.checkpoints.sources import config_of

ONE = replace(TINY, vocab_size=1, context_length=1, emb_dim=1, n_heads=1, n_layers=1)


def configured(**changes):
    """Our folder, its configuration changed."""

    def make(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return folder

    return make


def config(content):
    """Our folder with `content` as its config.json."""

    def make(folder):
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "config.json").write_bytes(data)
        return folder

    return make


def tensors(**changes):
    """Our folder with tensors changed, or left out where None; no SHA-256 that would notice."""

    def make(folder):
        found = {**load_file(folder / "model.safetensors"), **changes}
        kept = {name: tensor for name, tensor in found.items() if tensor is not None}
        save_file(kept, folder / "model.safetensors")
        return configured(sha256=None)(folder)

    return make


def pickled(content):
    """A .pth file of `content`, in a folder of its own."""

    def make(folder):
        path = folder.with_name("odd.pth")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sparse CSR tensors are new
            torch.save(content(folder) if callable(content) else content, path)
        return path

    return make


def alone(name, content):
    """Only that file, with `content` in it."""

    def make(folder):
        path = folder.with_name(name)
        path.write_bytes(content)
        return path

    return make


def cut(suffix, kept):
    """The first part of a checkpoint."""

    def make(folder):
        path = folder.with_name(f"cut{suffix}")
        if suffix == ".pth":
            torch.save(book_state(tiny_model()), path)
        else:
            save_file(tiny_model().state_dict(), path)
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
        return path

    return make


def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    content = bytes(torch.randint(0, 256, (200,), generator=generator).tolist())
    return alone("noise.pth", b"\x80\x02" + content)


def compressed(content):
    """A .pth file packed again by another program: small ones were read, as the packed bytes."""

    def make(folder):
        path, packed = folder.with_name("plain.pth"), folder.with_name("packed.pth")
        torch.save(content(), path)
        with zipfile.ZipFile(path) as a, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as b:
            for name in a.namelist():
                b.writestr(name, a.read(name))
        path.unlink()
        return packed

    return make


def flipped(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    return folder


def thousands_of_layers(folder):
    """4 kB that said n_layers 2000, and a vocabulary of 2,000 rows, made 2,000 layers."""
    path = folder.with_name("layers.safetensors")
    save_file({"tok_emb.weight": torch.zeros(2000, 1), "pos_emb.weight": torch.zeros(1, 1)}, path)
    path.with_suffix(".json").write_text(
        json.dumps({**dict(ONE), "vocab_size": 2000, "n_layers": 2000})
    )
    return path


def names_of_layers(folder):
    """A name for each layer, but not the rest of it."""
    path = folder.with_name("layers.safetensors")
    save_file({f"trf_blocks.{i}.norm1.scale": torch.zeros(1) for i in range(2000)}, path)
    path.with_suffix(".json").write_text(json.dumps({**dict(ONE), "n_layers": 2000}))
    return path


def packed_pairs(n):
    """Of a type that torch has and cannot compute with."""
    return torch.zeros(n, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)


def scaled_bytes():
    """Of torch's own quantisation, whose tensors can be neither turned nor cut."""
    rows = torch.zeros(72, 24), torch.ones(72), torch.zeros(72)
    return torch.quantize_per_channel(*rows, axis=0, dtype=torch.qint8)


class Payload:
    """Would make a folder, were it unpickled freely."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "was-run"),)


def index(content):
    def make(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))
        return folder

    return make


def without(tensor):
    state = book_state(tiny_model())
    del state[tensor]
    return state


def source(name):
    return lambda folder: name


SCALE = "trf_blocks.1.norm2.scale"

# What is read: how it is made from a whole folder of ours, and what the line says.
HOSTILE = {
    # names
    "no such path": (source("nowhere/at/all"), "there is no file or folder"),
    "no such user": (source("~nosuchuser/x"), "there is no file or folder '~nosuchuser/x'"),
    "a name of 256 bytes": (source("x" * 256), "there is no file or folder 'xxx.*too long"),
    "a name of a megabyte": (source("x/" * 500_000), "there is no file or folder"),
    "a NUL in a name": (source("a\0b"), "there is no file or folder|null"),
    "no random model": (source("random:"), "no random model"),
    "a seed that is text": (source("random:seed=x"), "no random model"),
    "a seed below 0": (source("random:seed=-1"), "seed is -1"),
    "a seed of 64 bits": (source(f"random:seed={2**64}"), "seed is 18446744073709551616: use"),
    "a seed of 400 digits": (source("random:seed=" + "9" * 400), "seed is 9+: use a whole number"),
    "layers of 400 digits": (
        source("random:n_layers=" + "9" * 400),
        "n_layers is beyond",
    ),
    "digits without end": (source("random:n_layers=" + "9" * 100_000), "n_layers is beyond"),
    "half a seed": (source("random:seed=1.5"), "seed is 1.5"),
    "an unknown field": (source("random:colour=3"), "colour"),
    "heads that do not divide": (source("random:emb_dim=770"), "use 768 or 780"),
    "true layers": (source("random:n_layers=true"), "n_layers"),
    "brackets": (source("random:vocab_size=[[[["), "no random model"),
    # files
    "no checkpoint": (alone("notes.txt", b"hello"), "use a folder, a .safetensors or a .pth"),
    "an empty folder": (lambda folder: folder.parent / "empty", "holds no model.safetensors"),
    "an empty file": (alone("empty.pth", b""), "empty.pth"),
    "no safetensors": (alone("x.safetensors", b"\xff" * 99), "x.safetensors cannot be read"),
    **{
        f"cut {suffix} at {kept}": (cut(suffix, kept), f"cut{suffix}.*(fetch it again|damaged)")
        for suffix in (".safetensors", ".pth")
        for kept in (0.0001, 0.999)
    },
    **{f"noise {seed}": (noise(seed), "noise.pth") for seed in range(2)},
    "weights, compressed": (compressed(lambda: book_state(tiny_model())), "are compressed"),
    "100 MB of zeros in 100 kB": (
        compressed(lambda: {"tok_emb.weight": torch.zeros(25_000_000)}),
        "packed.pth cannot be read",
    ),
    "a flipped bit": (flipped, "SHA-256"),
    "code in a pickle": (pickled(lambda folder: {"x": Payload(folder)}), "could run code"),
    "a tensor alone": (pickled(torch.zeros(3)), "holds a Tensor"),
    "a word": (pickled({"tok_emb.weight": "a word"}), "'tok_emb.weight' is a str"),
    "a number as name": (pickled({7: torch.zeros(3)}), "7 is a Tensor, not a tensor with a name"),
    "a long name": (pickled({"x" * 90_000: 3}), "'xxx"),
    "nothing": (pickled({}), "holds no GPT"),
    "sparse": (pickled({"tok_emb.weight": torch.eye(3).to_sparse()}), "plain .dense. tensor"),
    "sparse rows": (
        pickled(lambda _: {"tok_emb.weight": torch.eye(3).to_sparse_csr()}),
        "plain .dense. tensor",
    ),
    "meta": (pickled({"tok_emb.weight": torch.zeros(3, device="meta")}), "has no values"),
    "nested": (
        pickled(lambda _: {"tok_emb.weight": torch.nested.nested_tensor([torch.ones(2)])}),
        "plain .dense. tensor|cannot be read",
    ),
    "a list that lists itself": (
        index({"weight_map": {"wte.weight": "model.safetensors.index.json"}}),
        "cannot be read",
    ),
    "no list": (index({"weight_map": 7}), "lists no weight_map"),
    "a list of numbers": (index({"weight_map": {"wte.weight": 7}}), "lists no weight_map"),
    # tensors
    "missing, extra, misshapen": (
        tensors(**{SCALE: None, "surprise": torch.zeros(3), "pos_emb.weight": torch.zeros(5, 24)}),
        f"missing {SCALE}; not part of the model surprise; of another shape "
        r"pos_emb.weight \(5, 24\), not \(32, 24\)",
    ),
    "many missing": (configured(n_layers=5, sha256=None), "and 35 more"),
    "an extra name of a page": (tensors(**{"a\n" * 30_000: torch.zeros(1)}), r"not part .* a\\na"),
    "whole numbers": (tensors(**{SCALE: torch.ones(24).int()}), f"{SCALE} torch.int32"),
    "complex numbers": (tensors(**{SCALE: torch.ones(24) * 1j}), f"{SCALE} torch.complex64"),
    **{
        f"rows of scaled bytes as {name}": (
            pickled(lambda _, name=name: {**book_state(tiny_model()), name: scaled_bytes()}),
            "no configuration beside it",
        )
        for name in (SCALE, "h.0.attn.c_attn.weight")
    },
    "two numbers in a byte": (tensors(**{SCALE: packed_pairs(24)}), f"{SCALE} torch.float4"),
    "a number without shape": (tensors(**{SCALE: torch.tensor(1.0)}), r"scale \(\), not \(24,\)"),
    # configurations
    "half an object": (config("{"), "config.json is no JSON"),
    "a list": (config("[]"), "config.json holds no JSON object"),
    "no UTF-8": (config(b"\xff\xfe"), "config.json is no UTF-8"),
    "depth": (config("[" * 100_000), "config.json is no JSON"),
    "a number of 5,000 digits": (config('{"n_layers": ' + "9" * 5000 + "}"), "config.json"),
    "a number of 4,000 digits": (
        config('{"vocab_size": ' + "9" * 4000 + "}"),
        "vocab_size is beyond",
    ),
    "another format": (config('{"format": "gpt-from-scratch/2"}'), "reads gpt-from-scratch/1"),
    "an unknown key": (config('{"colour": 3}'), "colour"),
    "a key of 90,000 characters": (config(json.dumps({"x" * 90_000: 3})), "unknown config"),
    "a value of 90,000 characters": (config(json.dumps({"n_layers": "x" * 90_000})), "n_layers"),
    "a size as text": (config('{"vocab_size": "many"}'), "vocab_size is 'many'"),
    "another model": (config('{"model_type": "llama"}'), "config.json: model_type is 'llama'"),
    "a model that is a list": (config('{"model_type": ["gpt2"]}'), "model_type is"),
    "null in their words": (config('{"model_type": "gpt2", "n_embd": null}'), "n_embd is None"),
    "an inner width of text": (config('{"model_type": "gpt2", "n_inner": "x"}'), "n_inner is 'x'"),
    "2,000 layers in 4 kB": (thousands_of_layers, "n_layers is 2,000 and the file has 0"),
    "2,000 names of layers": (names_of_layers, "n_layers is 2,000 and the file has"),
    "2^59 tokens": (
        configured(vocab_size=2**59, sha256=None),
        "'vocab_size': 576460752303423488,.* is more bytes than torch can count",
    ),
    "a million layers": (configured(n_layers=10**6), "n_layers is 1,000,000 and the file has 2"),
    **{
        f"a huge {name}": (configured(**{name: 3 * 10**15, "sha256": None}), told)
        for name, told in {
            "vocab_size": r"tok_emb.weight \(97, 24\), not \(3000",
            "context_length": r"pos_emb.weight \(32, 24\), not \(3000",
            "emb_dim": "'emb_dim': 3000.* is more bytes than torch can count",
            "n_layers": "n_layers is 3,000",
        }.items()
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a folder of ours."""
    folder = save_model(tiny_model(), tmp_path_factory.mktemp("whole"), "float32")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_source_is_one_short_line_within_a_second(name, whole, tmp_path):
    make, reason = HOSTILE[name]
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "empty").mkdir()
    for file, content in whole.items():
        (folder / file).write_bytes(content)
    given = make(folder)
    started = time.process_time()
    text = refusal(load_model, given)
    assert time.process_time() - started < 1
    assert re.search(reason, text), text
    assert not list(tmp_path.rglob("was-run"))
    # These two read less, and may find nothing wrong.
    for line in (text, refusal(config_of, given), refusal(tokenizer_of, given)):
        assert "\n" not in line
        assert len(line.replace(str(folder), "")) < 900


def refusal(read, given):
    """The line with which `given` is refused, "" if it is not; any other error fails the test."""
    try:
        read(given)
    except ValueError as error:
        return str(error)
    return ""


END = '"<|endoftext|>"'
BPE = '{{"pre_tokenizer": {{"type": "ByteLevel"}}, "model": {{"type": "BPE", {}}}}}'
# The file of a tokenizer, what is in it, and what the line says.
SPOILT = {
    "an id of 5,000 digits": ("vocab.json", f'{{{END}: {"9" * 5000}}}', "is no JSON"),
    "an id of a million and one": ("vocab.json", f"{{{END}: 1000001}}", "from 0 to 1,000,000"),
    "ids that are lists": ("vocab.json", f"{{{END}: [1]}}", "an id is no whole number"),
    "half a character": ("vocab.json", f'{{{END}: 1, "\\ud800": 2}}', "can't encode"),
    "depth": ("tokenizer.json", "[" * 100_000, "is no JSON"),
    "merges of numbers": ("tokenizer.json", BPE.format('"vocab": {}, "merges": [5]'), "damaged"),
    "a merge of a page": (
        "tokenizer.json", BPE.format(f'"vocab": {{{END}: 0}}, "merges": ["a {"b" * 90_000}"]'),
        "has no token 'abbb",
    ),
    "a vocabulary of letters": (
        "tokenizer.json", BPE.format('"vocab": "abc", "merges": []'), "damaged"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_tokenizer_is_one_short_line_within_a_second(name, tmp_path):
    file, content, reason = SPOILT[name]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / file).write_text(content)
    started = time.process_time()
    text = refusal(tokenizer_of, tmp_path)
    assert time.process_time() - started < 1
    assert re.search(reason, text), text
    assert "\n" not in text
    assert len(text.replace(str(tmp_path), "")) < 400
