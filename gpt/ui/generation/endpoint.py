"""The endpoint /generate: a prompt and settings in, the growing text and its statistics out."""

# No `from __future__ import annotations`: gr.api reads the return type as an object.
import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import gradio as gr

from gpt.ui.generation.runs import Runs
from gpt.ui.generation.settings import AUTO, DEFAULTS
from gpt.ui.generation.wish import wish
from gpt.ui.visit import steering_of


def endpoint(runs: Runs, default_source: str) -> Callable[..., Any]:
    """The handler of /generate; its names, defaults and docstring are public."""

    async def generate(
        prompt: str,
        max_new_tokens: int = DEFAULTS["max_new_tokens"],
        device: str = "cpu",
        temperature: float = DEFAULTS["temperature"],
        top_k: int | None = DEFAULTS["top_k"],
        top_p: float = DEFAULTS["top_p"],
        seed: int | None = DEFAULTS["seed"],
        model: str = default_source,
        precision: str = AUTO,
        min_p: float = DEFAULTS["min_p"],
        stop: str = DEFAULTS["stop"],
        steering: list[list[int]] | None = None,
        request: gr.Request = None,
    ) -> tuple[str, str]:
        """Continues a prompt: streams the text written so far, without the prompt, and statistics.

        Both are texts that grow; the last pair is the result. 0 turns top_k and min_p off, 1 top_p;
        seed -1 draws one, which the statistics name. The token that completes the text `stop` is
        the last. `steering` has pairs of a position, counted in new tokens from 0, and the id of
        the token that comes there whatever is drawn.
        """
        given = locals()
        values = {name: given[name] for name in DEFAULTS}
        chosen = steering_of(steering or [])
        asked = await asyncio.to_thread(
            wish, runs.registry, prompt, values, model, device, precision, chosen
        )
        with runs.call(request.session_hash if request else None) as claim:
            # Nothing goes on with it: its keys and values are not kept.
            async with aclosing(runs.write(asked, claim, known=None)) as updates:
                async for run in updates:
                    yield run.written.text, run.written.told()

    return generate
