"""The Internals tab: one traced pass from text to the next token, and readings of it."""

from gpt.ui.internals.tab import build

__all__ = ["build"]
