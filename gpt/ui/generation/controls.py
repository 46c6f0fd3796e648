"""The components of the Generation tab and their texts; no computation."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from gpt.checkpoints.precision_record import default_precision, recorded
from gpt.engine import PRECISIONS
from gpt.engine.machine import available_devices
from gpt.serving.registry import Registry
from gpt.ui.parts.numbers import percent, significant

MAX_NEW_TOKENS = 500
DRAW_A_SEED = -1
AUTO = "auto"  # the precision that was measured to be the fastest at little cost
INTRO = (
    "Type the beginning of a text; the model continues it token by token. "
    "Everything is computed here, by the code in `gpt/`, while you watch."
)
STOPPED = '<p class="stats">Stopped: what was written stays.</p>'
UNTRAINED_NOTE = (
    "These weights are random: nothing has been learned yet, so every token is about as likely "
    "as any other and the text is nonsense. This is where the book's chapter 4 ends."
)
STORYTELLER_NOTE = (
    "A small model trained from scratch on public-domain fairy tales. It knows their manner, "
    "not the world: the sentences are real, the facts are not."
)


@dataclass(frozen=True)
class Example:
    """A prompt with settings, one click away."""

    label: str
    prompt: str
    source: str
    max_new_tokens: int = 120
    temperature: float = 0.8
    seed: int = 7
    precision: str = AUTO


BOOK_EXAMPLE = Example(
    "The book's untrained model: “Hello, I am”",
    "Hello, I am",
    "book-124M",
    max_new_tokens=6,
    temperature=0.0,
    seed=DRAW_A_SEED,
    precision="float32",
)
STORY_EXAMPLES = (
    Example("Once upon a time", "Once upon a time there was a king who", "storyteller"),
    Example("The wolf", "The wolf looked at the little girl and said,", "storyteller"),
    Example("A dragon, greedy", "The dragon", "storyteller", 60, 0.0),
)


def model_note(source: str) -> str:
    """One honest line about a model, before anything is generated with it."""
    if source == "storyteller":
        return STORYTELLER_NOTE
    if source == "book-124M" or source.startswith("random"):
        return UNTRAINED_NOTE
    return ""


def precision_note(source: str, precision: str = AUTO, device: str = "cpu") -> str:
    """What the precision costs this model, as `python -m gpt compare` measured it."""
    chosen = default_precision(source, device) if precision == AUTO else precision
    start = f"auto is {chosen} here. " if precision == AUTO else ""
    if chosen == "float32":
        return f"{start}float32 is exact: every other precision is measured against it."
    found = recorded(source)
    if found is None or chosen not in found["precisions"]:
        return f"{start}What {chosen} costs this model was not measured."
    cost, exact = found["precisions"][chosen], found["precisions"]["float32"]
    return (
        f"{start}Measured on {cost['n_tokens']:,} held-out tokens, {chosen} against float32: the "
        f"same best token in {percent(cost['top1_agreement'])}, mean KL divergence "
        f"{cost['mean_kl_nats']:.5f} nats, perplexity {significant(cost['perplexity'])} "
        f"({significant(exact['perplexity'])})."
    )


class GenerationControls:
    """The components of the tab, laid out in the order in which a phone shows them."""

    def __init__(self, registry: Registry, default_source: str, default_device: str) -> None:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=3):
                self._input(registry, default_source)
                self._results()
            with gr.Column(scale=2, min_width=280):
                self._length_setting()
                self._sampling_settings()
                self._model_settings(default_source, default_device)

    def _input(self, registry: Registry, default_source: str) -> None:
        self.model = gr.Dropdown(
            [(source.label, source.name) for source in registry.sources()],
            value=default_source,
            label="Model",
            elem_id="gen-model",
            info="What continues the text.",
        )
        self.note = gr.Markdown(model_note(default_source), elem_id="gen-model-note")
        self.prompt = gr.Textbox(
            STORY_EXAMPLES[0].prompt,
            lines=3,
            label="Prompt",
            elem_id="gen-prompt",
            info="The beginning of the text; Shift + Enter generates.",
        )
        self.run = gr.Button("Generate", variant="primary", elem_id="gen-run")
        self.stop = gr.Button("Stop", variant="stop", visible="hidden", elem_id="gen-stop")
        gr.Markdown("Or run one of these with its settings:", elem_classes="hint")
        with gr.Row(elem_id="gen-examples"):
            self.examples = [
                (example, gr.Button(example.label, size="sm"))
                for example in (*STORY_EXAMPLES, BOOK_EXAMPLE)
            ]

    def _results(self) -> None:
        self.output = gr.Textbox(
            label="Continuation",
            lines=6,
            max_lines=20,
            elem_id="gen-output",
            placeholder="Press Generate, or one of the examples.",
            buttons=["copy"],
        )
        self.stats = gr.HTML(elem_id="gen-stats", padding=False)
        # Not in the statistics, which a late update of the stopped run replaces.
        self.stopped = gr.HTML(STOPPED, visible=False, elem_id="gen-stopped", padding=False)
        self.tokens = gr.HTML(elem_id="gen-tokens", padding=False)
        self.untrained_output = gr.Textbox(
            label="The same prompt and seed, the same model untrained",
            lines=4,
            max_lines=20,
            visible=False,
            elem_id="gen-untrained-output",
        )
        self.untrained_stats = gr.HTML(visible=False, padding=False)

    def _length_setting(self) -> None:
        self.max_new_tokens = gr.Slider(
            1,
            MAX_NEW_TOKENS,
            120,
            step=1,
            label="max_new_tokens",
            elem_id="gen-max-new-tokens",
            info="How many tokens to add at most; a token is about three quarters of a word.",
        )

    def _sampling_settings(self) -> None:
        self.temperature = gr.Slider(
            0,
            2,
            0.8,
            step=0.05,
            label="temperature",
            elem_id="gen-temperature",
            info="0 always takes the best token; 1 follows the model; above 1 is wilder.",
        )
        self.top_k = gr.Number(
            0,
            minimum=0,
            precision=0,
            label="top-k",
            elem_id="gen-top-k",
            info="Choose among the k best tokens only; 0 is off.",
        )
        self.top_p = gr.Slider(
            0.05,
            1,
            1,
            step=0.01,
            label="top-p",
            elem_id="gen-top-p",
            info="Choose among the best tokens that together reach p; 1 is off.",
        )
        # Not empty: gradio shows an empty number as 0 and makes it required of API callers.
        self.seed = gr.Number(
            DRAW_A_SEED,
            minimum=DRAW_A_SEED,
            precision=0,
            label="seed",
            elem_id="gen-seed",
            info="On one machine the same seed gives the same text; -1 draws one and reports it.",
        )

    def _model_settings(self, default_source: str, default_device: str) -> None:
        self.device = gr.Dropdown(
            available_devices(),
            value=default_device,
            label="device",
            elem_id="gen-device",
            info="Where the arithmetic is done; only what this machine has is offered.",
        )
        self.precision = gr.Dropdown(
            [AUTO, *PRECISIONS],
            value=AUTO,
            label="precision",
            elem_id="gen-precision",
            info="How the weights are stored: fewer bytes are read faster and say a little less.",
        )
        self.precision_note = gr.Markdown(
            precision_note(default_source, AUTO, default_device),
            elem_id="gen-precision-note",
            elem_classes="hint",
        )
        self.beside_untrained = gr.Checkbox(
            False,
            label="Beside it, the same model untrained",
            elem_id="gen-untrained",
            info="Runs the same prompt and seed on random weights (seed 123).",
        )
        self.reset = gr.Button("Reset to defaults", size="sm", elem_id="gen-reset")

    def sampling(self) -> list[gr.components.Component]:
        return [
            self.prompt,
            self.max_new_tokens,
            self.device,
            self.temperature,
            self.top_k,
            self.top_p,
            self.seed,
            self.model,
            self.precision,
        ]
