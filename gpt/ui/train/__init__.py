"""The Train tab."""

from gpt.ui.tabs import Page
from gpt.ui.train.tab import TrainTab, build

__all__ = ["add_to", "build"]


def add_to(page: Page) -> TrainTab:
    prompt, inside = page.tabs["generation"].prompt, page.tabs["internals"]
    training = build(page.shared, page.device, prompt, inside)
    page.left.append(training.left)
    return training
