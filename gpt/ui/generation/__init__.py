"""The Generation tab."""

from gpt.ui.generation.tab import build

__all__ = ["build"]
