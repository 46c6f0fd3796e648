"""Training text: files to token ids, ids to windows, windows in an order set by a seed."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt.config import GPTConfig
from gpt.model import GPTModel
from gpt.tokenizer import END_OF_TEXT, Tokenizer
from gpt.training.vocabularies import make_tokenizer


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


def make_corpus(
    documents: Sequence[str], held_out: Sequence[str] = (), vocabulary: str = "gpt2"
) -> Corpus:
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


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with line feeds and without a byte order mark.

    Raises ValueError if it cannot be read, is in another encoding or is no text.
    """
    file = Path(os.path.expanduser(path))
    try:
        if file.is_char_device():  # /dev/zero has no end
            raise ValueError(f"{path} is no file: name one.")
        return text_of(file.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def text_of(data: bytes, name: str) -> str:
    """The text of UTF-8 bytes, as `read_text`; `name` is what an error calls them."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is no UTF-8 text (byte 0x{error.object[error.start]:02X} at position "
            f"{error.start:,}): save it as UTF-8."
        ) from error
    if "\0" in text:
        raise ValueError(f"{name} is no UTF-8 text (it has NUL characters): save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_documents(text: str) -> list[str]:
    """The texts between the lines that hold only `<|endoftext|>`, empty ones left out."""
    lines = itertools.groupby(text.split("\n"), key=lambda line: line == END_OF_TEXT)
    found = ("\n".join(group) for is_separator, group in lines if not is_separator)
    return [document for document in found if document]


def encode_documents(documents: Iterable[str], tokenizer: Tokenizer) -> torch.Tensor:
    """Token ids (n,), each document's followed by the end-of-text id."""
    ids = (torch.tensor([*tokenizer.encode(d), tokenizer.end_of_text_id]) for d in documents)
    return torch.cat(list(ids))


def window_starts(
    n_ids: int, context_length: int, seed: int, skip: int = 0, rank: int = 0, world: int = 1
) -> Iterator[int]:
    """The starts of the windows, an endless iterator: each epoch shifts and shuffles them anew.

    Process `rank` of `world` takes every world-th of the common order, so that a step reads the
    same windows however many processes share it. The first `skip` windows are left out.
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
    return itertools.islice(order, skip + rank, None, world)


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
