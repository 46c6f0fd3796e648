"""Keys and values of texts that have ended, so that who goes on with one need not write it again.

Reading a text at once would take no longer than a prompt, but gives other last digits than the
steps that wrote it: a link that replays the text would give other tokens.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch

from gpt.cache import KVCache
from gpt.model import GPTModel

MOST_BYTES = 64 * 2**20  # of a model's texts together


class Kept:
    """The texts of one model, newest last: their tokens, how many were the prompt's, the cache."""

    def __init__(self) -> None:
        self.texts: list[tuple[tuple[int, ...], int, KVCache]] = []

    def keep(self, ids: Sequence[int], n_prompt: int, cache: KVCache) -> None:
        """`cache` holds `ids`; a text that they go on with is let go, and the oldest at need."""
        now = tuple(ids)
        others = [t for t in self.texts if t[1] != n_prompt or now[: len(t[0])] != t[0]]
        texts = [*others, (now, n_prompt, cache)]
        while sum(text[2].n_bytes for text in texts) > MOST_BYTES:
            del texts[0]
        self.texts = texts

    @torch.inference_mode()
    def take(self, ids: Sequence[int], n_prompt: int, into: KVCache) -> bool:
        """Fills `into` with the keys and values of `ids`; False if no text begins with them.

        A prompt is read in chunks and the rest a token at a time: texts with another prompt have
        other last digits.
        """
        for known, prompt, cache in self.texts:
            if prompt == n_prompt and known[: len(ids)] == tuple(ids):
                for old, new in zip(cache.layers, into.layers, strict=True):
                    new.append(old.keys[:, :, : len(ids)], old.values[:, :, : len(ids)])
                return True
        return False


_of_model: WeakKeyDictionary[GPTModel, Kept] = WeakKeyDictionary()


def kept_of(model: GPTModel) -> Kept:
    """What is kept of texts of `model`, as long as the model lives."""
    return _of_model.setdefault(model, Kept())
