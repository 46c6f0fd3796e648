"""Training text: files to token ids, ids to windows, windows in an order set by a seed.

The vocabulary is GPT-2's, the characters of the text, or a byte pair encoding trained on it. All
are tokenizers of one kind, so a model of any of them is written, read and exported alike.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.tensors import read_text
from gpt.config import GPTConfig
from gpt.model import GPTModel
from gpt.tokenizer import BYTE_LETTERS, END_OF_TEXT, Tokenizer


@dataclass(frozen=True)
class Corpus:
    """Token ids (n,) to learn from, ids held out or None, and the tokenizer that made both."""

    ids: torch.Tensor
    held_out: torch.Tensor | None
    tokenizer: Tokenizer


def read_corpus(text: Sequence[str], held_out: str, vocabulary: str = "gpt2") -> Corpus:
    """The corpus of the files `text`, and of the file `held_out` unless that is "".

    Raises ValueError if a file cannot be read or holds no text, if there is none in `text`,
    or if the vocabulary is impossible.
    """
    documents = read_documents(text)
    return make_corpus(documents, read_documents([held_out]) if held_out else [], vocabulary)


def make_corpus(documents: Sequence[str], held_out: Sequence[str], vocabulary: str) -> Corpus:
    """The corpus of `documents` and of others held out, if any; raises as `make_tokenizer` does."""
    tokenizer = make_tokenizer(vocabulary, [*documents, *held_out])  # no character without a token
    others = encode_documents(held_out, tokenizer) if held_out else None
    return Corpus(encode_documents(documents, tokenizer), others, tokenizer)


def read_documents(paths: Sequence[str | Path]) -> list[str]:
    """The documents of UTF-8 files. Raises ValueError as `read_corpus` does."""
    if not paths:
        raise ValueError("there is no text to read: name at least one file with --text.")
    documents = []
    for path in paths:
        found = split_documents(read_text(path))
        if not any(map(str.strip, found)):
            raise ValueError(f"{path} holds no text: use a file with some.")
        documents += found
    return documents


def split_documents(text: str) -> list[str]:
    """The texts between the lines that hold only `<|endoftext|>`, empty ones left out."""
    lines = itertools.groupby(text.split("\n"), key=lambda line: line == END_OF_TEXT)
    found = ("\n".join(group) for is_separator, group in lines if not is_separator)
    return [document for document in found if document]


def encode_documents(documents: Iterable[str], tokenizer: Tokenizer) -> torch.Tensor:
    """Token ids (n,), each document's followed by the end-of-text id."""
    ids = (torch.tensor([*tokenizer.encode(d), tokenizer.end_of_text_id]) for d in documents)
    return torch.cat(list(ids))


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


def window_starts(n_ids: int, context_length: int, seed: int, skip: int = 0) -> Iterator[int]:
    """The starts of the windows, an endless iterator: each epoch shifts and shuffles them anew.

    The first `skip` windows are left out.
    Raises ValueError if the text is shorter than two windows.
    """
    if n_ids < 2 * context_length + 1:
        raise ValueError(
            f"the text has {n_ids:,} tokens: use at least {2 * context_length + 1:,} "
            f"for a context of {context_length:,}."
        )

    def epoch(number: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed + number)
        shift = int(torch.randint(context_length, (1,), generator=generator))
        starts = torch.arange(shift, n_ids - context_length, context_length)
        return starts[torch.randperm(len(starts), generator=generator)].tolist()

    order = itertools.chain.from_iterable(map(epoch, itertools.count()))
    return itertools.islice(order, skip, None)


def windows_at(
    ids: torch.Tensor, starts: Sequence[int], context_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets (b, context_length) of the windows that begin at `starts`."""
    places = torch.tensor(starts)[:, None] + torch.arange(context_length + 1)
    # A blocking copy would wait until the GPU has finished its queue.
    windows = ids[places.to(ids.device, non_blocking=ids.is_cuda)]  # (b, context_length + 1)
    return windows[:, :-1], windows[:, 1:]


class CompactVocabulary:
    """The tokens that a corpus uses, numbered without gaps; all others share one last number.

    A token that never occurs is never a target, so training does the same to its row of the
    output head as to every other such row: one common row stands for them, which more than
    halves the work of the softmax. `log_counts` (compact,), added to the logits, makes that
    row count as often as it stands for a token: the loss is that of the whole vocabulary.
    The common row's gradient is the sum of theirs, so the norm that `clip` limits is larger
    than over the whole vocabulary.
    """

    def __init__(self, ids: torch.Tensor, vocab_size: int) -> None:
        used = ids.unique()
        n_unused = vocab_size - len(used)
        self.size = len(used) + (n_unused > 0)
        self.to_compact = torch.full((vocab_size,), len(used))
        self.to_compact[used] = torch.arange(len(used))
        self.log_counts = torch.zeros(self.size)
        if n_unused:
            self.log_counts[-1] = math.log(n_unused)

    def expand(self, model: GPTModel, cfg: GPTConfig) -> GPTModel:
        """The model over the whole vocabulary that `model` over the compact one stands for."""
        full = GPTModel(cfg)
        tensors = dict(model.state_dict())
        for name in ("tok_emb.weight", "out_head.weight"):
            tensors[name] = tensors[name][self.to_compact.to(tensors[name].device)]
        full.load_state_dict(tensors)
        return full.eval()
