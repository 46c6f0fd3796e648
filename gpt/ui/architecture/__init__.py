"""The Architecture tab: a calculator that is proven against the running module."""

from gpt.ui.architecture.layout import Layout
from gpt.ui.architecture.offer import offer_to
from gpt.ui.architecture.tab import build, show_tensors
from gpt.ui.tabs import Page

__all__ = ["add_to", "build"]


def add_to(page: Page) -> Layout:
    layout = build(page.registry)
    page.later.append(lambda: offer_to(layout, page.shared))
    page.later.append(lambda: show_tensors(layout, page.tabs["internals"]))
    return layout
