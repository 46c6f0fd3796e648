"""What if: one part of the model silenced, and a sweep over all heads."""

from collections.abc import Generator

from gpt.internals.distribution import compare_predictions
from gpt.internals.interventions import ablate, edits_for, patched, sweep_heads
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Code, Section, head_box, layer_box, numbers, radio, token_box
from gpt.ui.internals.sections.side_by_side import pair_html
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import signed, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, table_html

KINDS = {"one head": "head", "a feed-forward": "ff", "a whole layer": "layer"}
MODES = {"zeros": "zero", "its mean so far": "mean"}
TOP = 6
SWEEP_COLUMNS = ("layer", "head", Column("given to the logit"))


def ablation_html(lab: Lab, visit: Visit, kind: str, layer: int, head: int, mode: str) -> str:
    """The prediction with and without a part: a sentence, bars of the best of each, a table."""
    part = (KINDS[kind], layer, head)
    without = lab.computed(visit, ablate, visit.position, part, MODES[mode]).cpu()
    name = {"head": f"head {head} of layer {layer}", "ff": f"the feed-forward of layer {layer}"}
    result = compare_predictions(lab.logits(visit), without, TOP)
    what = (
        f"After {lab.place(visit)}, with and without {name.get(KINDS[kind], f'layer {layer}')} "
        f"(replaced by {mode})"
    )
    return pair_html(lab, result, ("with", "without"), what, "ablation")


def sweep_steps(lab: Lab, visit: Visit, query: str, mode: str) -> Generator[str, None, str]:
    """Progress a layer at a time, then a heat map of what each head gives, and its table."""
    run, at = lab.run(visit), visit.position
    token_id = lab.token_id(visit, query)
    given: list[list[float]] = [[] for _ in range(run.cfg.n_layers)]  # logit with − without
    for layer, row in lab.each_by_model(visit, sweep_heads, run, at, token_id, MODES[mode]):
        given[layer] += [-change for change in row]
        yield say(f"Layer {layer + 1} of {run.cfg.n_layers} …")
    high = max(abs(x) for row in given for x in row) or 1.0
    texts = [[signed(x, 2) for x in row] for row in given]
    heat = heat_table(
        "Given to the logit by each head",
        [f"layer {i}" for i in range(len(given))],
        [f"head {i}" for i in range(run.cfg.n_heads)],
        [[x / high for x in row] for row in given], texts,
    )  # fmt: skip
    ranked = sorted(
        ((layer, head, value) for layer, row in enumerate(given) for head, value in enumerate(row)),
        key=lambda item: -abs(item[2]),
    )
    layer, head, most = ranked[0]
    words = say(
        f"Head {head} of layer {layer} matters most to the logit of {lab.piece(token_id)} after "
        f"{lab.place(visit)}: {significant(most)} (logit with the head − logit without, replaced "
        f"by {mode}). Blue: the head speaks for the token; red: against it."
    )
    name = f"head-sweep-position-{at}"
    table = table_html(SWEEP_COLUMNS, ranked, "All heads by effect", csv_name=name)
    return words + heat + numbers(table)


SECTION = Section(
    key="ablation",
    title="What if: a part silenced",
    intro="Silence one part and run the pass again: what it writes is replaced at every position, "
    "by zeros or by the mean of what it wrote there and at the positions before. The difference "
    "is what this part contributes here.",
    view=ablation_html,
    code=(Code(edits_for, "parts = "), Code(ablate)),
    needs_model=True,
    controls={
        "kind": radio("int-abl-kind", "Silence", KINDS, min_width=300, scale=3),
        "layer": layer_box("int-abl-layer"),
        "head": head_box("int-abl-head"),
        "mode": radio("int-abl-mode", "Replace by", MODES, min_width=240, scale=2),
    },
    output="int-abl",
)  # fmt: skip


SWEEP = Section(
    key="sweep",
    title="What if: every head silenced in turn",
    intro="All heads, one after the other: what each gives to one token's logit.",
    view=sweep_steps,
    code=(Code(sweep_heads, "stand_ins = "), Code(patched, "edit = ")),
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
