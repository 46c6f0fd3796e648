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


# Of each model, newest last: a text's tokens, how many of them were the prompt's, and the cache.
_texts: WeakKeyDictionary[GPTModel, list[tuple[tuple[int, ...], int, KVCache]]] = (
    WeakKeyDictionary()
)


def keep(model: GPTModel, ids: Sequence[int], n_prompt: int, cache: KVCache) -> None:
    """`cache` holds `ids`; a text that they go on with is let go, and the oldest at need."""
    now, known = tuple(ids), _texts.get(model, [])
    others = [text for text in known if text[1] != n_prompt or now[: len(text[0])] != text[0]]
    texts = [*others, (now, n_prompt, cache)]
    while sum(text[2].n_bytes for text in texts) > MOST_BYTES:
        del texts[0]
    _texts[model] = texts


@torch.inference_mode()
def take(model: GPTModel, ids: Sequence[int], n_prompt: int, into: KVCache) -> bool:
    """Fills `into` with the keys and values of `ids`; False if no text begins with them.

    A prompt is read in chunks and the rest a token at a time: texts with another prompt have
    other last digits.
    """
    for known, prompt, cache in _texts.get(model, []):
        if prompt == n_prompt and known[: len(ids)] == tuple(ids):
            for old, new in zip(cache.layers, into.layers, strict=True):
                new.append(*old.buffer[:, :, :, : len(ids)])
            return True
    return False
