"""The components of the Generation tab in the order in which a phone shows them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from gpt.engine import PRECISIONS
from gpt.engine.machine import available_devices
from gpt.serving.registry import Registry
from gpt.ui.generation.continuation import HINT
from gpt.ui.generation.settings import (
    AUTO,
    EXAMPLES,
    SETTINGS,
    STANDARD,
    model_note,
    precision_note,
)
from gpt.ui.generation.versions import BY
from gpt.ui.parts.chips import ROVING_JS
from gpt.ui.visit import Visit


class Layout:
    """Every component of the tab, by name; `settings` by the names of STANDARD."""

    def __init__(self, registry: Registry, default_source: str, default_device: str) -> None:
        with gr.Row():
            with gr.Column(scale=3, elem_id="gen-main"):
                self._input(registry, default_source)
                self._results(default_source)
            with gr.Column(scale=2, min_width=280):
                self._settings(default_source, default_device)
        self.columns = gr.HTML("", padding=False, js_on_load="gptPage.take(element, trigger);")
        chosen = {"prompt": self.prompt, "model": self.model, **self.settings}
        self.inputs = {*chosen.values(), self.by, self.count, self.guess}
        self.controls = {n: c for n, c in chosen.items() if n != "device"}  # what a visit fills
        self.streamed = [self.output, self.stats, self.tokens, self.panel, self.columns]

    def _input(self, registry: Registry, default_source: str) -> None:
        names = [(label, name) for name, label in registry.sources().items()]
        self.model = gr.Dropdown(
            names, value=default_source, label="Model", elem_id="gen-model", container=False
        )
        first = next(iter(EXAMPLES.values())).prompt
        self.prompt = gr.Textbox(first, lines=2, max_lines=8, label="Prompt", elem_id="gen-prompt")
        with gr.Row(elem_id="gen-buttons"):
            self.run = gr.Button("Generate", variant="primary", elem_id="gen-run")
            self.stop = gr.Button("Stop", variant="stop", visible="hidden", elem_id="gen-stop")
            gr.HTML(visible="hidden", js_on_load="gptPage.keepFocus(element);")
        with gr.Row(elem_id="gen-examples"):
            self.examples = [
                (gr.Button(label, size="sm", min_width=60, scale=0), visit)
                for label, visit in EXAMPLES.items()
            ]

    def _results(self, default_source: str) -> None:
        self.output = gr.Textbox(
            label="Continuation",
            lines=4,
            max_lines=4,
            elem_id="gen-output",
            placeholder="Press Generate (or Shift + Enter in the prompt), or try an example, "
            "which also changes the settings.",
            buttons=["copy"],
        )
        self.tokens = gr.HTML(
            "",
            elem_id="gen-tokens",
            padding=False,
            html_template='<div id="gen-chips" class="chips" role="group" aria-label="New tokens">'
            "${value}</div>",
            js_on_load=ROVING_JS,
        )
        self._toolbar()
        self.panel = gr.HTML(
            HINT,
            elem_id="gen-panel",
            padding=False,
            html_template='<div class="chip-panel" role="region" aria-label="The chosen token" '
            'aria-live="polite">${value}</div>',
            js_on_load="gptPage.panel(element, trigger, watch);",
        )
        self.stats = gr.HTML(elem_id="gen-stats", padding=False)
        note = model_note(default_source)
        self.note = gr.Markdown(note, elem_id="gen-model-note", elem_classes="hint")

    def _toolbar(self) -> None:
        """Small buttons that go on, back, or over the text again."""
        button = partial(gr.Button, size="sm", min_width=40, scale=0)
        with gr.Row(elem_id="gen-toolbar"):
            self.next = button("Next token", elem_id="gen-next")
            self.next_10 = button("× 10", elem_id="gen-next-10")
            self.back = button("Back", elem_id="gen-back")
            self.undo = button("Undo", elem_id="gen-undo")
            self.redo = button("Redo", elem_id="gen-redo")
            self.more = button("Continue", elem_id="gen-continue")
            self.again = button("Same seed", elem_id="gen-again")
            self.reseed = button("New seed", elem_id="gen-new")
            self.guess = gr.Checkbox(
                False, label="Guess first", container=False, min_width=100, elem_id="gen-guess"
            )

    def _settings(self, default_source: str, default_device: str) -> None:
        some = {n: setting.component(n) for n, setting in SETTINGS.items() if not setting.more}
        with gr.Accordion("More settings", open=False, elem_id="gen-more"):
            more = {n: setting.component(n) for n, setting in SETTINGS.items() if setting.more}
            self.device = gr.Dropdown(
                available_devices(),
                value=default_device,
                label="Device",
                elem_id="gen-device",
                info="Where the arithmetic is done; only what this machine has is offered.",
            )
            self.precision = gr.Dropdown(
                [AUTO, *PRECISIONS],
                value=AUTO,
                label="Precision",
                elem_id="gen-precision",
                info="Number format of the weights. Smaller is faster and slightly less exact.",
            )
            note = precision_note(default_source, AUTO, default_device)
            self.precision_note = gr.Markdown(
                note, elem_id="gen-precision-note", elem_classes="hint"
            )
        self.settings = {**some, **more, "precision": self.precision, "device": self.device}
        with gr.Row():
            choices = [(name.capitalize(), name) for name in BY]
            self.by = gr.Dropdown(
                choices, value="seed", label="Versions differ in", min_width=120, elem_id="gen-by"
            )
            self.count = gr.Radio(
                [2, 3, 4], value=3, label="How many", min_width=190, elem_id="gen-count"
            )
        self.versions = gr.Button("Write versions side by side", size="sm", elem_id="gen-versions")
        self.reset = gr.Button("Reset to defaults", size="sm", elem_id="gen-reset")

    def values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """The settings by name in what an event has read of `inputs`."""
        return {name: data[component] for name, component in self.settings.items()}

    def filled(self, visit: Visit) -> dict[Any, Any]:
        """The controls of a visit, but for the seed, which stays where a new one is drawn."""
        values = {**STANDARD, **visit.settings, "prompt": visit.prompt, "model": visit.model}
        return {c: values[n] for n, c in self.controls.items() if n != "seed"}
