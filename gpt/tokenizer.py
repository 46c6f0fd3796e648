"""GPT-2's byte pair encoding: text to ids, ids to text, and byte-exact pieces for display."""

from __future__ import annotations

import base64
import codecs
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tiktoken

END_OF_TEXT = "<|endoftext|>"
_TABLE = Path(__file__).resolve().parent.parent / "assets" / "gpt2.tiktoken"
# The value that tiktoken's openai_public.py states for r50k_base, the same vocabulary as gpt2's.
_TABLE_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
# How GPT-2 cuts text into words before merging. Source: tiktoken, openai_public.py, r50k_pat_str.
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


@dataclass(frozen=True)
class Piece:
    """One token as a visitor sees it."""

    token_id: int
    raw: bytes
    display: str


class Tokenizer:
    """GPT-2's 50,257 tokens, read from a file of the repository and never from the network.

    Raises ValueError if the file is missing or its SHA-256 is not the published one.
    """

    def __init__(self, table: Path | str = _TABLE) -> None:
        ranks = _read_table(Path(table))
        self.end_of_text_id = len(ranks)
        self._encoding = tiktoken.Encoding(
            name="gpt2",
            pat_str=_WORDS,
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: self.end_of_text_id},
        )

    @property
    def vocab_size(self) -> int:
        return self._encoding.n_vocab

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; `<|endoftext|>` in it is plain text unless `allow_special`.

        Half of a surrogate pair, which a browser can send, becomes U+FFFD.
        """
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if allow_special:
            return self._encoding.encode(text, allowed_special={END_OF_TEXT})
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token. Raises ValueError if the id is outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            highest = self.vocab_size - 1
            raise ValueError(
                f"token id {token_id:,} is outside the vocabulary: use 0 to {highest:,}."
            )
        return self._encoding.decode_single_token_bytes(token_id)

    def piece(self, token_id: int) -> Piece:
        """One token's id, bytes and display form."""
        raw = self.token_bytes(token_id)
        if token_id == self.end_of_text_id:
            return Piece(token_id, raw, END_OF_TEXT)
        return Piece(token_id, raw, display_form(raw))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as shown: `·` space, `⏎` newline, `→` tab, hex for part of a character."""
        return [self.piece(i).display for i in ids]

    def stream(self) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self)


class StreamDecoder:
    """Text of ids as they arrive; bytes of an unfinished character wait for the rest of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The whole characters that this token completes, possibly none.

        A model may have more tokens than the tokenizer: those stand for no text, and show as ids.
        """
        if token_id >= self._tokenizer.vocab_size:
            return f"{self.finish()}⟨{token_id}⟩"
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is still waiting, with U+FFFD for bytes that never became a character."""
        return self._utf8.decode(b"", final=True)


def _read_table(path: Path) -> dict[bytes, int]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"the vocabulary {path.name} cannot be read ({error.strerror}): "
            "restore assets/ from the repository."
        ) from error
    if hashlib.sha256(content).hexdigest() != _TABLE_SHA256:
        raise ValueError(
            f"the vocabulary {path.name} is damaged (its SHA-256 is not GPT-2's): "
            "restore assets/ from the repository."
        )
    lines = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def display_form(raw: bytes) -> str:
    """Bytes of one token as shown: nothing invisible, each space counted, hex where no text."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _hex(raw)
    text = re.sub(" {2,}", lambda run: f"·×{len(run[0])}", text).replace(" ", "·")
    text = text.replace("\n", "⏎").replace("\t", "→")
    return "".join(c if c.isprintable() else _hex(c.encode()) for c in text)


def _hex(raw: Sequence[int] | bytes) -> str:
    return "".join(f"⟨{byte:02X}⟩" for byte in raw)
