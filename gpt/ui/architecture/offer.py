"""“Use this model”: a random model of this configuration for this visitor's pickers."""

from __future__ import annotations

from collections.abc import Sequence
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

MOST_OFFERED = 8


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


def remembered(added: Sequence[tuple[str, str]], new: tuple[str, str]) -> list[tuple[str, str]]:
    """`added` with `new` last, without repeats, the newest MOST_OFFERED."""
    rest = [pair for pair in (tuple(pair) for pair in added) if pair != new]
    return [*rest, new][-MOST_OFFERED:]


class Offer:
    """The button and the seed; `offer_to` connects them to the pickers of other tabs."""

    def __init__(self, fields: list[Any]) -> None:
        self._fields = fields
        with gr.Row():
            self.seed = gr.Number(
                123, precision=0, minimum=0, maximum=MAX_SEED, label="Seed",
                info="Same seed, same weights. 123 is the book's.", elem_id="arch-seed",
            )  # fmt: skip
            self.use = gr.Button(
                "Use this model in the other tabs", variant="primary", elem_id="arch-use"
            )
        self.message = gr.Markdown(elem_id="arch-use-message")
        self._added = gr.State([])

    def offer_to(self, pickers: list[gr.Dropdown]) -> None:
        """Wire the button: this visitor's `pickers` gain the random model and select it."""
        first = [list(picker.choices) for picker in pickers]

        @one_line_errors
        def use(*values: Any) -> list[Any]:
            *fields, seed, added = values
            cfg = configuration(dict(zip(FIELDS, fields, strict=True)))
            new = offered(cfg, seed)
            added = remembered(added, new)
            updates = [gr.update(choices=[*base, *added], value=new[1]) for base in first]
            said = f"“{new[0]}” is now chosen as the model of the other tabs."
            return [added, said, *updates]

        self.use.click(
            use,
            [*self._fields, self.seed, self._added],
            [self._added, self.message, *pickers],
            api_visibility="private",
            concurrency_limit=None,
            show_progress="hidden",
        )
