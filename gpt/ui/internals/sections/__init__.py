"""The sections of the Internals tab, in the order of the page: a file a section."""

from __future__ import annotations

from gpt.ui.internals.sections import (
    attention_heads,
    block_vectors,
    embedding_vectors,
    logit_ledger,
    logit_lens,
    logits_to_odds,
    next_token,
    one_position,
    shape_table,
    side_by_side,
    stream_by_layer,
    what_if,
    what_mattered,
    whole_prompt,
)

SECTIONS = tuple(
    module.SECTION
    for module in (
        one_position, whole_prompt, embedding_vectors, attention_heads, stream_by_layer,
        block_vectors, logit_lens, logits_to_odds, logit_ledger, next_token, what_mattered,
        what_if, side_by_side, shape_table,
    )
)  # fmt: skip
