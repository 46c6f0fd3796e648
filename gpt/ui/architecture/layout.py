"""The components of the Architecture tab in the order in which a phone shows them."""

from __future__ import annotations

import gradio as gr

from gpt.ui.architecture import measured
from gpt.ui.architecture.controls import FIELDS, Controls
from gpt.ui.architecture.exchange import FORMATS
from gpt.ui.architecture.exercises import EXERCISES
from gpt.ui.architecture.job import NAMES, JobControls
from gpt.ui.architecture.offer import Offer
from gpt.ui.architecture.presets import Preset, not_expressible
from gpt.ui.architecture.views import figures

INTRO = (
    "A GPT is eight settings. Choose a named one or move the controls: every number below follows "
    "from them by a formula that is shown, and the same module is built beside it as a check. "
    "Nothing allocates weights until you ask for it."
)
JOB = "**The job** that memory, operations, times and the drawing below are computed for:"
MOST_SUGGESTIONS = 4


class Layout:
    """All components; `views` are those that follow the controls, by name."""

    def __init__(self, named: tuple[Preset, ...]) -> None:
        first = named[0].cfg
        gr.Markdown(INTRO)
        with gr.Row(elem_classes="arch-main"):
            with gr.Column(scale=2, min_width=300):
                self.controls = Controls(named, first)
            with gr.Column(scale=3, min_width=300, elem_classes="arch-results"):
                self._results()
        self.views["table"] = gr.HTML(elem_id="arch-table")
        gr.Markdown(JOB)
        self.job = JobControls()
        self._closed_sections()
        self._work(named)
        start = figures(self.starting_values(named), named)
        for name, view in self.views.items():
            view.value = start[name]

    def starting_values(self, named: tuple[Preset, ...]) -> dict[str, object]:
        """What the controls say at first, by name."""
        values: dict[str, object] = {name: named[0].cfg[name] for name in FIELDS}
        values |= {name: getattr(self.job, name).value for name in NAMES}
        return {**values, "compare": self.compare.value, "format": self.format.value}

    def _results(self) -> None:
        self.problem = gr.HTML(elem_id="arch-problem")
        with gr.Row(elem_id="arch-suggestions", visible=False) as self.suggestion_row:
            self.suggestions = [
                gr.Button(size="sm", visible=False, min_width=120) for _ in range(MOST_SUGGESTIONS)
            ]
        self.views: dict[str, gr.HTML | gr.Code] = {}
        self.views["total"] = gr.HTML(elem_id="arch-total")
        self.views["tied"] = gr.HTML(elem_id="arch-tied")
        self.views["plot"] = gr.HTML(elem_id="arch-plot")
        self.check = gr.HTML(
            '<p class="hint">Check: not run yet.</p>', elem_id="arch-check", min_height=44
        )

    def _closed_sections(self) -> None:
        with gr.Accordion("Memory: does it fit?", open=False, elem_id="arch-memory-section"):
            self.views["memory"] = gr.HTML(elem_id="arch-memory")
        with gr.Accordion("Operations and times", open=False, elem_id="arch-compute-section"):
            self.views["compute"] = gr.HTML(elem_id="arch-compute")
            self.job.training()
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
        with gr.Accordion("The model as a drawing", open=False, elem_id="arch-drawing-section"):
            self.views["drawing"] = gr.HTML(elem_id="arch-drawing")

    def _work(self, named: tuple[Preset, ...]) -> None:
        with gr.Accordion("Compare two", open=False, elem_id="arch-compare-section"):
            with gr.Row():
                self.compare = gr.Dropdown(
                    [(preset.label, preset.key) for preset in named],
                    value=named[1].key,
                    label="compare with",
                    elem_id="arch-compare-with",
                    scale=3,
                )
                self.pin = gr.Button("Pin the present one", size="sm", elem_id="arch-pin")
            self.pinned = gr.State(None)
            self.views["compare"] = gr.HTML(elem_id="arch-compare")
        with gr.Accordion("Use it, take it along, bring one", open=False, elem_id="arch-work"):
            self.offer = Offer(self.controls.components)
            with gr.Row():
                with gr.Column(min_width=300):
                    self._exporting()
                with gr.Column(min_width=300):
                    self._importing()
        with gr.Accordion("The book's exercises 4.1 and 4.2", open=False, elem_id="arch-exercises"):
            with gr.Row():
                self.exercises = [
                    gr.Button(each.label, size="sm", elem_id=f"arch-exercise-{each.key}")
                    for each in EXERCISES
                ]
            self.answer = gr.HTML("Each sets the controls and answers.", elem_id="arch-answer")
        gr.Markdown(_gpt3_note(), elem_classes="hint")

    def _exporting(self) -> None:
        self.format = gr.Radio(
            list(FORMATS), value="JSON", label="take it along as", elem_id="arch-format"
        )
        self.views["export"] = gr.Code(
            language="json", label="copy or download", elem_id="arch-export", lines=10,
            interactive=False,
        )  # fmt: skip

    def _importing(self) -> None:
        self.pasted = gr.Textbox(
            label="bring one: JSON", lines=8, max_lines=14, elem_id="arch-import",
            placeholder='{"emb_dim": 768, …}',
            info="A configuration exported here, or the config.json of a GPT-2 on Hugging Face.",
        )  # fmt: skip
        with gr.Row():
            self.read = gr.Button("Read the text", size="sm", elem_id="arch-read")
            self.upload = gr.UploadButton(
                "Read a file", file_types=[".json"], type="binary", size="sm", elem_id="arch-upload"
            )
        self.imported = gr.Markdown(elem_id="arch-imported")


def _gpt3_note() -> str:
    reasons = "; ".join(f"{name}: {why}" for name, why in not_expressible())
    return (
        "GPT-3 sizes are those of table 2.1 of Brown et al. 2020 with GPT-2's vocabulary, biases "
        f"and tied head. Not expressible here, where heads divide the width: {reasons}."
    )
