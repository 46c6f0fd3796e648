"""A model's own tokenizer: GPT-2's, that of its Hugging Face folder, or a refusal in one line."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers

from gpt import export_model, load_model
from gpt.__main__ import main
from gpt.checkpoints import precision_record, save_model, tokenizer_of
from gpt.generate import generate
from gpt.sampling import SamplingOptions
from gpt.serving.registry import Registry
from gpt.ui.generation.wish import wish

PROMPT = "Once upon a time"
GREEDY = ["--max-new-tokens", "6", "--temperature", "0", "--precision", "float32"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The storyteller as a Hugging Face folder, and one with rows and vocabulary permuted alike."""
    folder = export_model(load_model("storyteller"), tmp_path_factory.mktemp("hf") / "same")
    other = folder.with_name("permuted")
    other.mkdir()
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    new = torch.randperm(len(vocab), generator=torch.Generator().manual_seed(0)).tolist()
    permuted = {token: new[i] for token, i in vocab.items()}
    (other / "vocab.json").write_text(json.dumps(permuted))
    tensors = load_file(folder / "model.safetensors")
    rows = tensors["transformer.wte.weight"]
    moved = torch.empty_like(rows)
    moved[torch.tensor(new)] = rows
    save_file({**tensors, "transformer.wte.weight": moved}, other / "model.safetensors")
    for name in ("merges.txt", "config.json", "tokenizer_config.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    return folder, other


def written(source):
    model, tokenizer = load_model(source), tokenizer_of(source)
    options = SamplingOptions(max_new_tokens=6, temperature=0)
    steps = generate(model, tokenizer.encode(PROMPT), options, tokenizer.end_of_text_id)
    return tokenizer.decode(step.token_id for step in steps)


def test_rows_and_vocabulary_permuted_alike_write_the_same_text(exported):
    """Such a folder was read with GPT-2's numbers: "Once upon a time phylogen retire Tw"."""
    same, permuted = exported
    own, gpt2s = tokenizer_of(permuted), tokenizer_of("gpt2")
    assert tokenizer_of(same).ids == gpt2s.ids != own.ids
    assert written(permuted) == written("storyteller")
    assert tokenizer_of(permuted / "model.safetensors").ids == own.ids


def by_the_page(source, file, capsys):
    asked = wish(Registry(paths={source: None}), PROMPT, {"precision": "float32"}, source)
    return tokenizer_of(source).decode(asked.ids)


def by_generate(source, file, capsys):
    main(["generate", PROMPT, *GREEDY, "--model", source])
    return capsys.readouterr().out


def by_evaluate(source, file, capsys):
    main(["train", "--evaluate", source, "--text", file])
    return capsys.readouterr().out


@pytest.mark.parametrize("room", [by_the_page, by_generate, by_evaluate])
def test_every_room_reads_a_folder_with_its_own_tokenizer(room, exported, tmp_path, capsys):
    """`generate`, Generation and `--evaluate` could number a folder's text as GPT-2 does, and no
    test of theirs had another vocabulary.
    """
    file = tmp_path / "text.txt"
    file.write_text("Once upon a time there was a king who had a daughter.")
    same, permuted = map(str, exported)
    assert room(permuted, str(file), capsys) == room(same, str(file), capsys)
    assert tokenizer_of(permuted).encode(PROMPT) != tokenizer_of(same).encode(PROMPT)


def test_compare_reads_its_text_with_a_folders_own_tokenizer(exported, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        precision_record, "measure_precisions", lambda _, ids, **__: read.append(ids.tolist()) or {}
    )
    (tmp_path / "text.txt").write_text(PROMPT)
    main(["compare", str(exported[1]), "--text", str(tmp_path / "text.txt")])
    assert read == [tokenizer_of(exported[1]).encode(PROMPT)]


def test_the_exported_files_are_openais_byte_for_byte(exported):
    """Source: tiktoken's openai_public.py states both values."""
    published = {
        "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    }
    for name, sha256 in published.items():
        assert hashlib.sha256((exported[0] / name).read_bytes()).hexdigest() == sha256


def test_a_folders_own_tokenizer_is_exported_with_it(exported, tmp_path):
    own = tokenizer_of(exported[1])
    narrow = tiny_model(replace(TINY, vocab_size=own.vocab_size, emb_dim=6))
    export_model(narrow, tmp_path, own)
    assert tokenizer_of(tmp_path).ids == own.ids
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["eos_token_id"] == own.end_of_text_id


def test_models_without_tokenizer_files_have_gpt2s(tmp_path):
    ours = save_model(tiny_model(), tmp_path / "ours")
    for source in ("storyteller", "book-124M", "gpt2", "random:seed=1", ours, str(ours)):
        assert tokenizer_of(source) is tokenizer_of("gpt2")


def test_what_stands_beside_a_file_of_another_name_is_not_its_tokenizer(tmp_path):
    (tmp_path / "vocab.txt").write_text("words of somebody")
    (tmp_path / "book.pth").touch()
    assert tokenizer_of(tmp_path / "book.pth") is tokenizer_of("gpt2")


@pytest.fixture(scope="module")
def trained():
    """A byte-level BPE that Hugging Face's library trained."""
    tokenizer = ByteLevelBPETokenizer()
    lines = ["Es war einmal ein König, der hatte drei Töchter.", "Жил-был король. 日本語 🙂  x"] * 9
    tokenizer.train_from_iterator(lines, 400, special_tokens=["<s>", "</s>"], show_progress=False)
    return tokenizer


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_a_tokenizer_trained_elsewhere_gives_its_ids(form, trained, tmp_path):
    if form == "vocab.json":
        trained.save_model(str(tmp_path))
        (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": trained.get_vocab_size()}))
    else:
        trained.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": {"content": "</s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = tokenizer_of(tmp_path)
    for text in ("Es war einmal: König   Töchter's 12", "日本語 🙂 король\r\n\t x ", ""):
        assert ours.encode(text) == trained.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
    assert ours.end_of_text_id == trained.token_to_id("</s>")
    assert ours.vocab_size == trained.get_vocab_size() + (form == "vocab.json")


def test_the_end_of_a_text_is_found_by_the_id_that_the_configuration_names(trained, tmp_path):
    trained.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="names no token for the end of a text"):
        tokenizer_of(tmp_path)
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    assert tokenizer_of(tmp_path).end_of_text == "</s>"


def test_transformers_reads_the_same_ids(exported):
    theirs = transformers.AutoTokenizer.from_pretrained(exported[1])
    assert theirs(PROMPT).input_ids == tokenizer_of(exported[1]).encode(PROMPT)


def words(**changes):
    """The JSON of a tokenizer of another kind: of whole words."""
    made = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return json.dumps({**json.loads(made.to_str()), **changes})


BPE = '{"type": "BPE", "vocab": {"a": 0}, "merges": []}'
LEVEL = '"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}'


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer.json", words(), "another kind"),
        ("tokenizer.json", '{"model": [], "pre_tokenizer": null}', "another kind"),
        ("tokenizer.json", f'{{"model": {{"type": "BPE"}}, {LEVEL}}}', "damaged"),
        (
            "tokenizer.json",
            f'{{"model": {BPE}, {LEVEL.replace("false", "true")}}}',
            "cuts text into words in another way",
        ),
        ("tokenizer.json", f'{{"model": {BPE}, {LEVEL}, "normalizer": {{}}}}', "changes the text"),
        ("tokenizer.json", f'{{"model": {BPE}, {LEVEL}}}', "no token for the end"),
        ("tokenizer.json", "{", "is no JSON"),
        ("vocab.json", '{"a": 0}', "a part of it is missing"),
        ("vocab.txt", "[PAD]\n[UNK]\n", "another kind"),
        ("spiece.model", "x", "another kind"),
        ("tokenizer_config.json", '{"tokenizer_class": "BertTokenizerFast"}', "BertTokenizerFast"),
        ("tokenizer_config.json", '{"add_prefix_space": true}', "add_prefix_space"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_in_one_line(name, content, reason, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=reason) as caught:
        tokenizer_of(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("number", ["-1", "1e3", '"x"', "null", "99999999999"])
def test_numbers_of_tokens_that_cannot_be_are_refused(number, tmp_path):
    (tmp_path / "vocab.json").write_text(f'{{"a": {number}, "<|endoftext|>": 1}}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="no whole number"):
        tokenizer_of(tmp_path)
