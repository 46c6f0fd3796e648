"""Two passes beside each other: one with places of the other put in, and what both predict."""

import math
from collections.abc import Generator
from typing import Any

from gpt.checkpoints.sources import EARLY, is_kept, path_of, random_source
from gpt.internals.distribution import Comparison, compare_predictions, loss
from gpt.internals.interventions import Contrast, lead_of, patch_sweep, patched, read_contrast
from gpt.serving.all_cores import give_way
from gpt.ui.internals.lab import MAX_TOKENS, Lab, Visit
from gpt.ui.internals.section import Code, Section, head_box, number_box, numbers, radio, text_box
from gpt.ui.parts.bars import bars
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import percent, significant, whole
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html

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
TOP = 10
FAINT = 0.01


def patch_steps(
    lab: Lab, visit: Visit, first: str, second: str, part: str, head: int
) -> Generator[str, None, str]:
    """Progress a layer at a time, then the heat map of what each place recovers; HTML."""
    ids = [lab.encode(visit.source, prompt) for prompt in (first, second)]
    cfg = lab.registry.config_of(visit.source)
    which = head if part == HEAD else None
    key = (visit.source, "patching", *map(tuple, ids), which)
    found = lab.memos.get(key)
    if found is None:
        contrast = lab.by_model(visit, read_contrast, *ids, give_way)
        recovered: list[list[float]] = [[] for _ in range(cfg.n_layers + (which is None))]
        for layer, row in lab.each_by_model(visit, patch_sweep, contrast, which):
            recovered[layer] += row
            yield say(f"Layer {layer} of {cfg.n_layers} …")
        found = (contrast.answers, contrast.leads, recovered)
        lab.memos.put(key, found)
    return _shown(lab, which, ids, found)


def _shown(lab: Lab, head: int | None, ids: list[list[int]], found: Any) -> str:
    answers, (there, here), recovered = found
    first, second = (lab.piece(i) for i in answers)
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
        f"{columns[at]} brings back most of the difference: {_percent(best)}."
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


PATCH = Section(
    key="patch",
    title="What if: one prompt's inside in another's",
    intro="Two prompts that differ in a word and, later, in the answer to it. The model reads both "
    "up to the answer; then one place of the second pass is set to what the first had there. "
    "Where the first answer comes back, that place carries the difference.",
    view=patch_steps,
    code=(
        Code(patch_sweep, "source = "), Code(patched, "edit = "), Code(Contrast.recovered),
        Code(lead_of),
    ),
    needs_model=True,
    controls={
        "first": text_box("int-patch-first", "First prompt", FIRST),
        "second": text_box("int-patch-second", "Second prompt", SECOND),
        "part": radio("int-patch-part", "Take from the first", PARTS, min_width=260),
        "head": head_box("int-patch-head"),
    },
    output="int-patch",
)  # fmt: skip


def comparison_html(lab: Lab, visit: Visit, way: str, prompt: str, position: Any) -> str:
    """The visit's prediction beside another one: a sentence, bars, a table; HTML.

    Raises what `Lab.read` raises.
    """
    names = ("this prompt", "the other")
    if way == UNTRAINED:
        names = ("trained", "untrained")
        if visit.source.startswith("random:"):
            names = ("this model", f"seed {SEED}")
        twin = random_source(lab.registry.config_of(visit.source), SEED)
        other = Visit(twin, visit.ids, visit.position)
    elif way == EARLIER:
        other = Visit(visit.source + EARLY, visit.ids, visit.position)
        if not is_kept(other.source):
            raise ValueError("only a model of the Train tab has an early one: train one there.")
        names = ("at the end", path_of(other.source).name)  # "at step 40"
    else:
        at = -1 if position is None else whole("position in it", position, -MAX_TOKENS, MAX_TOKENS)
        other = lab.read(visit.source, prompt, at)
    result = compare_predictions(lab.logits(visit), lab.logits(other), TOP)
    what = f"After {_end(lab, visit)} ({names[0]}) and after {_end(lab, other)} ({names[1]})"
    losses = [_loss(lab, each) for each in (visit, other)]
    said = say(f"Loss on the prompt: {losses[0]} here, {losses[1]} there.")
    return said + pair_html(lab, result, names, what, "comparison")


def _end(lab: Lab, visit: Visit) -> str:
    """The last words that the prediction is made after."""
    return f"“…{lab.text(visit.ids[: visit.position + 1])[-24:]}”"


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
        f"{what}. Top token{same}: {lab.piece(ids[best])}, {percent(first[best])} → "
        f"{'' if same else f'{lab.piece(ids[other])}, '}{percent(second[other])}. "
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
    return f"{significant(p)} · ln({significant(p)} ÷ {significant(q)}) = " + significant(
        p * math.log(p / q)
    )


def _loss(lab: Lab, visit: Visit) -> str:
    mean = loss(lab.foreseen(visit))
    return "none (a single token)" if mean is None else f"{significant(mean)} nats a token"


COMPARE = Section(
    key="compare",
    rail="What if",
    title="Compare: two prompts, or before and after training",
    intro="The chosen position beside another prediction: the same model after other words, or "
    "this very configuration untrained, or early in its training. Change one word and see what it "
    "is worth; take the training away and see what is left.",
    view=comparison_html,
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
