"""A run of the Train tab that takes a moment, and what drives it without a page."""

from contextlib import aclosing

from gpt.ui.train.settings import DEFAULTS

TINY = {
    **DEFAULTS, "text": "capitals", "layers": 1, "width": 16, "heads": 2, "context": 16,
    "batch": 2, "steps": 50, "rate": 0.01, "characters": 4000, "pasted": "", "file": None,
}  # fmt: skip


async def driven(training, until=None):
    """Drives a run to its end, or until `until(training)`."""
    async with aclosing(training.updates()) as updates:
        async for _ in updates:
            if until is not None and until(training):
                return training
    return training
