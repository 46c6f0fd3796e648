"""GPT-2's vocabulary from the repository, byte for byte."""

import pytest
import torch

from gpt import Tokenizer
from gpt import tokenizer as tokenizers
from gpt.tokenizer import display_form

HARD = [
    "Hello, I am",
    "  two spaces,\ttab\nand\r\n newlines   \n\n",
    "naïve café — “quotes” 你好 🙂🏳️‍🌈 \u202eright to left\u202c \x00\x07",
    "def f(x):\n        return x  # don't we'll I'M",
    "<|endoftext|> is text",
    "",
]


@pytest.mark.parametrize("text", HARD)
def test_text_survives_the_way_there_and_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_known_ids(tokenizer):
    assert tokenizer.vocab_size == 50257
    assert tokenizer.encode("Every effort moves you") == [6109, 3626, 6100, 345]


def test_end_of_text_typed_by_a_visitor_is_text_unless_asked_for(tokenizer):
    assert 50256 not in tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.encode("a<|endoftext|>b", allow_special=True) == [64, 50256, 65]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (" a", ["·a"]),
        ("a\n\n\tb", ["a", "⏎", "⏎", "→", "b"]),
        ("🙂", ["⟨F0⟩⟨9F⟩", "⟨99⟩", "⟨82⟩"]),
        ("\x00", ["⟨00⟩"]),
        ("<b>", ["<", "b", ">"]),
    ],
)
def test_pieces_show_what_a_token_holds(tokenizer, text, pieces):
    shown = tokenizer.pieces(tokenizer.encode(text))
    assert "".join(shown) == "".join(pieces)


def test_a_run_of_spaces_is_shown_with_its_count(tokenizer):
    """GPT-2 has no token of several spaces, but another table may: the form is fixed anyway."""
    assert display_form(b" " * 8) == "·×8"
    assert display_form(b"a  b c") == "a·×2b·c"
    assert tokenizer.pieces([220, 50256]) == ["·", "<|endoftext|>"]


def test_no_display_form_is_empty_or_holds_a_control_character(tokenizer):
    for shown in tokenizer.pieces(range(tokenizer.vocab_size)):
        assert shown
        assert shown.isprintable()


@pytest.mark.parametrize("text", HARD)
def test_streaming_never_shows_half_a_character(tokenizer, text):
    decoder = tokenizer.stream()
    parts = [decoder.push(i) for i in tokenizer.encode(text)]
    assert not any("\ufffd" in part for part in parts)
    assert "".join(parts) + decoder.finish() == text


def test_bytes_that_never_become_a_character_are_marked_at_the_end(tokenizer):
    decoder = tokenizer.stream()
    half = tokenizer.encode("🙂")[0]
    assert decoder.push(half) == ""
    assert decoder.finish() == "\ufffd"


def test_a_token_beyond_the_vocabulary_shows_as_its_id(tokenizer):
    """A padded vocabulary drew such a token and the stream broke off."""
    decoder = tokenizer.stream()
    half = tokenizer.encode("🙂")[0]
    assert decoder.push(half) + decoder.push(50300) + decoder.push(64) == "\ufffd⟨50300⟩a"


def test_half_a_surrogate_pair_from_a_browser_is_replaced(tokenizer):
    """A cut emoji reaches Python as a lone surrogate, which has no UTF-8 form."""
    assert tokenizer.decode(tokenizer.encode("a\ud83d")) == "a\ufffd"


def test_an_id_outside_the_vocabulary_is_refused(tokenizer):
    with pytest.raises(
        ValueError, match="token id 50,257 is outside the vocabulary: use 0 to 50,256"
    ):
        tokenizer.decode([50257])


def test_a_damaged_or_missing_table_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "_MERGES", tmp_path / "vocab.bpe")
    with pytest.raises(ValueError, match=r"vocab.bpe cannot be read \(No such file"):
        Tokenizer()
    (tmp_path / "vocab.bpe").write_bytes(b"#version: 0.2\n")
    with pytest.raises(ValueError, match=r"vocab.bpe is damaged"):
        Tokenizer()


def reference(tokenizer):
    """tiktoken's own encoding, which cuts nothing beforehand."""
    return tokenizer._encoding.encode_ordinary


def test_a_million_spaces_are_encoded(tokenizer):
    """They ended in a PanicException of tiktoken, which no `except Exception` catches."""
    ids = tokenizer.encode("a" + " " * 1_000_000 + "x")
    assert tokenizer.decode(ids) == "a" + " " * 1_000_000 + "x"
    assert ids[-1] == tokenizer.encode(" x")[0]


@pytest.mark.parametrize("run", [" ", " \n\u2003", "\u00a0\u00a0\t", "\x1c"])
def test_long_runs_have_the_ids_that_tiktoken_gives_where_it_can(run, tokenizer):
    long = run * (102_000 // len(run))
    text = f"a{long}x{long} x{long}\n's{long}é{long}"
    assert tokenizer.encode(text) == reference(tokenizer)(text)


def test_a_run_of_spaces_is_looked_at_from_its_beginning_only():
    """From each of its characters: a run of 99,999, too short to be cut, took 8 s."""
    text = " " * 150_000 + "x"
    assert tokenizers._LONG_SPACE.match(text)
    assert not tokenizers._LONG_SPACE.match(text, 5)


def test_a_vocabulary_that_numbers_tokens_differently(tokenizer):
    n = tokenizer.vocab_size
    other = Tokenizer({t: n - 1 - i for t, i in tokenizer.ids.items()}, tokenizer.merges)
    text = "Every effort moves\n\nyou 🙂<|endoftext|>"
    assert other.encode(text) == [n - 1 - i for i in tokenizer.encode(text)]
    assert other.encode(text, True) == [n - 1 - i for i in tokenizer.encode(text, True)]
    assert other.decode(other.encode(text)) == text
    assert other.end_of_text_id == 0
    assert other.piece(0) == "<|endoftext|>"


def test_a_small_vocabulary_with_names_and_numbers_of_its_own():
    """No token for most bytes, a gap in the numbers, another end of a text with a space in it."""
    ids = {"a": 5, "b": 2, "ab": 9, "é": 1, "<the end>": 3, "日": 4}
    tokenizer = Tokenizer(ids, ["a b"], end_of_text="<the end>")
    assert tokenizer.encode("abba<the end>b", allow_special=True) == [9, 2, 5, 3, 2]
    assert tokenizer.vocab_size == 10
    assert tokenizer.decode([9, 3, 4]) == "ab<the end>日"
    assert tokenizer.pieces([0, 3, 1]) == ["⟨0⟩", "<the end>", "⟨E9⟩"]  # é is the letter of a byte
    with pytest.raises(ValueError, match="has no token for byte 0x63"):
        tokenizer.encode("abc")


def test_ids_in_a_tensor_are_decoded_as_in_a_list(tokenizer):
    """They were looked up by their hash, and the text was their numbers: "⟨6109⟩⟨3626⟩"."""
    ids = torch.tensor(tokenizer.encode("Every effort"))
    assert tokenizer.decode(ids) == "Every effort"


def test_a_vocabulary_without_what_its_merges_make_is_refused():
    with pytest.raises(ValueError, match="has no token 'ab': it is damaged"):
        Tokenizer({"a": 0, "b": 1, "<|endoftext|>": 2}, ["a b"])
