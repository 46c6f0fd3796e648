"""The components of the Train tab in the order in which a phone shows them."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from gpt.ui.parts.chips import ROVING_JS
from gpt.ui.parts.sentences import say
from gpt.ui.train.settings import EXPERIMENTS, SETTINGS, TEMPERATURE
from gpt.ui.train.views import EMPTY, NO_STEP

INTRODUCTION = (
    "Train a GPT from random weights, with the code that trained the storyteller, and watch it "
    "learn. What comes out is a model like any other: it writes in Generation and opens in "
    "Internals. It is yours alone and is kept for an hour, or until you reload the page."
)
LINE_HINT = "Bluer: the model gave the true token more probability. Choose one for its numbers."
SPLIT_HINT = "Choose a token for its number and its bytes."


class Layout:
    """Every component of the tab, by name; `settings` by the name of the setting."""

    def __init__(self) -> None:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._choices()
            with gr.Column(scale=3, min_width=320, elem_id="train-main"):
                self._buttons()
                self._results()
        self._below()
        self.controls = {**self.settings, "pasted": self.pasted, "file": self.file}
        self.inputs = {*self.controls.values()}
        self.streamed = [self.progress, self.loss, self.sample, self.line, self.step, self.numbers]
        self.afterwards = [self.write, self.inside, self.early, self.download]
        self.buttons = [self.run, self.pause, self.stop, *self.experiments, self.whose]
        self.ended = [*self.buttons, *self.afterwards, self.progress]

    def _choices(self) -> None:
        self.settings: dict[str, Any] = {}
        for name in ("text", "vocabulary", "pairs", "size", "budget"):
            self.settings[name] = SETTINGS[name](elem_id=f"train-{name}")
            if name == "text":
                self._own()
        self.estimate = gr.HTML(elem_id="train-estimate", padding=False)
        self.fold = gr.Accordion("The model and its training, in numbers", open=False)
        with self.fold, gr.Row():
            for name in [name for name in SETTINGS if name not in self.settings]:
                self.settings[name] = SETTINGS[name](elem_id=f"train-{name}")
        self.reset = gr.Button("Reset to defaults", size="sm", elem_id="train-reset")

    def _own(self) -> None:
        self.pasted = gr.Textbox(
            label="Your text", lines=4, max_lines=8, visible=False, elem_id="train-pasted",
            placeholder="Paste at least a page, or upload a file: the more the better.",
        )  # fmt: skip
        self.file = gr.File(
            label="Or a plain text file, up to 2 MiB",
            file_count="single", type="filepath", visible=False, elem_id="train-file", height=150,
        )  # fmt: skip
        self.problem = gr.HTML(elem_id="train-text-problem", padding=False, visible=False)

    def _buttons(self) -> None:
        with gr.Row(elem_id="train-buttons"):
            self.run = gr.Button("Train", variant="primary", elem_id="train-run", min_width=80)
            self.pause = gr.Button("Pause", interactive=False, elem_id="train-pause", min_width=80)
            self.one = gr.Button("Step", elem_id="train-step", min_width=80)
            # What it tells is seen below.
            self.one.click(
                js="() => { const fold = document.querySelector('#train-one-step > button'); "
                "if (!fold.classList.contains('open')) fold.click(); "
                "fold.scrollIntoView({block: 'center'}); }"
            )
            self.stop = gr.Button(
                "Stop", variant="stop", interactive=False, elem_id="train-stop", min_width=80
            )

    def _results(self) -> None:
        self.progress = gr.HTML(EMPTY, elem_id="train-progress", padding=False)
        self.loss = gr.HTML(elem_id="train-loss", padding=False)
        self.sample = gr.HTML(
            say("What the model writes stands here: noise at first, then words.", "hint"),
            elem_id="train-sample", padding=False,
            html_template="<h3>A sample, always from the same prompt and seed, at temperature "
            f"{TEMPERATURE}</h3>${{value}}",
        )  # fmt: skip
        with gr.Row(elem_id="train-afterwards"):
            off = {"interactive": False, "min_width": 100}
            self.write = gr.Button("Write with it", elem_id="train-write", **off)
            self.inside = gr.Button("Look inside", elem_id="train-inside", **off)
            self.early = gr.Button("Early and late", elem_id="train-early", **off)
            self.download = gr.DownloadButton("Take it along", elem_id="train-download", **off)
            share = gr.Button("Share", elem_id="train-share", min_width=100)
            # The link trains it again: nothing is uploaded.
            share.click(
                js="() => { document.querySelector('#copy-link').click(); "
                "gptPage.when('#page-note .note', (to) => to.scrollIntoView({block: 'center'})); }"
            )
        self.whose = gr.HTML(elem_id="train-whose", padding=False)

    def _below(self) -> None:
        with gr.Accordion("What the text is split into", open=True):
            self.split = self._chip_row("train-split", "", SPLIT_HINT)
        with gr.Accordion("The true next tokens, by their probability", open=True):
            empty = say("The first held-out tokens stand here once a run has begun.", "hint")
            self.line = self._chip_row("train-line", empty, LINE_HINT)
        with gr.Accordion("What happens in one step", open=False, elem_id="train-one-step"):
            self.step = gr.HTML(NO_STEP, elem_id="train-peek", padding=False)
        with gr.Accordion("Experiments", open=True, elem_id="train-experiments"):
            gr.Markdown(
                "Each trains with the settings above but for one, with as many steps as were "
                "planned for the run before, whose curve stays in grey.", elem_classes="hint",
            )  # fmt: skip
            with gr.Row():
                self.experiments = {
                    gr.Button(one.label, size="sm", min_width=140, scale=0): one
                    for one in EXPERIMENTS
                }
            for button in self.experiments:  # what it does is seen above
                button.click(js="() => document.querySelector('#train-buttons').scrollIntoView()")
        with gr.Accordion("The numbers of the curve", open=False):
            self.axis = gr.Radio(
                [("seconds of training", "seconds"), ("tokens read", "tokens")], value="seconds",
                label="Draw the curve over", elem_id="train-axis",
            )  # fmt: skip
            self.numbers = gr.HTML(elem_id="train-numbers", padding=False)

    @staticmethod
    def _chip_row(elem_id: str, value: str, hint: str) -> gr.HTML:
        """A row of chips, and the line below it that tells of the one chosen."""
        panel = f"{elem_id}-panel"
        js = f"{ROVING_JS}gptPage.tell(element, {panel!r});"
        row = gr.HTML(value, elem_id=elem_id, padding=False, js_on_load=js)
        told = f'<p class="chip-panel" aria-live="polite">{hint}</p>'
        gr.HTML(told, elem_id=panel, padding=False)
        return row

    def values(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """The settings by name in what an event has read of `inputs`."""
        return {name: data[component] for name, component in self.controls.items()}
