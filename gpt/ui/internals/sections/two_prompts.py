"""Activation patching: one prompt's inside put into another's pass, place by place."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from gpt.internals.interventions import Contrast, lead_of, leads_with, patch_sweep, read_contrast
from gpt.serving.all_cores import give_way
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Code, Section, head_box, numbers, radio, text_box
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html

STREAM, HEAD = PARTS = ("the residual stream", "one head's output")
FIRST, SECOND = "The king took his crown", "The queen took her crown"
COLUMNS = ("layer", "token", Column("recovered, %"))


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
    table = table_html(COLUMNS, rows, "Recovered by place", csv_name="patching")
    return words + legend + heat + numbers(table)


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %".replace("-", "−")  # no −0.0


SECTION = Section(
    key="patch",
    title="What if: one prompt's inside in another's",
    intro="Two prompts that differ in a word and, later, in the answer to it. The model reads both "
    "up to the answer; then one place of the second pass is set to what the first had there. "
    "Where the first answer comes back, that place carries the difference.",
    view=patch_steps,
    code=(Code(leads_with, "edits: ", "pasted("), Code(Contrast.recovered), Code(lead_of)),
    needs_model=True,
    controls={
        "first": text_box("int-patch-first", "First prompt", FIRST),
        "second": text_box("int-patch-second", "Second prompt", SECOND),
        "part": radio("int-patch-part", "Take from the first", PARTS, min_width=260),
        "head": head_box("int-patch-head"),
    },
    output="int-patch",
)  # fmt: skip
