"""The components of the Architecture tab in the order in which a phone shows them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.ui.architecture import measured
from gpt.ui.architecture.controls import FIELDS, Controls
from gpt.ui.architecture.exchange import FORMATS
from gpt.ui.architecture.exercises import EXERCISES
from gpt.ui.architecture.model_map import FIRST
from gpt.ui.architecture.offer import Offer
from gpt.ui.architecture.presets import GPT3_NOTE, Preset
from gpt.ui.architecture.tensor_strip import NO_TEXT
from gpt.ui.architecture.views import figures
from gpt.ui.architecture.workload import NAMES, WorkloadControls
from gpt.ui.parts.chips import KEEP_FOCUS_JS
from gpt.ui.parts.sentences import say

CHOOSE_JS = """
element.addEventListener('click', (event) => {
  const part = event.target.closest('[data-part]');
  if (!part || part.getAttribute('aria-pressed') === 'true') return;
  element.querySelectorAll('[data-part]').forEach((each) =>
    each.setAttribute('aria-pressed', String(each === part)));
  trigger('select', {part: part.dataset.part});
});
""" + KEEP_FOCUS_JS.replace("KEY", "data-part")
# From a part to where Internals shows it at work.
SHOW_JS = """
element.addEventListener('click', (event) => {
  const asked = event.target.closest('[data-section]');
  if (!asked) return;
  [...document.querySelectorAll('[role=tab]')].find(
    (tab) => tab.textContent.trim() === 'Internals').click();
  const timer = setInterval(() => {
    const section = document.querySelector('#int-section-' + asked.dataset.section);
    if (!section?.checkVisibility()) return;
    clearInterval(timer);
    const bar = section.querySelector('button.label-wrap');
    if (!bar.classList.contains('open')) bar.click();
    section.scrollIntoView({block: 'start'});
    bar.focus({preventScroll: true});
  }, 100);
});
"""
WORKLOAD = "## Workload\nMemory, operations, times and the shapes of the parts are for:"
MOST_SUGGESTIONS = 4
OPEN_AT_FIRST = ("", "numbers")  # keys of views.SECTIONS


class Layout:
    """All components; `views` follow the controls, by name; `sections` are accordions by key."""

    def __init__(self, named: tuple[Preset, ...]) -> None:
        self.views: dict[str, gr.HTML | gr.Code] = {}
        self.sections: dict[str, gr.Accordion] = {}
        with gr.Row(elem_classes="arch-head"):
            self.controls = Controls(named, named[0].cfg)
            self.views["total"] = gr.HTML(elem_id="arch-total", elem_classes="live")
        self._picture()
        with gr.Accordion("The book's exercises 4.1 and 4.2", open=False, elem_id="arch-exercises"):
            with gr.Row():
                self.exercises = [
                    gr.Button(each.label, size="sm", elem_id=f"arch-exercise-{each.key}")
                    for each in EXERCISES
                ]
            self.answer = gr.HTML("Each sets the controls and answers.", elem_id="arch-answer")
        with gr.Accordion("More settings", open=False, elem_id="arch-more"):
            self.controls.rest()
        self.check = gr.HTML(
            '<p class="hint">Check: not run yet.</p>', elem_id="arch-check", min_height=44
        )
        with self._section("numbers", "Every part in numbers", "arch-numbers"):
            for name in ("tied", "plot", "table"):
                self.views[name] = gr.HTML(elem_id=f"arch-{name}")
        with self._section("code", "The model as code", "arch-code"):
            self.views["code"] = gr.HTML()
        gr.Markdown(WORKLOAD)
        self.load = WorkloadControls()
        self._costs()
        self._compare(named)
        self._work()
        for name, text in figures(self.starting_values(named), named, OPEN_AT_FIRST).items():
            self.views[name].value = text

    def starting_values(self, named: tuple[Preset, ...]) -> dict[str, object]:
        """What the controls say at first, by name."""
        values: dict[str, object] = {name: named[0].cfg[name] for name in FIELDS}
        values |= {name: getattr(self.load, name).value for name in NAMES}
        return {
            **values, "compare": self.compare.value, "format": self.format.value, "part": FIRST
        }  # fmt: skip

    def _section(self, key: str, title: str, elem_id: str) -> gr.Accordion:
        self.sections[key] = gr.Accordion(title, open=key in OPEN_AT_FIRST, elem_id=elem_id)
        return self.sections[key]

    def _picture(self) -> None:
        self.views["map"] = gr.HTML(elem_id="arch-map", js_on_load=CHOOSE_JS, padding=False)
        self.views["part"] = gr.HTML(
            elem_id="arch-part", elem_classes="live", padding=False, js_on_load=SHOW_JS
        )
        self.tensor = gr.HTML(say(NO_TEXT, "hint"), elem_id="arch-tensor", padding=False)
        self.chosen = gr.State(FIRST)
        self.part_chosen: Any = None  # the event
        self.problem = gr.HTML(elem_id="arch-problem")
        with gr.Row(elem_id="arch-suggestions", visible=False) as self.suggestion_row:
            self.suggestions = [
                gr.Button(size="sm", visible=False, min_width=120) for _ in range(MOST_SUGGESTIONS)
            ]
        self.controls.sliders()

    def _costs(self) -> None:
        with self._section("memory", "Memory: does it fit?", "arch-memory-section"):
            self.views["memory"] = gr.HTML(elem_id="arch-memory")
        with self._section("operations", "Operations and times", "arch-compute-section"):
            self.views["compute"] = gr.HTML(elem_id="arch-compute")
            self.load.training()
            self.views["times"] = gr.HTML(elem_id="arch-times")
        with gr.Accordion("Measured here", open=False, elem_id="arch-measured-section"):
            gr.Markdown(measured.ABOUT)
            with gr.Row():
                self.measure = gr.Button(
                    "Build and measure", variant="primary", elem_id="arch-measure"
                )
                self.cancel = gr.Button(
                    "Cancel", variant="stop", visible="hidden", elem_id="arch-cancel"
                )
            self.measured = gr.HTML(elem_id="arch-measured")

    def _compare(self, named: tuple[Preset, ...]) -> None:
        with self._section("compare", "Compare two", "arch-compare-section"):
            with gr.Row():
                self.compare = gr.Dropdown(
                    [(preset.label, preset.key) for preset in named],
                    value=named[1].key,
                    label="Compare with",
                    elem_id="arch-compare-with",
                    scale=3,
                )
                self.pin = gr.Button("Pin this configuration", size="sm", elem_id="arch-pin")
            self.pinned = gr.State(None)
            self.views["compare"] = gr.HTML(elem_id="arch-compare")
            gr.Markdown(GPT3_NOTE, elem_classes="hint")

    def _work(self) -> None:
        with self._section("work", "Try, export, import", "arch-work"):
            self.offer = Offer(self.controls.components)
            with gr.Row():
                with gr.Column(min_width=300):
                    self.format = gr.Radio(
                        list(FORMATS), value="JSON", label="Export as", elem_id="arch-format"
                    )
                    self.views["export"] = gr.Code(
                        language="json", label="The text", elem_id="arch-export",
                        lines=10, interactive=False, buttons=["copy"],
                    )  # fmt: skip
                with gr.Column(min_width=300):
                    self._importing()

    def _importing(self) -> None:
        self.pasted = gr.Textbox(
            label="Import JSON", lines=8, max_lines=14, elem_id="arch-import",
            placeholder='{"emb_dim": 768, …}',
            info="A configuration exported here, or the config.json of a GPT-2 on Hugging Face.",
        )  # fmt: skip
        with gr.Row():
            self.read = gr.Button("Read the text", size="sm", elem_id="arch-read")
            self.upload = gr.UploadButton(
                "Read a file", file_types=[".json"], type="binary", size="sm", elem_id="arch-upload"
            )
        self.imported = gr.Markdown(elem_id="arch-imported")

    @property
    def inputs(self) -> dict[str, Any]:
        """The components that the views follow, by name."""
        named = dict(zip(FIELDS, self.controls.components, strict=True))
        named |= dict(zip(NAMES, self.load.components, strict=True))
        return named | {
            "compare": self.compare, "pinned": self.pinned, "format": self.format,
            "part": self.chosen,
        }  # fmt: skip
