"""The merges of byte pair encoding: how one word's bytes became its tokens, a step at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from gpt.tokenizer import WORDS, Tokenizer


@dataclass(frozen=True)
class Merge:
    """One step: the best ranked pair of neighbours becomes one piece."""

    rank: int  # place in the list of merges, 1 is the first; the lowest of all pairs is merged
    left: bytes
    right: bytes
    pieces: tuple[bytes, ...]  # the whole word after the step


def words(text: str) -> list[str]:
    """`text` cut into the words within which pairs are merged; joined again they are `text`."""
    return regex.findall(WORDS, text)


def word_of_token(raw: Sequence[bytes], position: int) -> bytes:
    """The bytes of the word that a token belongs to, among tokens of these bytes.

    The token's own bytes if they do not spell a text, as after half of a character.
    """
    start = sum(map(len, raw[:position]))
    end = 0
    for word in words(b"".join(raw).decode("utf-8", "ignore")):
        end += len(word.encode())
        if end > start:
            return word.encode()
    return raw[position]


def merge_steps(tokenizer: Tokenizer, word: bytes) -> list[Merge]:
    """The merges of one word in order; after the last, the pieces are its tokens.

    No step for a word of one byte. Of equal pairs the leftmost is merged first.
    Source: Sennrich et al. 2016, algorithm 1; over bytes as in Radford et al. 2019, section 2.2.
    """
    ranks = tokenizer.ranks  # the 256 bytes stand before the first merge
    pieces = [bytes([byte]) for byte in word]
    steps = []
    while True:
        pairs = [ranks.get(a + b) for a, b in pairwise(pieces)]
        known = [rank for rank in pairs if rank is not None]
        if not known:
            return steps
        at = pairs.index(min(known))
        left, right = pieces[at : at + 2]
        pieces[at : at + 2] = [left + right]
        steps.append(Merge(min(known) - 255, left, right, tuple(pieces)))
