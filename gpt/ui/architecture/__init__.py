"""The Architecture tab: a calculator that is proven against the running module."""

from gpt.ui.architecture.tab import add_to

__all__ = ["add_to"]
