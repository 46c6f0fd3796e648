"""What if: a part silenced, one prompt's inside in another's, and two predictions compared."""

import math
from dataclasses import replace
from typing import Any

import torch

from gpt.checkpoints.sources import EARLY, is_kept, path_of, random_source
from gpt.internals import interventions
from gpt.internals.distribution import Comparison, compare_predictions, loss
from gpt.serving.all_cores import give_way
from gpt.ui.internals.lab import MAX_TOKENS, Focus, Lab
from gpt.ui.internals.section import (
    Code,
    Steps,
    head_box,
    layer_box,
    number_box,
    numbers,
    radio,
    section,
    text_box,
    token_box,
)
from gpt.ui.parts.bars import bars
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import percent, signed, significant, whole
from gpt.ui.parts.sentences import formula, quoted, say
from gpt.ui.parts.table import Column, table_html

KINDS = {"one head": "head", "a feed-forward": "ff", "a whole layer": "layer"}
MODES = {"zeros": "zero", "its mean so far": "mean"}
SWEEP_COLUMNS = ("layer", "head", Column("given to the logit"))
STREAM, HEAD = PARTS = ("the residual stream", "one head's output")
FIRST, SECOND = "The king took his crown", "The queen took her crown"
PATCH_COLUMNS = ("layer", "token", Column("recovered, %"))
PROMPT, UNTRAINED, EARLIER = WAYS = (
    "another prompt, this model",
    "this prompt, the model untrained",
    "this prompt, the model early in its training",
)
OTHER = "Once upon a time there was a big"
SEED = 124  # not 123: the book's untrained model has that seed, and would meet itself
ABLATION_TOP, COMPARISON_TOP = 6, 10  # best tokens of each prediction
FAINT = 0.01


@section(
    "ablation",
    title="What if: a part silenced",
    intro="Silence one part and run the pass again: what it writes is replaced at every position, "
    "by zeros or by the mean of what it wrote there and at the positions before. The difference "
    "is what this part contributes here.",
    code=(Code(interventions.edits_for, "parts = "), Code(interventions.ablate)),
    needs_model=True,
    controls={
        "kind": radio("int-abl-kind", "Silence", KINDS, min_width=300, scale=3),
        "layer": layer_box("int-abl-layer"),
        "head": head_box("int-abl-head"),
        "mode": radio("int-abl-mode", "Replace by", MODES, min_width=240, scale=2),
    },
    output="int-abl",
)  # fmt: skip
def ablation_html(lab: Lab, focus: Focus, kind: str, layer: int, head: int, mode: str) -> str:
    """The prediction with and without a part: a sentence, bars of the best of each, a table."""
    part = (KINDS[kind], layer, head)
    without = lab.computed(focus, interventions.ablate, focus.position, part, MODES[mode]).cpu()
    name = {"head": f"head {head} of layer {layer}", "ff": f"the feed-forward of layer {layer}"}
    what = (
        f"After {lab.place(focus)}, with and without {name.get(KINDS[kind], f'layer {layer}')} "
        f"(replaced by {mode})"
    )
    result = compare_predictions(lab.logits(focus), without, ABLATION_TOP)
    return pair_html(lab, result, ("with", "without"), what, "ablation")


@section(
    "sweep",
    title="What if: every head silenced in turn",
    intro="All heads, one after the other: what each gives to one token's logit.",
    code=(Code(interventions.sweep_heads, "stand_ins = "), Code(interventions.patched, "edit = ")),
    needs_model=True,
    controls={
        "query": token_box("int-sweep-token"),
        "mode": radio("int-sweep-mode", "Replace by", MODES, min_width=240),
    },
    output="int-sweep-words",
    button="Sweep all heads",
    button_id="int-sweep",
    hint="Press Sweep: it runs a pass a head.",
)  # fmt: skip
def sweep_steps(lab: Lab, focus: Focus, query: str, mode: str) -> Steps:
    """Progress a layer at a time, then a heat map of what each head gives, and its table."""
    run, at = lab.run(focus), focus.position
    token_id, n_heads = lab.token_id(focus, query), run.cfg.n_heads
    found: list[float] = []  # logit without − with, a head after the other
    steps = lab.each_by_model(focus, interventions.sweep_heads, run, at, token_id, MODES[mode])
    for layer, changes in steps:
        found += changes
        yield say(f"Layer {layer + 1} of {run.cfg.n_layers} …")
    given = -torch.tensor(found).view(-1, n_heads)  # logit with − without
    heat = heat_table(
        "Given to the logit by each head",
        [f"layer {i}" for i in range(len(given))],
        [f"head {i}" for i in range(n_heads)],
        (given / (given.abs().max() or 1)).tolist(),
        [[signed(x, 2) for x in row] for row in given.tolist()],
    )
    order = given.abs().flatten().argsort(descending=True, stable=True).tolist()
    ranked = [(*divmod(i, n_heads), -found[i]) for i in order]
    layer, head, most = ranked[0]
    words = say(
        f"Head {head} of layer {layer} matters most to the logit of {lab.quoted(token_id)} after "
        f"{lab.place(focus)}: {significant(most)} (logit with the head − logit without, replaced "
        f"by {mode}). Blue: the head speaks for the token; red: against it."
    )
    caption, file = "All heads by effect", f"head-sweep-position-{at}"
    table = table_html(SWEEP_COLUMNS, ranked, caption, csv_name=file)
    return words + heat + numbers(table)


