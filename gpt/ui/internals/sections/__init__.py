"""The sections of the Internals tab in the order of the page, by their stop of the rail."""

from importlib import import_module

FILES = {
    "Tokens": "text_to_tokens", "Embeddings": "embedding_vectors", "Attention": "attention_heads",
    "Stream": "residual_stream", "Lens": "logit_lens", "Odds": "logits_to_odds",
    "Choice": "next_token", "Why": "why_this_token", "What if": "what_if", "Code": "shape_table",
}  # fmt: skip
STOPS = {
    stop: [
        named.section
        for named in vars(import_module(f"{__name__}.{file}")).values()
        if hasattr(named, "section")
    ]
    for stop, file in FILES.items()
}
SECTIONS = tuple(section for sections in STOPS.values() for section in sections)
