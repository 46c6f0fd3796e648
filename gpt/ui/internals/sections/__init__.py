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
    shape_table,
    side_by_side,
    stream_by_layer,
    text_to_tokens,
    two_prompts,
    what_if,
    what_mattered,
)

SECTIONS = (
    text_to_tokens.SECTION,
    embedding_vectors.SECTION,
    attention_heads.SECTION,
    stream_by_layer.SECTION,
    block_vectors.SECTION,
    logit_lens.SECTION,
    logits_to_odds.SECTION,
    next_token.SECTION,
    logit_ledger.SECTION,
    what_mattered.SECTION,
    what_if.SECTION,
    what_if.SWEEP,
    two_prompts.SECTION,
    side_by_side.SECTION,
    shape_table.SECTION,
    shape_table.FILE,
)
