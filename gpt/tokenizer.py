"""Byte pair encoding as GPT-2 does it: text to ids, ids to text, byte-exact pieces for display."""

import codecs
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tiktoken

from gpt.config import check_token

END_OF_TEXT = "<|endoftext|>"
_MERGES = Path(__file__).resolve().parent.parent / "assets" / "vocab.bpe"
# The value that tiktoken's openai_public.py states for OpenAI's published vocab.bpe.
_MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
# How GPT-2 cuts text into words before merging. Source: tiktoken, openai_public.py, r50k_pat_str.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# A run of white space is one word without its last character, if something follows. `WORDS`
# finds that by backtracking, which tiktoken's matcher gives up (a Rust panic) near a million: such
# a word is cut out before. A search is begun where a run begins only.
_SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LONG_SPACE = re.compile(rf"(?<![{_SPACES}])([{_SPACES}]{{100000,}})(?=[{_SPACES}][^{_SPACES}])")
# A printable character for each byte: itself, or from U+0100 on, in order of the byte.
# Source: Radford et al. 2019, the released encoder.py, bytes_to_unicode.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_LETTERS = {byte: chr(byte) for byte in _PRINTABLE}
BYTE_LETTERS |= {byte: chr(letter) for letter, byte in enumerate(_OTHERS, start=256)}
# str.translate's table from letters to bytes; what stands for no byte goes beyond Latin-1.
_BYTES = {ord(letter): byte for byte, letter in BYTE_LETTERS.items()}
_BYTES |= {byte: 0x100 for byte in range(0x7F, 0x100) if byte not in _BYTES}


class Tokenizer:
    """GPT-2's 50,257 tokens; or another vocabulary of the same kind, as its files spell it.

    `ids` gives each token's id and `merges` the pairs to join, in order ("Ġ t"), in the letters
    that GPT-2's files have for bytes; `end_of_text` is the token between two documents, and
    `vocab_size` the largest id and one.
    GPT-2's own come from a file of the repository and never from the network.
    Raises ValueError if that file is missing or its SHA-256 is not the published one, or if a
    merge makes what is no token.
    """

    def __init__(
        self,
        ids: Mapping[str, int] | None = None,
        merges: Sequence[str] | None = None,
        end_of_text: str = END_OF_TEXT,
    ) -> None:
        self.merges = tuple(_published_merges() if merges is None else merges)
        made = [*BYTE_LETTERS.values(), *(merge.replace(" ", "", 1) for merge in self.merges)]
        if ids is None:  # GPT-2 numbers its tokens in the order of their making
            ids = {token: i for i, token in enumerate([*made, end_of_text])}
        self.ids = dict(ids)
        if unknown := [token for token in (*made[256:], end_of_text) if token not in self.ids]:
            raise ValueError(f"the vocabulary has no token {unknown[0][:40]!r}: it is damaged.")
        self.end_of_text, self.end_of_text_id = end_of_text, self.ids[end_of_text]
        tokens = dict.fromkeys(made)
        self._id_of_rank = [self.ids.get(token) for token in tokens]  # a byte may have no token
        self.vocab_size = max(self.ids.values()) + 1
        raw = {token: _bytes_of(token) for token in (*tokens, *self.ids)}
        self._raw = {token_id: raw[token] for token, token_id in self.ids.items()}
        self.ranks = {raw[token]: rank for rank, token in enumerate(tokens)}
        self._encoding = tiktoken.Encoding(
            name="gpt2", pat_str=WORDS, mergeable_ranks=self.ranks, special_tokens={}
        )

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; `<|endoftext|>` in it is plain text unless `allow_special`.

        Half of a surrogate pair, which a browser can send, becomes U+FFFD (tiktoken does that).
        Raises ValueError for a byte that the vocabulary has no token for; GPT-2's has all.
        """
        ids: list[int] = []
        for i, document in enumerate(text.split(self.end_of_text) if allow_special else [text]):
            ids += [self.end_of_text_id] * (i > 0)
            for part in _LONG_SPACE.split(document):
                ids += self._encode(part)
        return ids

    def _encode(self, text: str) -> list[int]:
        ids = [self._id_of_rank[rank] for rank in self._encoding.encode_ordinary(text)]
        if None in ids:
            missing = self._encoding.encode_ordinary(text)[ids.index(None)]
            byte = self._encoding.decode_single_token_bytes(missing)[0]
            raise ValueError(f"the model's vocabulary has no token for byte 0x{byte:02X}.")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token. Raises ValueError if the id is outside the vocabulary."""
        check_token(token_id, self.vocab_size)
        number = int(token_id)  # a tensor's hash is not its number's
        return self._raw.get(number, f"⟨{number}⟩".encode())  # a number may have no token

    def piece(self, token_id: int) -> str:
        """One token as shown: `·` space, `⏎` newline, `→` tab, hex for part of a character.

        Raises ValueError if the id is outside the vocabulary.
        """
        if token_id == self.end_of_text_id:
            return self.end_of_text
        return display_form(self.token_bytes(token_id))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The `piece` of each token."""
        return [self.piece(i) for i in ids]

    def stream(self) -> "StreamDecoder":
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


def _published_merges() -> list[str]:
    """OpenAI's merges, best first, from assets/."""
    content, wrong = b"", "is damaged (its SHA-256 is not GPT-2's)"
    try:
        content = _MERGES.read_bytes()
    except OSError as error:
        wrong = f"cannot be read ({error.strerror})"
    if hashlib.sha256(content).hexdigest() != _MERGES_SHA256:
        raise ValueError(
            f"the vocabulary {_MERGES.name} {wrong}: restore assets/ from the repository."
        )
    return content.decode().splitlines()[1:]  # the first line is the version


def _bytes_of(token: str) -> bytes:
    """The bytes that a token's letters stand for; its UTF-8 where it is not spelled in them."""
    try:
        return token.translate(_BYTES).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


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
