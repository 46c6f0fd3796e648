"""The tokenizer that a model was trained with: GPT-2's, or that of its Hugging Face folder."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt.checkpoints.reading import PICKLED, WEIGHTS
from gpt.checkpoints.sources import is_named, path_of
from gpt.checkpoints.tensors import INDEX, read_json, read_text
from gpt.tokenizer import END_OF_TEXT, Tokenizer

_LARGEST_ID = 1_000_000
_FILES = (
    "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json",
    "config.json",
)  # fmt: skip
# Files of tokenizers of other kinds: SentencePiece's and BERT's.
_OTHER_KINDS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt")
# What tokenizer_config.json may call a tokenizer that these files describe fully.
_CLASSES = ("GPT2Tokenizer", "PreTrainedTokenizer", "TokenizersBackend")
_gpt2 = functools.cache(Tokenizer)  # made once


def tokenizer_of(source: str | Path) -> Tokenizer:
    """The tokenizer of a model: GPT-2's, unless its folder has files of another.

    A folder's own (or that beside a model.safetensors) is read from tokenizer.json, else from
    vocab.json and merges.txt. Shared and cached until one of these files changes.
    Raises ValueError, in one line, if it is no byte-level BPE as GPT-2 has it.
    """
    path = path_of(source)
    if is_named(source) or (path.is_file() and path.name not in (WEIGHTS, INDEX, PICKLED)):
        return _gpt2()  # what stands beside a checkpoint of another name need not belong to it
    folder = path if path.is_dir() else path.parent
    found = [folder / name for name in (*_FILES, *_OTHER_KINDS) if (folder / name).is_file()]
    stamps = ((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in found)
    return _of_folder(folder, tuple(stamps))


@functools.lru_cache(maxsize=8)
def _of_folder(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> Tokenizer:
    """The tokenizer that the files of `folder` describe; `stamps` says which there are."""
    files = {name for name, _, _ in stamps}
    settings = _settings(folder)
    if "tokenizer.json" in files:
        ids, merges = _from_tokenizer_json(folder / "tokenizer.json")
    elif {"vocab.json", "merges.txt"} <= files:
        added = read_json(folder / "added_tokens.json") if "added_tokens.json" in files else {}
        ids = {**read_json(folder / "vocab.json"), **added}
        lines = read_text(folder / "merges.txt").split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
    elif others := sorted(files & {*_OTHER_KINDS, "vocab.json", "merges.txt"}):
        raise _refused(folder / others[0], "it is another kind, or a part of it is missing")
    else:
        return _gpt2()  # a checkpoint of this package or of the book
    if not all(isinstance(i, int) and 0 <= i <= _LARGEST_ID for i in ids.values()):
        raise _refused(folder, f"an id is no whole number from 0 to {_LARGEST_ID:,}")
    if ids == _gpt2().ids and tuple(merges) == _gpt2().merges:
        return _gpt2()
    try:
        return Tokenizer(ids, merges, _end_of_text(settings, ids, folder))
    except ValueError as error:
        raise _refused(folder, str(error).rstrip(".")) from error


def _settings(folder: Path) -> Mapping[str, Any]:
    """The content of tokenizer_config.json. Raises ValueError for a tokenizer of another kind."""
    where = folder / "tokenizer_config.json"
    settings = read_json(where) if where.is_file() else {}
    kind = str(settings.get("tokenizer_class", _CLASSES[0]))
    if kind.removesuffix("Fast") not in _CLASSES:
        raise _refused(where, f"it is a {kind[:40]}")
    if settings.get("add_prefix_space"):
        raise _refused(where, "add_prefix_space puts a space before each text")
    return settings


def _from_tokenizer_json(where: Path) -> tuple[dict[str, int], list[str]]:
    """Ids and merges of a file of Hugging Face's tokenizers.

    Source: tokenizers, the JSON of Tokenizer.save.
    """
    data = read_json(where)
    model, before = data.get("model"), data.get("pre_tokenizer")
    plain = isinstance(model, dict) and isinstance(before, dict)
    if not plain or model.get("type") != "BPE" or before.get("type") != "ByteLevel":
        raise _refused(where, "it is another kind")
    if before.get("add_prefix_space") or not before.get("use_regex", True):
        raise _refused(where, "it cuts text into words in another way")
    if data.get("normalizer") is not None:
        raise _refused(where, "it changes the text before it is cut")
    try:
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        added = {token["content"]: token["id"] for token in data.get("added_tokens") or ()}
        return {**model["vocab"], **added}, merges
    except (KeyError, TypeError) as error:
        raise _refused(where, "its vocabulary or its merges are damaged") from error


def _end_of_text(settings: Mapping[str, Any], ids: Mapping[str, int], folder: Path) -> str:
    """The token between documents: by tokenizer_config.json, GPT-2's name, or config.json's id."""
    named = settings.get("eos_token")
    named = named.get("content") if isinstance(named, dict) else named
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    by_id = [token for token, i in ids.items() if i == config.get("eos_token_id")]
    for token in (named, END_OF_TEXT, *by_id):
        if isinstance(token, str) and token in ids:
            return token
    raise ValueError("it names no token for the end of a text")


def _refused(where: Path, reason: str) -> ValueError:
    return ValueError(
        f"{where}: this tokenizer cannot be used ({reason}): only a byte-level BPE as GPT-2's is "
        "read, from tokenizer.json or from vocab.json and merges.txt."
    )
