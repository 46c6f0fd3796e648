"""The components of the Architecture tab in the order in which a phone shows them."""

from collections.abc import Collection, Mapping
from typing import Any

import gradio as gr

from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED
from gpt.ui.architecture import controls, measured, parameter_table
from gpt.ui.architecture.costs import memory_html, operations_html, side_by_side_html, times_html
from gpt.ui.architecture.exchange import EXAMPLE, FORMATS, from_json
from gpt.ui.architecture.model_map import FIRST, NO_TEXT, map_html, part_html, source_html
from gpt.ui.architecture.presets import CUSTOM, GPT3_NOTE, Presets
from gpt.ui.parts.chips import CHOOSE_JS
from gpt.ui.parts.sentences import say
from gpt.ui.visit import take_any

WORKLOAD = "Workload: batch, tokens, number format and machine"
PINNED = "the pinned one"


class Layout:
    """All components: `inputs` by name are what the `views` follow; `sections` have a key each."""

    def __init__(self, named: Presets) -> None:
        self.named = named
        self.views: dict[str, gr.HTML | gr.Code] = {}
        self.sections: dict[gr.Accordion, str] = {}
        # Shared by handlers, changed in place.
        self.opened, self.cancelled = gr.State({""}), gr.State(set())
        self.inputs: dict[str, Any] = {"part": gr.State(FIRST)}
        self.choices = [(label, key) for key, (label, _) in named.items()]
        with gr.Row(elem_classes="arch-head"):
            self.preset = gr.Dropdown(
                [*self.choices, ("your own sizes", CUSTOM)], value="gpt2-small", label="Preset",
                elem_id="arch-preset",
            )  # fmt: skip
            self.views["total"] = gr.HTML(elem_id="arch-total", elem_classes="live")
        self._picture()
        self._exercises()
        with gr.Accordion("More settings", open=False, elem_id="arch-more"):
            self._controls(*controls.BOXES, "drop_rate")
            self.wrong_size = gr.HTML(elem_id="arch-wrong-size", padding=False)
            self._controls("qkv_bias", "tie_weights")
            self.reset = gr.Button("Reset to the book's 124M", size="sm", elem_id="arch-reset")
        self.check = gr.HTML(
            say("Check: not run yet.", "hint"), elem_id="arch-check", min_height=44
        )
        with self._section("numbers", "Every part in numbers", "arch-numbers"):
            for name in ("tied", "plot", "table"):
                self.views[name] = gr.HTML(elem_id=f"arch-{name}")
        with self._section("code", "The model as code", "arch-code"):
            self.views["code"] = gr.HTML()
        with gr.Accordion(WORKLOAD, open=False, elem_id="arch-workload"):
            gr.Markdown("Memory, operations, times and the shapes of the parts are for:")
            self._controls("batch", "tokens", "precision", "device")
        self.wrong_load = gr.HTML(elem_id="arch-wrong-load", padding=False)
        self._costs()
        self._compare()
        self._work()
        self.fields = {self.inputs[name] for name in controls.FIELDS}
        at_first = {name: box.value for name, box in self.inputs.items()}
        for view, text in self.shown(at_first, [""]).items():
            view.value = text

    def given(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """What a handler got, by the name of the input."""
        return {name: values[box] for name, box in self.inputs.items() if box in values}

    def setting(self, cfg: GPTConfig) -> dict[Any, Any]:
        """Updates of the `fields` that show `cfg`."""
        return {self.inputs[name]: update for name, update in controls.field_updates(cfg).items()}

    def shown(self, given: Mapping[str, Any], sections: Collection[str]) -> dict[Any, str]:
        """The texts of the views of `sections`, as `figures` computes and refuses them."""
        return {self.views[name]: t for name, t in figures(given, self.named, sections).items()}

    def _controls(self, *names: str) -> None:
        with gr.Row():
            self.inputs |= {name: controls.control(name) for name in names}

    def _section(self, key: str, title: str, elem_id: str) -> gr.Accordion:
        accordion = gr.Accordion(title, open=False, elem_id=elem_id)
        self.sections[accordion] = key
        return accordion

    def _picture(self) -> None:
        choose = CHOOSE_JS.replace("KEY", "data-part")
        self.views["map"] = gr.HTML(elem_id="arch-map", js_on_load=choose, padding=False)
        self._controls(*controls.SLIDERS)
        self.problem = gr.HTML(
            elem_id="arch-problem", js_on_load=CHOOSE_JS.replace("KEY", "data-field")
        )
        self.views["part"] = gr.HTML(elem_id="arch-part", elem_classes="live", padding=False)
        self.tensor = gr.HTML(say(NO_TEXT, "hint"), elem_id="arch-tensor", padding=False)

    def _exercises(self) -> None:
        with gr.Accordion("The book's exercises 4.1 and 4.2", open=False, elem_id="arch-exercises"):
            with gr.Row():
                self.exercises = {
                    gr.Button(label, size="sm", elem_id=f"arch-exercise-{key}"): task
                    for key, label, *task in parameter_table.EXERCISES
                }
            self.answer = gr.HTML("Each sets the controls and answers.", elem_id="arch-answer")

    def _costs(self) -> None:
        with self._section("memory", "Memory: does it fit?", "arch-memory-section"):
            self.views["memory"] = gr.HTML(elem_id="arch-memory")
        with self._section("operations", "Operations and times", "arch-operations-section"):
            self.views["operations"] = gr.HTML(elem_id="arch-operations")
            self._controls("train_tokens", "utilisation")
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

    def _compare(self) -> None:
        with self._section("compare", "Compare two", "arch-compare-section"):
            with gr.Row():
                self.inputs["compare"] = gr.Dropdown(
                    self.choices, value="gpt2-medium", label="Compare with",
                    elem_id="arch-compare-with", scale=3,
                )  # fmt: skip
                take_any(self.inputs["compare"])
                self.pin = gr.Button("Pin this configuration", size="sm", elem_id="arch-pin")
            self.views["compare"] = gr.HTML(elem_id="arch-compare")
            gr.HTML(say(GPT3_NOTE, "hint"))

    def _work(self) -> None:
        with self._section("work", "Try, export, import", "arch-work"):
            with gr.Row():
                self.seed = gr.Number(
                    123, precision=0, minimum=0, maximum=MAX_SEED, label="Seed",
                    info="Same seed, same weights. 123 is the book's.", elem_id="arch-seed",
                )  # fmt: skip
                self.use = gr.Button("Use this model", variant="primary", elem_id="arch-use")
            with gr.Row():
                with gr.Column(min_width=300):
                    self.inputs["format"] = gr.Radio(
                        list(FORMATS), value="JSON", label="Export as", elem_id="arch-format"
                    )
                    self.views["export"] = gr.Code(
                        language="json", label="The text", elem_id="arch-export",
                        lines=10, interactive=False, buttons=["copy"],
                    )  # fmt: skip
                with gr.Column(min_width=300):
                    self.pasted = gr.Textbox(
                        label="Import JSON", lines=8, max_lines=14, elem_id="arch-import",
                        placeholder=EXAMPLE, info="A configuration exported here, "
                        "or the config.json of a GPT-2 on Hugging Face.",
                    )  # fmt: skip
                    with gr.Row():
                        self.read = gr.Button("Read the text", size="sm", elem_id="arch-read")
                        self.upload = gr.UploadButton(
                            "Read a file", file_types=[".json"], type="binary", size="sm",
                            elem_id="arch-upload",
                        )  # fmt: skip
                    self.imported = gr.HTML("", elem_id="arch-imported", padding=False)


def figures(values: Mapping[str, Any], named: Presets, sections: Collection[str]) -> dict[str, str]:
    """The texts of the views of `sections` by name, from plain values of the `inputs` by name.

    Section "" is always in sight. `compare` is a preset's key, or a configuration as `to_json`
    writes it; `format` one of the export's formats, `part` one of the picture's. A few
    milliseconds; nothing is allocated.
    Raises ValueError, in one line, if the configuration or the workload is impossible.
    """
    cfg, name = controls.configuration(values), values["compare"]
    load, part = controls.workload_of(values, cfg), values["part"]
    passed = cfg, load.batch, load.tokens
    found: dict[str, str] = {}
    if "" in sections:
        found["total"] = parameter_table.total_html(cfg)
        found["map"], found["part"] = map_html(*passed, part), part_html(*passed, part)
    if "numbers" in sections:
        found["tied"] = parameter_table.tied_html(cfg)
        found["plot"] = parameter_table.parameters_bar(cfg)
        found["table"] = parameter_table.parameters_table(cfg)
    if "code" in sections:
        found["code"] = source_html(*passed)
    if "memory" in sections:
        found["memory"] = memory_html(cfg, load)
    if "operations" in sections:
        found["operations"], found["times"] = operations_html(cfg, load), times_html(cfg, load)
    if "compare" in sections:
        if name in named:
            _, other = named[name]
        else:
            (other, _), name = from_json(name), PINNED
        found["compare"] = side_by_side_html(cfg, other, name, load)
    if "work" in sections:
        write, _ = FORMATS[values["format"]]
        found["export"] = write(cfg)
    return found
