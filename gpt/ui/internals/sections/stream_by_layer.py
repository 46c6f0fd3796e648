"""The residual stream: its length and its turns, layer by layer and position by position."""

from __future__ import annotations

from gpt.internals.residual import read_stream
from gpt.model import TransformerBlock
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.section import Code, Section, numbers, radio
from gpt.ui.parts.bars import bars
from gpt.ui.parts.heat import heat_table
from gpt.ui.parts.numbers import four, significant
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, csv_link, table_html

NORM, COSINE = MEASURES = ("length", "cosine to the stage before")
COLUMNS = ("layer", Column("attention"), Column("feed-forward"), Column("stream after"))


def stream_html(lab: Lab, visit: Visit, measure: str) -> str:
    """The stream's heat table, and attention against feed-forward at the chosen position; HTML."""
    run, at = lab.run(visit), visit.position
    stream = lab.memo(visit, "stream", lambda: read_stream(run))
    columns = lab.places(run.ids)
    values = stream.cosines if measure == COSINE else stream.norms
    stages = stream.stages[1:] if measure == COSINE else stream.stages
    high = 1.0 if measure == COSINE else values.max().item() or 1.0
    shades = (values / high).clamp(min=0).tolist()
    texts = [[significant(v) for v in row] for row in values.tolist()]
    heat = heat_table(f"Residual stream: {measure}", stages, columns, shades, texts, at)
    legend = f'<p class="legend"><span class="ramp"></span> {measure}, 0 to {significant(high)}</p>'
    att, ff = stream.attention_norms[:, at].tolist(), stream.feed_forward_norms[:, at].tolist()
    names = [f"layer {i}" for i in range(len(att))]
    added = bars(names, {"attention": att, "feed-forward": ff}, f"length added at position {at}")
    rows = list(zip(names, att, ff, stream.norms[2::2, at].tolist(), strict=True))
    table = table_html(COLUMNS, rows, f"Added at position {at}", csv_name=f"added-position-{at}")
    link = csv_link(
        f"stream-{measure.split()[0]}", ["stage", *columns],
        [[s, *row] for s, row in zip(stages, values.tolist(), strict=True)],
    )  # fmt: skip
    first, last = (significant(stream.norms[i, at].item()) for i in (0, -1))
    more = "attention" if sum(att) > sum(ff) else "feed-forward"
    after, *parts = (
        four(run.layer(0, name)[at, 0].item())
        for name in ("resid_out", "resid_in", "att_out", "ff_out")
    )
    words = say(
        f"At {lab.place(visit)} the stream starts with length {first} and ends with {last}; in "
        f"sum the {more} wrote the longer vectors."
    ) + formula(
        "resid_out = resid_in + att_out + ff_out",
        f"number 0 in layer 0: {after} = {' + '.join(parts)}",
    )
    return words + legend + heat + added + numbers(link, table)


SECTION = Section(
    key="stream",
    rail="Stream",
    title="Residual stream: what is written where",
    intro="Every block adds to the same vector, the residual stream. Its length says how much has "
    "been written, the cosine how much a stage has turned it (1: not at all).",
    view=stream_html,
    code=(Code(TransformerBlock.forward, '"resid_in"'),),
    controls={"measure": radio("int-stream-measure", "Show", MEASURES)},
    output="int-stream",
)
