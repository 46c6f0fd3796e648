"""The Architecture tab: a calculator that is proven against the running module."""

from gpt.ui.architecture.offer import Offer
from gpt.ui.architecture.tab import build
from gpt.ui.tabs import Page

__all__ = ["add_to", "build"]


def add_to(page: Page) -> Offer:
    offer = build(page.registry)
    page.later.append(lambda: offer.offer_to(page.shared))
    return offer
