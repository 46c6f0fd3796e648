"""The sections of the Internals tab: their files by name, in the order of the page."""

from importlib import import_module

from gpt.ui.internals.section import Section

FILES = (
    "text_to_tokens", "embedding_vectors", "attention_heads", "residual_stream", "logit_lens",
    "logits_to_odds", "next_token", "why_this_token", "what_if", "side_by_side", "shape_table",
)  # fmt: skip
SECTIONS = tuple(
    found
    for name in FILES
    for found in vars(import_module(f"{__name__}.{name}")).values()
    if isinstance(found, Section)
)
