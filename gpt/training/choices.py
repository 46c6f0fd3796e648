"""The texts of the Train tab: generated ones, whose entropy is known, and a visitor's own."""

import threading
from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpt.checkpoints.tensors import text_of
from gpt.training.corpus import Corpus, make_corpus, split_documents
from gpt.training.texts import CAPITAL_SENTENCES, STORIES, Additions, make_text

OWN = "own"
MOST_BYTES = 2 * 2**20  # of a visitor's text
MOST_HELD_OUT = 20_000  # characters of it; a run's end reads them all at once, while others wait
SEED = 2026  # of the generated training texts; held-out texts have SEED + 1
KEPT_CORPORA = 4
_making = threading.Lock()


@dataclass(frozen=True)
class Text:
    """A training text and a held-out text.

    `floor_nats` is -ln of the probability of the whole held-out text, None where unknown.
    """

    name: str  # within a sentence
    text: str
    held_out: str
    prompt: str  # what every sample continues
    floor_nats: float | None = None

    def floor(self, corpus: Corpus) -> float | None:
        """Held-out loss of the true probabilities, in nats a token; None where unknown."""
        return None if self.floor_nats is None else self.floor_nats / len(corpus.held_out)


# How a text is generated: a source for it and one for the held-out text, characters of each.
Made = namedtuple("Made", "label source held_out characters held_out_characters prompt")
MADE = {
    "stories": Made(
        "Stories from a small grammar", STORIES, STORIES, 400_000, 16_000, "Once upon a time"
    ),
    "additions": Made(
        "Additions of two numbers", Additions(), Additions(held_out=True), 160_000, 6_000, "26+46="
    ),
    "capitals": Made(
        "Countries and capitals", CAPITAL_SENTENCES, CAPITAL_SENTENCES, 100_000, 8_000,
        "The capital of",
    ),
}  # fmt: skip
CHOICES = [(made.label, name) for name, made in MADE.items()] + [("My own text", OWN)]


@lru_cache
def made_text(name: str) -> Text:
    """The text of that name in MADE; the same text every time."""
    made = MADE[name]
    learnt, _ = make_text(made.source, made.characters, SEED)
    held_out, nats = make_text(made.held_out, made.held_out_characters, SEED + 1)
    return Text(name, learnt, held_out, made.prompt, nats)


def own_text(pasted: str | None, file: Any) -> Text:
    """A visitor's file, else the pasted text.

    The last tenth, at most MOST_HELD_OUT characters and from a line's start on, is held out.
    Raises ValueError if there is no text, or if it is too long or not UTF-8.
    """
    name, data = "your text", b""
    if file:
        path = Path(str(file))
        name = path.name[:60]
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= MOST_BYTES else b""
        except OSError as error:
            raise ValueError(
                f"{name} is no longer here ({error.strerror}): upload it again."
            ) from error
    else:
        data = (pasted or "").encode("utf-8", "replace")
        size = len(data)
    if size > MOST_BYTES:
        raise ValueError(
            f"{name} has {size / 10**6:,.1f} MB: use at most {MOST_BYTES / 2**20:.0f} MiB."
        )
    # Byte order marks inside and a blank end would be read otherwise from the two files of the zip.
    text = text_of(data, name).replace("\ufeff", "").strip()
    documents = [document.strip() for document in split_documents(text) if document.strip()]
    if not documents:
        raise ValueError("your text is empty: paste some text, or upload a plain text file.")
    least = max(len(text) * 9 // 10, len(text) - MOST_HELD_OUT)
    cut = text.find("\n", least) + 1
    cut = cut if 0 < cut < len(text) else least
    prompt = documents[0].split("\n")[0][:24]
    return Text("your text", text[:cut], text[cut:], prompt)


def corpus_of(text: Text, vocabulary: str) -> Corpus:
    """The corpus of a text. One is made at a time: to train byte pairs takes seconds.

    Raises ValueError if the vocabulary does not suit the text, or nothing can be held out.
    """
    with _making:
        return _corpus(text.text, text.held_out, vocabulary)


@lru_cache(KEPT_CORPORA)
def _corpus(text: str, held_out: str, vocabulary: str) -> Corpus:
    documents = split_documents(text), split_documents(held_out)
    if not all(any(map(str.strip, part)) for part in documents):
        raise ValueError("your text is too short to hold a part of it out: use more.")
    return make_corpus(*documents, vocabulary)
