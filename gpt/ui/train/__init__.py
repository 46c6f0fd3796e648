"""The Train tab."""

from gpt.ui.train.tab import build

__all__ = ["build"]
