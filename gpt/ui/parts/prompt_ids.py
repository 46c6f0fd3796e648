"""A visitor's prompt as token ids: one set of checks, and of lines, for all tabs."""

from typing import Any

from gpt.tokenizer import Tokenizer
from gpt.ui.parts.sentences import quoted

MOST_CHARACTERS = 50_000


def prompt_ids(prompt: Any, tokenizer: Tokenizer, vocab_size: int) -> list[int]:
    """The ids of `prompt`, before any weight is loaded.

    Raises ValueError if it is no text, empty, longer than accepted, or has a token that a model of
    `vocab_size` tokens does not know.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is {repr(prompt)[:40]}: use a text.")
    if not prompt:
        raise ValueError("the prompt is empty: write at least one character.")
    if len(prompt) > MOST_CHARACTERS:
        raise ValueError(
            f"the prompt has {len(prompt):,} characters: use at most {MOST_CHARACTERS:,}."
        )
    ids = tokenizer.encode(prompt)
    for position, token_id in enumerate(ids):
        if token_id >= vocab_size:
            raise ValueError(
                f"token {position} ({quoted(tokenizer.piece(token_id))}) has id {token_id:,} and "
                f"this model knows ids 0 to {vocab_size - 1:,}: use another prompt or model."
            )
    return ids
