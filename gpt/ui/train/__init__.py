"""The Train tab."""

from gpt.ui.train.tab import add_to

__all__ = ["add_to"]
