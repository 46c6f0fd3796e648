"""The draw itself: one random number on the cumulative distribution, and many beside the theory."""

from __future__ import annotations

import plotly.graph_objects as go
import torch

from gpt.internals.distribution import tally, uniform_interval
from gpt.sampling import SamplingOptions, draw, uniforms
from gpt.ui.internals.figures import cumulative_bar, paired_bars
from gpt.ui.internals.lab import Lab
from gpt.ui.internals.tables import say, table_html
from gpt.ui.parts.numbers import percent, significant

TALLY_ROWS = 12
MAX_DRAWS = 10_000
OWN_SEGMENT = 0.01  # a token with less has no segment of its own on the cumulative bar


def segments_of(lab: Lab, distribution: torch.Tensor) -> list[tuple[str, float, bool]]:
    """The distribution in id order as (label, width, own): small neighbours are merged."""
    large = (distribution >= OWN_SEGMENT).nonzero()[:, 0].tolist()
    total = distribution.double().cumsum(0)
    segments: list[tuple[str, float, bool]] = []
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


def tally_views(
    lab: Lab, distribution: torch.Tensor, options: SamplingOptions, n: float
) -> tuple[go.Figure, str]:
    """`n` draws counted beside their expectation: a plot and a table."""
    n = min(max(int(n or 1), 1), MAX_DRAWS)
    if options.temperature == 0:
        drawn = distribution.argmax().expand(n)
    else:
        assert options.seed is not None
        numbers = uniforms(torch.Generator().manual_seed(options.seed), n)
        drawn = draw(distribution[None], numbers[None])[0]
    rows = tally(drawn, distribution, TALLY_ROWS)
    labels = [lab.piece(row.token_id) for row in rows]
    figure = paired_bars(
        [label[:14] for label in labels],
        [100 * row.count / n for row in rows],
        [100 * row.expected / n for row in rows],
        (f"in {n:,} draws", "in theory"),
        "share in %",
    )
    cells = [
        [label, f"{row.count:,}", significant(row.expected, 4)]
        for label, row in zip(labels, rows, strict=True)
    ]
    others = n - sum(row.count for row in rows)
    rest = n - sum(row.expected for row in rows)
    cells.append(["all others", f"{others:,}", significant(rest, 4) if rest > 0.001 else "0"])
    gap = max(abs(row.count - row.expected) for row in rows) / n
    return figure, say(
        f"{n:,} draws from seed {options.seed:,}: the largest gap to the theory is "
        f"{significant(100 * gap)} percentage points. It shrinks as 1 ÷ √draws: a token of 50 % "
        f"comes within about {significant(100 * 0.5 / n**0.5)} points (one standard deviation)."
    ) + table_html(
        "Draws", ["token", "drawn", "expected"], cells, csv_name="draws", text_columns=(0,)
    )


def _segments_table(segments: list[tuple[str, float, bool]]) -> str:
    """The cumulative bar from left to right."""
    rows, start = [], 0.0
    for label, width, _ in segments:
        rows.append([f"{start:.6f}", f"{start + width:.6f}", label])
        start += width
    return table_html(
        "The bar from left to right",
        ["from", "to", "tokens"],
        rows,
        csv_name="cumulative",
        text_columns=(2,),
    )
