"""Why this token: its logit as a sum over all that the model wrote, and each word's effect."""

from itertools import accumulate

from gpt.internals.distribution import ranking
from gpt.internals.interventions import Occluded, gradient_x_input, occlusion
from gpt.internals.ledger import Term, read_ledger
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, Steps, numbers, radio, section, token_box
from gpt.ui.parts.bars import bars
from gpt.ui.parts.numbers import four, percent, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, table_html

ALONE, LEAD = MODES = ("its logit", "its lead over the runner-up")
BARS = 12
LEDGER_COLUMNS = (
    "part", "kind", Column("added", four),
    Column("running total", lambda v: significant(v, 5)),
)  # fmt: skip
MATTERED_COLUMNS = (
    Column("position"), "token", Column("gradient × input", four),
    Column("logit lost", four), Column("probability without", percent),
)  # fmt: skip


@section(
    "ledger",
    title="Logit ledger: who wrote this logit",
    intro="The residual stream is a sum, and the final norm and the head treat it as one: so the "
    "logit splits exactly into what the embeddings, each head, each feed-forward and each bias "
    "wrote. Look for the few parts that carry the token, and for those that push against it.",
    code=(Code(read_ledger, "x = run.layer", "return"),),
    needs_model=True,
    controls={
        "query": token_box("int-ledger-token"),
        "mode": radio(
            "int-ledger-mode", "Take apart", MODES, min_width=240,
            info="The lead leaves out what both tokens share.",
        ),
    },
)  # fmt: skip
def ledger_html(lab: Lab, focus: Focus, query: str, mode: str) -> str:
    """The sum in words, bars of the largest terms, and every term with a running total; HTML."""
    at, token_id = focus.position, lab.token_id(focus, query)
    logits = lab.logits(focus).double()
    best, logit = ranking(logits)[:2].tolist(), logits[token_id].item()
    minus = next((i for i in best if i != token_id), token_id) if mode == LEAD else None
    ledger = lab.computed(focus, read_ledger, at, token_id, minus)
    terms = sorted(ledger, key=lambda term: -abs(term.value))
    shown, rest = terms[:BARS], terms[BARS:]
    labels, values = [_short(term.name) for term in shown], [term.value for term in shown]
    if rest:
        labels.append(f"{len(rest)} others")
        values.append(sum(term.value for term in rest))
    what = f"logit of {lab.quoted(token_id)} (id {token_id:,})"
    if minus is not None:
        what += f" minus that of {lab.quoted(minus)} (id {minus:,})"
        logit -= logits[minus].item()
    drawn = bars(labels, {"": values}, f"added to the {what}", signed=True)
    running = accumulate(term.value for term in terms)
    rows = [(t.name, t.kind, t.value, total) for t, total in zip(terms, running, strict=True)]
    caption = f"All {len(rows)} terms by size, with the running total"
    table = table_html(LEDGER_COLUMNS, rows, caption, csv_name=f"ledger-position-{at}")
    return _sum(ledger, logit, what, lab.place(focus)) + drawn + numbers(table)


def _sum(ledger: list[Term], logit: float, what: str, place: str) -> str:
    by_kind: dict[str, float] = {}
    for term in ledger:
        by_kind[term.kind] = by_kind.get(term.kind, 0.0) + term.value
    numbers = " + ".join(f"({kind} {four(v)})" for kind, v in by_kind.items())
    total = sum(term.value for term in ledger)
    told, added = (f"{x:.4f}".replace("-", "−") for x in (logit, total))
    return say(
        f"The {what} after {place} is {told}. {len(ledger)} terms add up to {added}; the "
        f"difference of {abs(total - logit):.7f} is rounding in float32. Blue terms are for "
        "the token, red ones against it."
    ) + formula(
        "logit = Σ (term − its mean) · (norm scale × head row) ÷ √(var + eps) + shift · head row",
        f"{added} = {numbers}",
    )


def _short(name: str) -> str:
    for word, short in (("layer ", "L"), ("feed-forward", "ff"), ("embedding", "emb."),
                        ("attention bias", "att. bias")):  # fmt: skip
        name = name.replace(word, short)
    return name


@section(
    "mattered",
    title="What mattered: which words moved it",
    intro="Two questions about one token's logit. **Gradient × input**: how would it move if a "
    "prompt token's embedding were scaled a little? **Occlusion**: how does it move if that "
    "embedding is zeroed and only its position stays? They differ where the model is far from "
    "linear.",
    code=(Code(gradient_x_input, "embedded = "),),
    needs_model=True,
    controls={"query": token_box("int-mattered-token")},
)
def mattered_steps(lab: Lab, focus: Focus, query: str) -> Steps:
    """Progress in words, then the sentence, the two measures as bars, and the table; HTML."""
    run, at = lab.run(focus), focus.position
    token_id = lab.token_id(focus, query)
    key = (*focus.key, "mattered", at, token_id)
    found = lab.memos.get(key)
    if found is None:
        yield say("Gradient: one pass and one step back …")
        gradient = lab.by_model(focus, gradient_x_input, run, at, token_id).tolist()
        seen: list[Occluded] = []  # with nothing occluded, then with each token
        for occluded in lab.each_by_model(focus, occlusion, run, at, token_id):
            seen.append(occluded)
            if len(seen) % 4 == 1:
                yield say(f"Occlusion: {len(seen)} of {at + 2} …")
        found = (gradient, seen)
        lab.memos.put(key, found)
    return _mattered(lab, focus, token_id, *found)


def _mattered(
    lab: Lab, focus: Focus, token_id: int, gradient: list[float], seen: list[Occluded]
) -> str:
    whole, *without = seen
    drops = [whole.logit - each.logit for each in without]
    labels = [f"{i} {lab.short(token)}" for i, token in enumerate(focus.ids[: len(drops)])]
    both = {"gradient × input": gradient, "logit lost by occlusion": drops}
    most = max(range(len(drops)), key=lambda i: abs(drops[i]))
    drawn = bars(labels, both, "change of the logit", here=most)
    lost = without[most]
    verb = "lowers" if drops[most] > 0 else "raises"
    words = say(
        f"For {lab.quoted(token_id)} (id {token_id:,}) after {lab.place(focus)}: occluding "
        f"{lab.quoted(focus.ids[most])} at position {most} {verb} its logit most, from "
        f"{four(whole.logit)} to {four(lost.logit)}, and its "
        f"probability from {percent(whole.probability)} to {percent(lost.probability)}."
    ) + formula(
        "gradient × input = Σ over dimensions of ∂logit/∂embedding · embedding; "
        "occlusion = logit − logit without",
        f"position {most}: {four(gradient[most])}; {four(whole.logit)} − {four(lost.logit)} = "
        f"{four(drops[most])}",
    )
    rows = [
        (i, lab.piece(focus.ids[i]), gradient[i], drops[i], each.probability)
        for i, each in enumerate(without)
    ]
    caption = f"Effect on the logit of {lab.quoted(token_id)}"
    file, marked = f"attribution-position-{focus.position}", {most: "marked"}
    table = table_html(MATTERED_COLUMNS, rows, caption, csv_name=file, kinds=marked)
    return words + drawn + numbers(table)
