"""The sections of the Internals tab in the order of the page, by their stop of the rail."""

from gpt.ui.internals.sections import (
    attention_heads,
    embedding_vectors,
    logit_lens,
    logits_to_odds,
    next_token,
    residual_stream,
    shape_table,
    text_to_tokens,
    what_if,
    why_this_token,
)

VIEWS = {
    "Tokens": [text_to_tokens.tokens_html],
    "Embeddings": [embedding_vectors.embedding_html],
    "Attention": [attention_heads.attention_views],
    "Stream": [residual_stream.stream_html, residual_stream.vector_views],
    "Lens": [logit_lens.lens_html],
    "Odds": [logits_to_odds.logits_views],
    "Choice": [next_token.choice_views],
    "Why": [why_this_token.ledger_html, why_this_token.mattered_steps],
    "What if": [
        what_if.ablation_html, what_if.sweep_steps, what_if.patch_steps, what_if.comparison_html,
    ],
    "Code": [shape_table.shapes_html, shape_table.trace_file],
}  # fmt: skip
STOPS = {stop: [view.section for view in views] for stop, views in VIEWS.items()}
SECTIONS = tuple(section for sections in STOPS.values() for section in sections)
