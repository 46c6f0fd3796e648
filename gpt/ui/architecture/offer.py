"""“Use this model”: a random model of this configuration for the pickers of this visitor."""

from __future__ import annotations

from typing import Any

from gpt.accounting import count_parameters
from gpt.accounting.timing import LIMIT_BYTES, build_bytes
from gpt.checkpoints.sources import random_source
from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED
from gpt.ui.architecture.controls import configuration
from gpt.ui.architecture.layout import Layout
from gpt.ui.architecture.operations_section import readable_count
from gpt.ui.parts.numbers import mib_and_mb, whole
from gpt.ui.visit import Shared


def offered(cfg: GPTConfig, seed: Any) -> tuple[str, str]:
    """Label and source of a random model; only these are remembered, never weights.

    Raises ValueError if drawing its float32 weights exceeds the limit or the seed is no whole
    number.
    """
    seed = whole("seed", seed, 0, MAX_SEED)
    needed = build_bytes(cfg)
    if needed > LIMIT_BYTES:
        raise ValueError(
            f"drawing the weights of this model takes {mib_and_mb(needed)} and "
            f"{mib_and_mb(LIMIT_BYTES)} are allowed here: make it smaller to use it."
        )
    total = readable_count(count_parameters(cfg).total)
    label = f"Yours, untrained: {total} parameters, {cfg.n_layers} × {cfg.emb_dim}, seed {seed}"
    return label, random_source(cfg, seed)


def offer_to(page: Layout, shared: Shared) -> None:
    """Wire the button: the pickers of all tabs choose the model, and it writes in Generation."""

    def use(values: dict[Any, Any]) -> dict[Any, Any]:
        label, source = offered(configuration(page.given(values)), values[page.seed])
        said = f"“{label}” is now the model of the other tabs."
        return {page.offered: said, **shared.use_model(values[shared.visitor], label, source)}

    page.use.click(
        use,
        {*page.inputs.values(), page.seed, shared.visitor},
        [page.offered, shared.tabs, *shared.pickers],
        api_visibility="private",
        concurrency_limit=None,
        show_progress="hidden",
    ).success(js="() => gptPage.when('#gen-run', (button) => button.click())")