@section(
    "patch",
    title="What if: one prompt's inside in another's",
    intro="Two prompts that differ in a word and, later, in the answer to it. The model reads both "
    "up to the answer; then one place of the second pass is set to what the first had there. "
    "Where the first answer comes back, that place carries the difference.",
    code=(
        Code(interventions.patch_sweep, "source = "), Code(interventions.patched, "edit = "),
        Code(interventions.Contrast.recovered), Code(interventions.lead_of),
    ),
    needs_model=True,
    controls={
        "first": text_box("int-patch-first", "First prompt", FIRST),
        "second": text_box("int-patch-second", "Second prompt", SECOND),
        "part": radio("int-patch-part", "Take from the first", PARTS, min_width=260),
        "head": head_box("int-patch-head"),
    },
)  # fmt: skip
def patch_steps(lab: Lab, focus: Focus, first: str, second: str, part: str, head: int) -> Steps:
    """Progress a layer at a time, then the heat map of what each place recovers; HTML."""
    ids = [lab.encode(focus.source, prompt) for prompt in (first, second)]
    cfg = lab.registry.config_of(focus.source)
    which = head if part == HEAD else None
    key = (focus.source, "patching", *map(tuple, ids), which)
    found = lab.memos.get(key)
    if found is None:
        contrast = lab.by_model(focus, interventions.read_contrast, *ids, give_way)
        recovered: list[list[float]] = [[] for _ in range(cfg.n_layers + (which is None))]
        for layer, row in lab.each_by_model(focus, interventions.patch_sweep, contrast, which):
            recovered[layer] += row
            yield say(f"Layer {layer} of {cfg.n_layers} …")
        found = (contrast.answers, contrast.leads, recovered)
        lab.memos.put(key, found)
    return _shown(lab, which, ids, found)


def _shown(lab: Lab, head: int | None, ids: list[list[int]], found: Any) -> str:
    answers, (there, here), recovered = found
    first, second = map(lab.quoted, answers)
    if head is None:
        names = [*(f"into layer {i}" for i in range(len(recovered) - 1)), "after the last layer"]
        between = range(1, len(names) - 1) or range(1)
    else:
        names = [f"layer {i} head {head}" for i in range(len(recovered))]
        between = range(len(names))
    columns = [
        f"{at} {lab.piece(a)}" + (f" → {lab.piece(b)}" if a != b else "")
        for at, (b, a, _) in enumerate(zip(*ids, recovered[0], strict=False))  # up to the answers
    ]
    texts = [[_percent(x) for x in row] for row in recovered]
    caption = "How much of the first prompt's answer comes back"
    heat = heat_table(caption, names, columns, recovered, texts)
    best, row, at = max((x, row, at) for row in between for at, x in enumerate(recovered[row]))
    where = f"the stream {names[row]}" if head is None else f"what head {head} of layer {row} wrote"
    words = say(
        f"The first prompt calls for {first}, the second for {second}. By logit, {first} leads by "
        f"{significant(there)} after the first and {significant(here)} after the second. A cell: "
        f"the second pass with that one place as in the first. Between the layers, {where} at "
        f"{quoted(columns[at])} brings back most of the difference: {_percent(best)}."
    ) + formula(
        "recovered = (lead patched − lead after the second) ÷ (lead after the first − the second)",
        f"{_percent(best)} = "
        f"({significant(here + best * (there - here))} − ({significant(here)})) ÷ "
        f"({significant(there)} − ({significant(here)}))",
    )
    rows = [
        (names[row], columns[at], 100 * x)
        for row, cells in enumerate(recovered)
        for at, x in enumerate(cells)
    ]
    legend = '<p class="legend"><span class="ramp signed"></span> −100 % to 100 % recovered</p>'
    table = table_html(PATCH_COLUMNS, rows, "Recovered by place", csv_name="patching")
    return words + legend + heat + numbers(table)


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %".replace("-", "−")  # no −0.0


