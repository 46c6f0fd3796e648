"""The Architecture tab: a calculator that is proven against the running module."""

from gpt.ui.architecture.tab import build

__all__ = ["build"]
