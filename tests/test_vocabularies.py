"""Vocabularies of a text: what is a token, what is refused, and that others read them alike."""

from __future__ import annotations

import pytest

from gpt import GPTConfig
from gpt.__main__ import main
from gpt.checkpoints import load_checkpoint, tokenizer_of
from gpt.checkpoints.writing import write_tokenizer
from gpt.tokenizer import END_OF_TEXT
from gpt.training.corpus import encode_documents, make_tokenizer, read_corpus, split_documents
from gpt.training.evaluation import unigram_nats
from gpt.training.options import TrainOptions
from gpt.training.texts import STORIES, make_text
from gpt.training.trainer import Run

STORY, NATS = make_text(STORIES, 30_000, seed=1)
DOCUMENTS = split_documents(STORY)
MANY_BYTES = ["naïve 王様 and 玉 🦊🦊 no\u0301"]


@pytest.mark.parametrize("documents", [DOCUMENTS[:3], MANY_BYTES])
def test_each_character_is_a_token(documents):
    tokenizer = make_tokenizer("characters", documents)
    for document in documents:
        pieces = [tokenizer.token_bytes(i).decode() for i in tokenizer.encode(document)]
        assert pieces == list(document)


def test_characters_of_one_byte_are_numbered_in_order_and_the_end_comes_last():
    tokenizer = make_tokenizer("characters", ["cab"])
    assert tokenizer.encode("abc") == [0, 1, 2]
    assert (tokenizer.end_of_text_id, tokenizer.vocab_size) == (3, 4)


def test_a_story_has_a_token_for_each_character_and_one_for_its_end():
    """What the grammar's entropy a token is counted over."""
    tokenizer = make_tokenizer("characters", DOCUMENTS)
    assert len(encode_documents(DOCUMENTS, tokenizer)) == sum(len(d) + 1 for d in DOCUMENTS)
    assert tokenizer.vocab_size < 64


def test_a_character_that_the_text_lacks_is_refused_in_one_line():
    with pytest.raises(ValueError, match="has no token for"):
        make_tokenizer("characters", ["abc"]).encode("abd")


@pytest.mark.parametrize("size", [100, 400])
def test_byte_pairs_keep_the_text_and_shorten_it_as_they_grow(size):
    tokenizer = make_tokenizer(str(size), DOCUMENTS)
    assert tokenizer.vocab_size == size
    ids = [tokenizer.encode(document) for document in DOCUMENTS]
    assert [tokenizer.decode(some) for some in ids] == DOCUMENTS
    assert sum(map(len, ids)) < sum(map(len, DOCUMENTS)) / (1.5 if size == 100 else 2.5)


@pytest.mark.parametrize(("size", "use"), [("1", "use 4, which"), ("60000", "to 50,257")])
def test_a_number_of_byte_pairs_that_does_not_suit_the_text_is_refused(size, use):
    with pytest.raises(ValueError, match=use):
        make_tokenizer(size, ["abc"])


@pytest.mark.parametrize("vocabulary", ["characters", "300"])
@pytest.mark.parametrize("documents", [DOCUMENTS, MANY_BYTES], ids=["stories", "bytes"])
def test_transformers_splits_the_text_alike(vocabulary, documents, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer(vocabulary, documents)
    write_tokenizer(tmp_path, tokenizer, 128)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for document in documents:
        assert theirs(document)["input_ids"] == tokenizer.encode(document)
    assert theirs.eos_token_id == tokenizer.end_of_text_id


@pytest.mark.parametrize("vocabulary", ["characters", "4"])
def test_a_character_of_the_held_out_text_alone_has_a_token_too(vocabulary, tmp_path):
    """A "#" in the held-out tales, which the others lack, ended the run before it began."""
    (tmp_path / "text").write_text("ab")
    (tmp_path / "held-out").write_text("a#")
    corpus = read_corpus([str(tmp_path / "text")], str(tmp_path / "held-out"), vocabulary)
    assert corpus.tokenizer.decode(corpus.held_out.tolist()[:-1]) == "a#"


def test_a_trained_model_is_read_with_its_own_vocabulary(tmp_path, capsys):
    """Through the command line: trained on characters, written with them, measured and read."""
    (tmp_path / "stories.txt").write_text(STORY)
    out, flags = tmp_path / "run", "--emb-dim 16 --n-heads 2 --n-layers 1 --context-length 32"
    text = str(tmp_path / "stories.txt")
    assert main(["train", "--text", text, "--vocabulary", "characters", "--steps", "2",
                 "--precision", "float32", "--out", str(out), *flags.split()]) == 0  # fmt: skip
    tokenizer = tokenizer_of(out / "model")
    assert tokenizer.ids == make_tokenizer("characters", DOCUMENTS).ids
    assert load_checkpoint(out / "model").cfg.vocab_size == tokenizer.vocab_size
    capsys.readouterr()
    assert main(["train", "--evaluate", str(out / "model"), "--text", text]) == 0
    targets = sum(len(document) + 1 for document in DOCUMENTS) - 1
    assert f"over {targets:,} targets" in capsys.readouterr().out


def test_a_small_model_of_characters_learns_stories_below_their_unigram_entropy(tmp_path):
    (tmp_path / "stories.txt").write_text(STORY)
    corpus = read_corpus([str(tmp_path / "stories.txt")], "", "characters")
    cfg = GPTConfig(corpus.tokenizer.vocab_size, 64, 32, 2, 1, drop_rate=0.0, tie_weights=True)
    options = TrainOptions(
        out="", steps=120, warmup_steps=10, peak_rate=1e-2, weight_decay=0.1, precision="float32",
        report_every=120, validate_every=1000, prompt="Once", sample_tokens=40,
    )  # fmt: skip
    *_, stepped, sampled = Run(cfg, options, corpus).events()
    floor = NATS / len(STORY)
    assert floor < stepped.loss < unigram_nats(corpus.ids)
    assert END_OF_TEXT not in sampled.text
    assert len("Once") < len(sampled.text) <= len("Once") + 40
