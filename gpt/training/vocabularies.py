"""The vocabulary of a text: GPT-2's, its characters, or a byte pair encoding trained on it.

All are tokenizers of one kind, so a model of any of them is written, read and exported alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from gpt.checkpoints import tokenizer_of
from gpt.tokenizer import BYTE_LETTERS, END_OF_TEXT, Tokenizer


def make_tokenizer(vocabulary: str, documents: Sequence[str]) -> Tokenizer:
    """The tokenizer for "gpt2", "characters", or a number of byte pair tokens as "512".

    Raises ValueError if the number, or that of the characters, does not suit.
    """
    if vocabulary == "gpt2":
        return tokenizer_of("gpt2")
    if vocabulary == "characters":
        return of_characters(documents)
    return of_byte_pairs(documents, int(vocabulary))


def of_characters(documents: Sequence[str]) -> Tokenizer:
    """A token for each character that occurs, in their order, and one for the end of a text.

    A character of several bytes is made by merges, which can happen nowhere but within it; its
    bytes and beginnings have tokens too, which the text does not use.
    Raises ValueError if there are more characters than GPT-2 has tokens.
    """
    characters, largest = sorted(set().union(*documents)), tokenizer_of("gpt2").vocab_size
    if len(characters) > largest:
        raise ValueError(
            f"the text has {len(characters):,} different characters: use at most {largest:,}, or "
            "byte pairs."
        )
    tokens: dict[str, None] = {}
    merges: dict[str, None] = {}
    for character in characters:
        made, *letters = (BYTE_LETTERS[byte] for byte in character.encode())
        tokens[made] = None
        for letter in letters:
            merges[f"{made} {letter}"] = None
            made += letter
            tokens |= {letter: None, made: None}
    ids = {token: i for i, token in enumerate([*tokens, END_OF_TEXT])}
    return Tokenizer(ids, list(merges))


def of_byte_pairs(documents: Sequence[str], size: int) -> Tokenizer:
    """A byte pair encoding of at most `size` tokens, trained on `documents` by `tokenizers`.

    The bytes that occur come first, then the most frequent pairs; the end of a text is id 0.
    Raises ValueError if `size` is less than the bytes need, or more than GPT-2 has.
    """
    needed = len(set("".join(documents).encode())) + 1
    largest = tokenizer_of("gpt2").vocab_size
    if not needed <= size <= largest:
        raise ValueError(
            f"a vocabulary of {size:,} tokens: use {needed:,}, which the bytes of this text and "
            f"its end need, to {largest:,}."
        )
    from tokenizers import Tokenizer as Encoder  # only here: a second of imports
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    encoder = Encoder(BPE())
    encoder.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=size, special_tokens=[END_OF_TEXT], show_progress=False)
    encoder.train_from_iterator(documents, trainer)
    model = json.loads(encoder.to_str())["model"]
    return Tokenizer(model["vocab"], [" ".join(pair) for pair in model["merges"]])
