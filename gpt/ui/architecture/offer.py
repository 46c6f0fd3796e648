"""“Use this model”: a random model of this configuration for the pickers of this visitor."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.accounting import count_parameters
from gpt.accounting.timing import LIMIT_BYTES, build_bytes
from gpt.checkpoints.sources import random_source
from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED
from gpt.ui.architecture.controls import FIELDS, configuration
from gpt.ui.architecture.operations_section import readable_count
from gpt.ui.parts.errors import one_line_errors
from gpt.ui.parts.numbers import mib_and_mb
from gpt.ui.visit import Shared


def offered(cfg: GPTConfig, seed: Any) -> tuple[str, str]:
    """Label and source of a random model; only these are remembered, never weights.

    Raises ValueError if drawing its float32 weights exceeds the limit or the seed is no whole
    number.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, float)) or seed != seed // 1:
        raise ValueError(f"seed is {seed!r}: use a whole number from 0 to {MAX_SEED:,}.")
    needed = build_bytes(cfg)
    if needed > LIMIT_BYTES:
        raise ValueError(
            f"drawing the weights of this model takes {mib_and_mb(needed)} and "
            f"{mib_and_mb(LIMIT_BYTES)} are allowed here: make it smaller to use it."
        )
    total = readable_count(count_parameters(cfg).total)
    label = f"Yours, untrained: {total} parameters, {cfg.n_layers} × {cfg.emb_dim}, seed {seed:.0f}"
    return label, random_source(cfg, int(seed))


class Offer:
    """The button and the seed; `offer_to` connects them to what the tabs share."""

    def __init__(self, fields: list[Any]) -> None:
        self._fields = fields
        with gr.Row():
            self.seed = gr.Number(
                123, precision=0, minimum=0, maximum=MAX_SEED, label="Seed",
                info="Same seed, same weights. 123 is the book's.", elem_id="arch-seed",
            )  # fmt: skip
            self.use = gr.Button("Use this model", variant="primary", elem_id="arch-use")
        self.message = gr.Markdown(elem_id="arch-use-message")

    def offer_to(self, shared: Shared) -> None:
        """Wire the button: the pickers of all tabs choose the model, and Generation is shown."""

        @one_line_errors
        def use(values: dict[Any, Any]) -> dict[Any, Any]:
            fields = [values[component] for component in self._fields]
            cfg = configuration(dict(zip(FIELDS, fields, strict=True)))
            label, source = offered(cfg, values[self.seed])
            said = f"“{label}” is now the model of the other tabs."
            return {self.message: said, **shared.use_model(values[shared.visitor], label, source)}

        self.use.click(
            use,
            {*self._fields, self.seed, shared.visitor},
            [self.message, shared.tabs, *shared.pickers],
            api_visibility="private",
            concurrency_limit=None,
            show_progress="hidden",
        )
