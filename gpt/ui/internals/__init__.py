"""The Internals tab: one traced pass from text to the next token, and readings of it."""

from gpt.ui.internals.tab import InternalsTab
from gpt.ui.tabs import Page

__all__ = ["InternalsTab", "add_to"]


def add_to(page: Page) -> InternalsTab:
    return InternalsTab(page.registry, page.source, page.shared)