@section(
    "compare",
    title="Compare: two prompts, or before and after training",
    intro="The chosen position beside another prediction: the same model after other words, or "
    "this very configuration untrained, or early in its training. Change one word and see what it "
    "is worth; take the training away and see what is left.",
    code=(
        Code(compare_predictions, "logs = ", "p, q"),
        Code(compare_predictions, "return Comparison("),
    ),
    needs_model=True,
    controls={
        "way": radio("int-cmp-way", "Compare with", WAYS, min_width=320),
        "prompt": text_box("int-cmp-prompt", "Other prompt", OTHER, scale=3, min_width=260),
        "position": number_box(
            "int-cmp-position", "Position in it", -1, info="-1 is the last.", min_width=140
        ),
    },
    output="int-cmp",
    button="Compare",
    button_id="int-cmp-run",
    hint="Press Compare: it runs one more pass.",
)
def comparison_html(lab: Lab, focus: Focus, way: str, prompt: str, position: Any) -> str:
    """The focus's prediction beside another one: a sentence, bars, a table; HTML.

    Raises what `Lab.read` raises.
    """
    if way == UNTRAINED:
        random = focus.source.startswith("random:")
        names = ("this model", f"seed {SEED}") if random else ("trained", "untrained")
        twin = random_source(lab.registry.config_of(focus.source), SEED)
        other = replace(focus, source=twin)
    elif way == EARLIER:
        other = replace(focus, source=focus.source + EARLY)
        if not is_kept(other.source):
            raise ValueError("only a model of the Train tab has an early one: train one there.")
        names = ("at the end", path_of(other.source).name)  # "at step 40"
    else:
        at = -1 if position is None else whole("position in it", position, -MAX_TOKENS, MAX_TOKENS)
        other = lab.read(focus.source, prompt, at)
        names = ("this prompt", "the other")
    result = compare_predictions(lab.logits(focus), lab.logits(other), COMPARISON_TOP)
    what = f"After {_end(lab, focus)} ({names[0]}) and after {_end(lab, other)} ({names[1]})"
    said = say(f"Loss on the prompt: {_loss(lab, focus)} here, {_loss(lab, other)} there.")
    return said + pair_html(lab, result, names, what, "comparison")


def _end(lab: Lab, focus: Focus) -> str:
    """The last words that the prediction is made after."""
    return f"“…{lab.text(focus.ids[: focus.position + 1])[-24:]}”"


def pair_html(lab: Lab, result: Comparison, names: tuple[str, str], what: str, file: str) -> str:
    """A comparison as a sentence, paired bars and a table; also used for ablations; HTML."""
    ids, first, second = result.ids, result.first, result.second
    labels, both = [lab.short(i, 14) for i in ids], (first, second)
    faint = min(map(max, both)) < FAINT  # bars of one of them would be invisible
    unit = "probability, log scale" if faint else "probability"
    drawn = bars(labels, dict(zip(names, both, strict=True)), unit, show=percent, log=faint)
    best, other = result.first_ranks.index(1), result.second_ranks.index(1)
    same = " unchanged" if best == other else ""
    words = say(
        f"{what}. Top token{same}: {lab.quoted(ids[best])}, {percent(first[best])} → "
        f"{'' if same else f'{lab.quoted(ids[other])}, '}{percent(second[other])}. "
        f"The predictions overlap by {percent(result.overlap)}."
    )
    words += formula(
        f"KL({names[0]} ‖ {names[1]}) = Σ p ln(p ÷ q)",
        f"{significant(result.divergence)} nats over the whole vocabulary; the best token gives "
        f"{_summand(first[best], second[best])} of it",
    )
    columns = (
        "token", Column("id"), Column(names[0], percent), Column(f"rank, {names[0]}"),
        Column(names[1], percent), Column(f"rank, {names[1]}"),
    )  # fmt: skip
    found = (ids, first, result.first_ranks, second, result.second_ranks)
    rows = list(zip(map(lab.piece, ids), *found, strict=True))
    table = table_html(columns, rows, "The best tokens of both", csv_name=file)
    return words + drawn + numbers(table)


def _summand(p: float, q: float) -> str:
    if p <= 0 or q <= 0:
        return "all"
    product = significant(p * math.log(p / q))
    return f"{significant(p)} · ln({significant(p)} ÷ {significant(q)}) = {product}"


def _loss(lab: Lab, focus: Focus) -> str:
    mean = loss(lab.foreseen(focus))
    return "none (a single token)" if mean is None else f"{significant(mean)} nats a token"
