"""The tabs of the page: a name in TABS puts the module of that name, beside this one, on it.

The module's `add_to(page)` lays the tab out and wires it; others find what it gives in `page.tabs`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import gradio as gr

from gpt.serving.registry import Registry
from gpt.ui.visit import Shared

TABS = ("generation", "architecture", "internals", "train")


@dataclass
class Page:
    """What the tabs of a page are built with, and what they leave for it."""

    registry: Registry
    source: str  # the model that is chosen at first
    device: str = "cpu"
    on_gpu: Any = None  # decorates what borrows a GPU, where one is borrowed
    link_opened: Any = None  # the event at which the text of an opened link is written again
    replicas: Any = None  # of `gpt.serving.cluster.connect`: they write instead of this process
    shared: Shared = field(default_factory=Shared)
    tabs: dict[str, Any] = field(default_factory=dict)
    later: list[Callable[[], Any]] = field(default_factory=list)  # once all tabs are there

    def add_tabs(self) -> None:
        with self.shared.tabs:
            for name in TABS:
                with gr.Tab(name.capitalize(), id=name):
                    self.tabs[name] = import_module(f"gpt.ui.{name}").add_to(self)
        for wire in self.later:
            wire()
