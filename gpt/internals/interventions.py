"""Passes in which something is changed: ablation, occlusion, activation patching.

What changes is one part of a pass over the prompt, and read is what that does to the logits. The
gradient, which asks the same of a change too small to see, stands beside occlusion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from gpt.internals.traced_pass import Pause, TracedPass, read_prompt
from gpt.model import GPTModel
from gpt.trace import Edit

TOKENS_AT_ONCE = 256  # of all rows of a batch, so that no block keeps others waiting for long
MODES = ("zero", "mean")
# What is ablated: "head", "ff" (a feed-forward) or "layer" (both updates); its layer; its head.
Part = tuple[str, int, int]
Places = Sequence[tuple[int, ...]]  # each in a row of its own of a batch


def pasted(source: torch.Tensor, places: Sequence[tuple[Any, ...]]) -> Edit:
    """An edit of a batch: at each place (row, *rest) the value becomes `source[rest]`."""

    def edit(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        for row, *place in places:
            value[(row, *place)] = source[tuple(place)]
        return value

    return edit


@torch.no_grad()
def patched(
    model: GPTModel, run: TracedPass, name: str, source: torch.Tensor, places: Places, tokens: int
) -> Iterator[torch.Tensor]:
    """Logits (rows, vocab) after the first `tokens` ids, a batch at a time, a row a place.

    In each row the tensor `name` of the pass has, at that one place, the value of `source`.
    """
    at_once = max(1, TOKENS_AT_ONCE // tokens)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        edit = pasted(source, [(row, *place) for row, place in enumerate(some)])
        trace = run.what_if({name: edit})
        yield model(run.batch(len(some), tokens), trace=trace, last_only=True)[:, -1]


def edits_for(run: TracedPass, part: Part, mode: str) -> dict[str, Edit]:
    """Edits of a traced pass that replace what `part` writes at every position.

    By zeros, or with the mode "mean" by the mean of what it wrote there and before: the mean over
    the whole prompt would show a position what comes later.
    Raises ValueError if there is no such part or mode.
    """
    kind, layer, head = part
    for name, at, count in ("layer", layer, run.cfg.n_layers), ("head", head, run.cfg.n_heads):
        if not 0 <= at < count:
            raise ValueError(f"{name} {at} does not exist: use 0 to {count - 1}.")
    parts = {"head": ["att.heads"], "ff": ["ff_out"], "layer": ["att_out", "ff_out"]}
    if kind not in parts:
        raise ValueError(f"part is {kind!r}: use head, ff or layer.")
    place = (slice(None), head) if kind == "head" else (slice(None),)  # in every row
    names = [f"trf_blocks.{layer}.{name}" for name in parts[kind]]
    return {name: pasted(_stand_in(run.trace[name][0], mode), [place]) for name in names}


@torch.no_grad()
def ablate(model: GPTModel, run: TracedPass, position: int, part: Part, mode: str) -> torch.Tensor:
    """Logits (vocab,) at a position of a pass without `part`."""
    trace = run.what_if(edits_for(run, part, mode))
    return model(run.batch(), trace=trace)[0, position]


def sweep_heads(
    model: GPTModel, run: TracedPass, position: int, token_id: int, mode: str
) -> Iterator[tuple[int, list[float]]]:
    """(layer, change of the token's logit without each of its next heads), a batch at a time."""
    for layer in range(run.cfg.n_layers):
        name = f"trf_blocks.{layer}.att.heads"
        stand_ins = _stand_in(run.trace[name][0, :, : position + 1], mode)  # (h, t, e)
        heads = [(head,) for head in range(run.cfg.n_heads)]  # a row goes without one of them
        for logits in patched(model, run, name, stand_ins, heads, position + 1):
            yield layer, (logits - run.logits[position])[:, token_id].tolist()


def _stand_in(values: torch.Tensor, mode: str) -> torch.Tensor:
    """Zeros, or the running mean over positions 0 .. i, for values (..., t, n)."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: use {' or '.join(MODES)}.")
    if mode == "zero":
        return torch.zeros_like(values)
    counts = torch.arange(1, values.shape[-2] + 1, device=values.device)
    return values.cumsum(dim=-2) / counts[:, None]


def gradient_x_input(
    model: GPTModel, run: TracedPass, position: int, token_id: int
) -> torch.Tensor:
    """(position + 1,): the logit's gradient by each token embedding, times that embedding.

    Position embeddings are left out of the product, as they are kept by `occlusion`. On the way
    back `run.trace.between` is called after each block too.
    Raises ValueError for a model below float32, whose packed layers pass no gradient on.
    Source: Shrikumar et al. 2016, "Not Just a Black Box".
    """
    if not model.pos_emb.weight.requires_grad:
        raise ValueError(
            "gradients need weights in float32 that are not frozen: load such a model."
        )
    embedded = run.trace["tok_emb"][:, : position + 1].clone()

    def pausing_on_the_way_back(value: torch.Tensor) -> torch.Tensor:
        if between := run.trace.between:
            value.register_hook(lambda _: (between(), None)[1])
        return value

    ends = [f"trf_blocks.{i}.resid_out" for i in range(model.cfg.n_layers)]
    with torch.enable_grad():
        embedded.requires_grad_()
        edits = {"tok_emb": lambda _: embedded, **dict.fromkeys(ends, pausing_on_the_way_back)}
        what_if = run.what_if(edits)
        logits = model(run.batch(tokens=position + 1), trace=what_if, last_only=True)
        (gradient,) = torch.autograd.grad(logits[0, -1, token_id], embedded)
    return (gradient * embedded).sum(-1)[0].detach()


@dataclass(frozen=True)
class Occluded:
    """The logit and probability of the token with some prompt tokens' embeddings zeroed."""

    logit: float
    probability: float


def occlusion(model: GPTModel, run: TracedPass, position: int, token_id: int) -> Iterator[Occluded]:
    """With nothing occluded first, then with token i occluded, for i from 0 to `position`.

    An occluded token's embedding is a vector of zeros; its position embedding stays.
    """
    nothing = torch.zeros_like(run.trace["tok_emb"][0])  # (t, d)
    tokens = [(i,) for i in range(position + 1)]
    occluded = patched(model, run, "tok_emb", nothing, tokens, position + 1)
    for logits in chain([run.logits[position]], chain.from_iterable(occluded)):  # (vocab,) each
        probability = logits.double().softmax(-1)[token_id].item()
        yield Occluded(logits[token_id].item(), probability)


@dataclass(frozen=True)
class Contrast:
    """Two prompts of equal length that call for two answers, and a pass over each.

    `first` is the pass that the patches come from, `second` the one that is patched.
    """

    first: TracedPass
    second: TracedPass
    answers: tuple[int, int]  # the token that each prompt calls for
    leads: tuple[float, float]  # of the first answer's logit at the end of each prompt, unpatched

    def recovered(self, lead: float) -> float:
        """0 for the second prompt's own lead, 1 for the first's. Source: Wang et al. 2022."""
        there, here = self.leads
        return (lead - here) / (there - here)


def read_contrast(
    model: GPTModel, first: list[int], second: list[int], between: Pause | None = None
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

    By the second prompt's pass with one position as in the first: of the residual stream before
    a block (layer n_layers: after the last one), or, with `head`, of what that head wrote.
    Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", causal tracing;
    the measure is Wang et al. 2022, "Interpretability in the Wild".
    """
    tokens, n_layers = len(contrast.second.ids), model.cfg.n_layers
    names = [f"trf_blocks.{layer}.resid_in" for layer in range(n_layers)]
    names.append(f"trf_blocks.{n_layers - 1}.resid_out")
    places: Places = [(at,) for at in range(tokens)]
    if head is not None:
        names = [f"trf_blocks.{layer}.att.heads" for layer in range(n_layers)]
        places = [(head, at) for at in range(tokens)]
    for layer, name in enumerate(names):
        source = contrast.first.trace[name][0]
        for logits in patched(model, contrast.second, name, source, places, tokens):
            yield layer, [contrast.recovered(lead_of(row, contrast.answers)) for row in logits]


def lead_of(logits: torch.Tensor, answers: tuple[int, int]) -> float:
    first, second = answers
    return (logits[first].double() - logits[second].double()).item()
