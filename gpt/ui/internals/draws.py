"""The draw itself: one random number on the cumulative distribution, and many beside the theory."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import torch

from gpt.internals.distribution import tally, uniform_interval
from gpt.sampling import SamplingOptions, draw, uniforms
from gpt.ui.internals.lab import Lab
from gpt.ui.parts.bars import bars
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.plots import HUE, MUTED, PARTS, plain
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, table_html, text_column

TALLY_ROWS = 12
MAX_DRAWS = 10_000
OWN_SEGMENT = 0.01  # a token with less has no segment of its own on the cumulative bar

Segment = tuple[str, float, bool]  # label, width, whether it is one token's own
SIX = "{:.6f}".format
SEGMENT_COLUMNS = (Column("from", SIX), Column("to", SIX), text_column("tokens"))
TALLY_COLUMNS = (text_column("token"), Column("drawn"), Column("expected"))


def segments_of(lab: Lab, distribution: torch.Tensor) -> list[Segment]:
    """The distribution in id order as (label, width, own): small neighbours are merged."""
    large = (distribution >= OWN_SEGMENT).nonzero()[:, 0].tolist()
    total = distribution.double().cumsum(0)
    segments: list[Segment] = []
    end, upto = 0.0, 0
    for i in [*large, None]:
        stop = len(distribution) if i is None else i
        below = total[stop - 1].item() if stop else 0.0
        kept = int((distribution[upto:stop] > 0).sum())
        if kept:
            segments.append((f"{kept:,} {'token' if kept == 1 else 'tokens'}", below - end, False))
        if i is not None:
            segments.append((lab.piece(i), distribution[i].item(), True))
            end, upto = total[i].item(), i + 1
    return segments


def draw_views(
    lab: Lab, distribution: torch.Tensor, options: SamplingOptions
) -> tuple[go.Figure, str]:
    """The seed's uniform number on the cumulative bar, and what it draws in words."""
    segments = segments_of(lab, distribution)
    if options.temperature == 0:
        sentence = "Temperature 0 draws no random number: the token with the highest logit is it."
        return cumulative_bar(segments, None), say(sentence) + _segments_table(segments)
    assert options.seed is not None
    uniform = uniforms(torch.Generator().manual_seed(options.seed))
    token_id = int(draw(distribution[None], uniform))
    low, high = uniform_interval(distribution, token_id)
    return cumulative_bar(segments, uniform.item()), say(
        f"Seed {options.seed:,} gives u = {uniform.item():.6f}. It falls between {low:.6f} and "
        f"{high:.6f}, the stretch of {lab.piece(token_id)} (id {token_id:,}, "
        f"{percent(distribution[token_id].item())}): that token is drawn, here and as "
        "the first new token by the Generation tab, given the text up to here, this model in "
        "float32, these settings and this seed."
    ) + _segments_table(segments)


def cumulative_bar(segments: Sequence[Segment], uniform: float | None) -> go.Figure:
    """One bar from 0 to 1 cut into segments, and where a number falls on it.

    Segments that stand for one token take the colours in turn, the others are grey.
    """
    figure = go.Figure()
    colours, turn = (HUE, "#8fb5ea"), 0
    for label, width, own in segments:
        figure.add_bar(
            x=[width],
            y=[0],
            orientation="h",
            width=0.6,
            marker={"color": colours[turn % 2] if own else MUTED},
            text=plain(label) if width > 0.06 else "",
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            customdata=[plain(label)],
            hovertemplate="%{customdata}: %{x:.4g}<extra></extra>",
        )
        turn += own
    figure.update_layout(height=170, barmode="stack", margin={"t": 64})
    figure.update_yaxes(visible=False, range=[-0.4, 0.5])
    figure.update_xaxes(title="cumulative probability, tokens in id order", range=[0, 1.0001])
    if uniform is not None:
        figure.add_vline(x=uniform, line={"color": PARTS[5], "width": 3})
        figure.add_annotation(
            x=uniform, y=1, yref="paper", yanchor="bottom", showarrow=False,
            text=f"u = {uniform:.4f}", font={"color": PARTS[5], "size": 13},
        )  # fmt: skip
    return figure


def tally_views(
    lab: Lab, distribution: torch.Tensor, options: SamplingOptions, n: int
) -> tuple[go.Figure, str]:
    """`n` draws counted beside their expectation: a plot and a table."""
    if options.temperature == 0:
        drawn = distribution.argmax().expand(n)
    else:
        assert options.seed is not None
        numbers = uniforms(torch.Generator().manual_seed(options.seed), n)
        drawn = draw(distribution[None], numbers[None])[0]
    counted = tally(drawn, distribution, TALLY_ROWS)
    figure = bars(
        [lab.short(row.token_id, 14) for row in counted],
        {
            f"in {n:,} draws": [100 * row.count / n for row in counted],
            "in theory": [100 * row.expected / n for row in counted],
        },
        "share in %",
    )
    rows = [(lab.piece(row.token_id), row.count, row.expected) for row in counted]
    rest = n - sum(row.expected for row in counted)
    others = n - sum(row.count for row in counted)
    rows.append(("all others", others, rest if rest > 0.001 else 0))
    gap = max(abs(row.count - row.expected) for row in counted) / n
    return figure, say(
        f"{n:,} draws from seed {options.seed or 0:,}: the largest gap to the theory is "
        f"{significant(100 * gap)} percentage points. It shrinks as 1 ÷ √draws: a token of 50 % "
        f"comes within about {significant(100 * 0.5 / n**0.5)} points (one standard deviation)."
    ) + table_html(TALLY_COLUMNS, rows, "Draws", csv_name="draws")


def _segments_table(segments: Sequence[Segment]) -> str:
    """The cumulative bar from left to right."""
    rows, start = [], 0.0
    for label, width, _ in segments:
        rows.append((start, start + width, label))
        start += width
    return table_html(SEGMENT_COLUMNS, rows, "The bar from left to right", csv_name="cumulative")
