"""The endpoint /internals: a prompt in, the prediction at one of its positions out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt.ui.internals.lab import MAX_TOKENS, Lab
from gpt.ui.internals.sections.logits_to_odds import MAX_BARS, read_logits
from gpt.ui.parts.numbers import whole


def internals_endpoint(lab: Lab, source: str) -> Callable[..., dict[str, Any]]:
    """The handler; `source` is the model where none is named."""

    def internals(
        prompt: str, position: int = -1, top_k: int = 20, model: str = source
    ) -> dict[str, Any]:
        """The prediction that a model makes at one position of a prompt, in float32.

        Args:
            prompt: a text of at most 128 tokens.
            position: whose prediction to read; 0 is the first token, -1 the last.
            top_k: how many of the best tokens to list, 1 to 50.
            model: the name of a model of the page.

        Returns: model, precision, tokens, position, vocab_size, entropy_nats, entropy_bits,
            top (rank, id, text, logit and probability of the best tokens) and tail (of all others
            their number, mean logit and probability).
        """
        at = whole("position", position, -MAX_TOKENS, MAX_TOKENS)
        if not isinstance(model, str):
            raise ValueError(f"model is {repr(model)[:40]}: use the name of a model.")
        top_k = whole("top_k", top_k, 1, MAX_BARS)
        visit = lab.read(model, prompt, at)
        return read_logits(lab.using(model), visit, top_k)

    return internals
