"""GPT-2's vocabulary from the repository, byte for byte."""

import pytest

from gpt import Tokenizer
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


def test_a_damaged_or_missing_table_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"gpt2.tiktoken cannot be read \(No such file"):
        Tokenizer(tmp_path / "gpt2.tiktoken")
    (tmp_path / "gpt2.tiktoken").write_bytes(b"IQ== 0\n")
    with pytest.raises(ValueError, match=r"gpt2.tiktoken is damaged"):
        Tokenizer(tmp_path / "gpt2.tiktoken")
