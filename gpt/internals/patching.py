"""Activation patching: which places inside carry the difference between two prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch

from gpt.internals.run import Run, batches, logits_with, pasted, read_prompt
from gpt.model import GPTModel
from gpt.trace import Edit

Place = tuple[int, int]  # layer, position


@dataclass(frozen=True)
class Contrast:
    """Two prompts of equal length that call for two answers, and a pass over each.

    `first` is the pass that the patches come from, `second` the one that is patched.
    """

    first: Run
    second: Run
    answers: tuple[int, int]  # the token that each prompt calls for
    leads: tuple[float, float]  # of the first answer's logit at the end of each prompt, unpatched

    def recovered(self, lead: float) -> float:
        """0 for the second prompt's own lead, 1 for the first's. Source: Wang et al. 2022."""
        there, here = self.leads
        return (lead - here) / (there - here)


def read_contrast(
    model: GPTModel,
    first: list[int],
    second: list[int],
    between: Callable[[], object] | None = None,
) -> Contrast:
    """Two prompts whose last difference is the answers, read up to there.

    "The king took his" and "The queen took her": the answers are " his" and " her", and the
    prompts end before them. What follows the answers is left out. `between` is that of the runs.
    Raises ValueError if the prompts differ in length, or in fewer than two places.
    """
    if len(first) != len(second):
        raise ValueError(
            f"the prompts have {len(first)} and {len(second)} tokens: use two of the same length."
        )
    differ = [at for at, pair in enumerate(zip(first, second, strict=True)) if len({*pair}) == 2]
    if len(differ) < 2:
        raise ValueError(
            f"the prompts differ in {len(differ)} tokens: use two that differ in a word and, "
            "later, in the answer to it."
        )
    end = differ[-1]
    runs = [read_prompt(model, ids[:end], between) for ids in (first, second)]
    answers = first[end], second[end]
    there, here = (lead_of(run.logits[-1], answers) for run in runs)
    if there == here:
        raise ValueError("the model answers both prompts alike: there is nothing to recover.")
    return Contrast(*runs, answers, (there, here))


def patch_sweep(
    model: GPTModel, contrast: Contrast, head: int | None = None
) -> Iterator[tuple[int, list[float]]]:
    """(layer, the part of the lead recovered by each of its next positions), a batch at a time.

    Layers are 0 to n_layers for the stream, and 0 to n_layers - 1 with `head`.
    Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", causal tracing;
    the measure is Wang et al. 2022, "Interpretability in the Wild".
    """
    tokens = len(contrast.second.ids)
    for layer in range(model.cfg.n_layers + (head is None)):
        for rows in batches(tokens, tokens):
            places = [[(layer, at)] for at in rows]
            yield layer, [contrast.recovered(x) for x in leads_with(model, contrast, places, head)]


def leads_with(
    model: GPTModel, contrast: Contrast, rows: list[Collection[Place]], head: int | None = None
) -> list[float]:
    """The first answer's lead in the second prompt with these places as in the first.

    One pass, with a row of the batch for each collection of places. A place is the residual stream
    before a block (layer n_layers: after the last one), or, with `head`, what that head wrote.
    """
    own = [] if head is None else [head]  # the axis of heads is there only for what they wrote
    edits: dict[str, Edit] = {}
    for layer in sorted({layer for places in rows for layer, _ in places}):
        at = [
            (row, *own, at) for row, places in enumerate(rows) for la, at in places if la == layer
        ]
        name = "att.heads" if head is not None else "resid_in"
        if layer == model.cfg.n_layers:
            layer, name = layer - 1, "resid_out"
        edits[f"trf_blocks.{layer}.{name}"] = pasted(contrast.first.layer(layer, name), at)
    logits = logits_with(model, contrast.second, edits, len(rows))
    return [lead_of(row, contrast.answers) for row in logits]


def lead_of(logits: torch.Tensor, answers: tuple[int, int]) -> float:
    first, second = answers
    return (logits[first].double() - logits[second].double()).item()
