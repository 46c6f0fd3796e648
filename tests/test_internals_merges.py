"""The merges shown for a word end in the tokens that tiktoken makes of it."""

from __future__ import annotations

import random

import pytest

from gpt.internals.merges import merge_steps, word_of_token, words

LETTERS = [
    *map(chr, range(0x20, 0x7F)), *"\n\t\x00\x85\u2028", *"éß漢字한국ไทยعربית", *"👍🏽e\u0301\u200d"
]  # fmt: skip


def random_texts(n=300):
    chance = random.Random(7)
    all_of_unicode = [*range(0xD800), *range(0xE000, 0x110000)]  # a million: made once
    for _ in range(n):
        anywhere = map(chr, chance.choices(all_of_unicode, k=2))
        common = ["the", " king", "ing", "ing ", "  ", "'ll", " Once", "aaaa", "123"]
        yield "".join(chance.choices([*LETTERS, *anywhere, *common], k=chance.randint(1, 24)))


def test_the_last_pieces_of_every_word_are_tiktokens_tokens(tokenizer):
    for text in random_texts():
        cut = words(text)
        assert "".join(cut) == text
        made: list[bytes] = []
        for word in cut:
            steps = merge_steps(tokenizer, word.encode())
            made += steps[-1].pieces if steps else [bytes([byte]) for byte in word.encode()]
        assert made == [tokenizer.token_bytes(i) for i in tokenizer.encode(text)], ascii(text)


def test_each_step_joins_one_pair_by_its_place_in_the_published_list(tokenizer):
    steps = merge_steps(tokenizer, b" little")
    letters = {32: "Ġ"}
    for step in steps:
        pair = ["".join(letters.get(b, chr(b)) for b in part) for part in (step.left, step.right)]
        assert tokenizer.merges[step.rank - 1] == " ".join(pair)
        assert step.left + step.right in step.pieces
    assert [b"".join(step.pieces) for step in steps] == [b" little"] * len(steps)
    assert [len(step.pieces) for step in steps] == list(range(6, 0, -1))


@pytest.mark.parametrize("text", ["Ozma said: it's", "👍🏽 naïve", "   a\n\n b"])
def test_the_word_of_a_token_is_the_one_that_its_bytes_lie_in(text, tokenizer):
    ids = tokenizer.encode(text)
    pieces = [tokenizer.token_bytes(i) for i in ids]
    start = 0
    for position, raw in enumerate(pieces):
        before = 0
        for word in words(text):
            if before <= start < before + len(word.encode()):
                assert word_of_token(pieces, position) == word.encode()
            before += len(word.encode())
        start += len(raw)
