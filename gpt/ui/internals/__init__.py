"""The Internals tab: one traced pass from text to the next token, and readings of it."""

from gpt.ui.internals.tab import InternalsTab, build
from gpt.ui.tabs import Page

__all__ = ["add_to", "build"]


def add_to(page: Page) -> InternalsTab:
    inside = build(page.registry, source=page.source)
    inside.follow(page.shared)
    return inside
