"""The draw itself: one random number on the cumulative distribution, and many beside the theory."""

from itertools import accumulate, pairwise

import torch

from gpt.internals.distribution import tally, uniform_interval
from gpt.sampling import SamplingOptions, draw, uniforms
from gpt.ui.internals.lab import Lab
from gpt.ui.parts.bars import Segment, bars, cumulative_bar
from gpt.ui.parts.numbers import counted, percent, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, table_html

TALLY_ROWS = 4
MAX_DRAWS = 10_000
OWN_SEGMENT = 0.01  # a token with less has no segment of its own on the cumulative bar

SIX = "{:.6f}".format
SEGMENT_COLUMNS = (Column("from", SIX), Column("to", SIX), "tokens")
TALLY_COLUMNS = ("token", Column("drawn"), Column("expected"))


def segments_of(lab: Lab, distribution: torch.Tensor) -> list[Segment]:
    """The distribution in id order: small neighbours are merged, others take turns in colour."""
    large = (distribution >= OWN_SEGMENT).nonzero()[:, 0].tolist()
    segments: list[Segment] = []
    start = 0
    for turn, i in enumerate([*large, len(distribution)]):
        between = distribution[start:i]
        if kept := int((between > 0).sum()):
            segments.append((counted(kept, "token"), between.double().sum().item(), "many"))
        if i < len(distribution):
            segments.append((lab.piece(i), distribution[i].item(), ("one", "other")[turn % 2]))
        start = i + 1
    return segments


def draw_views(
    lab: Lab, distribution: torch.Tensor, options: SamplingOptions, at: int, came: int | None
) -> tuple[str, str]:
    """The seed's uniform number `at` on the cumulative bar, in words; the bar as a table; HTML.

    `came` is the token that comes next in the text, if there is one.
    """
    segments, u = segments_of(lab, distribution), None
    text = "Temperature 0 draws no random number: the token with the highest logit is it."
    if options.temperature > 0:
        uniform = uniforms(torch.Generator().manual_seed(options.seed), at + 1)[-1:]
        u, token_id = uniform.item(), int(draw(distribution[None], uniform))
        low, high = uniform_interval(distribution, token_id)
        text = (
            f"Draw {at:,} of seed {options.seed:,} is u = {u:.6f}. This random number from 0 to 1 "
            f"falls between {low:.6f} and {high:.6f}, the stretch of {lab.quoted(token_id)} "
            f"(id {token_id:,}, {percent(distribution[token_id].item())}): that token is drawn."
        )
        if came == token_id:
            text += " It is the one in the text."
        elif came is not None:
            text += (
                f" The text has {lab.quoted(came)}: it was typed, chosen by you, or written with "
                "other settings than these or in another precision; bfloat16 also rounds "
                "otherwise where one token is computed at a time."
            )
    ends = list(accumulate((width for _, width, _ in segments), initial=0.0))
    rows = [(*pair, label) for pair, (label, _, _) in zip(pairwise(ends), segments, strict=True)]
    table = table_html(SEGMENT_COLUMNS, rows, "The bar from left to right", csv_name="cumulative")
    return cumulative_bar(segments, u) + say(text), table


def tally_views(
    lab: Lab, distribution: torch.Tensor, options: SamplingOptions, n: int
) -> tuple[str, str]:
    """`n` draws counted beside their expectation: bars with a sentence, and a table; HTML."""
    numbers = uniforms(torch.Generator().manual_seed(options.seed), n)
    drawn = draw(distribution[None], numbers[None])[0]
    ids, counts, expected = tally(drawn, distribution, TALLY_ROWS)
    shares = {
        f"in {n:,} draws": [count / n for count in counts],
        "in theory": [each / n for each in expected],
    }
    labels = [lab.short(token_id, 14) for token_id in ids]
    drawn_bars = bars(labels, shares, "share of the draws", show=percent)
    rows = list(zip(map(lab.piece, ids), counts, expected, strict=True))
    rest = n - sum(expected)
    rows.append(("all others", n - sum(counts), rest if rest > 0.001 else 0))
    gap = max(abs(a - b) for a, b in zip(counts, expected, strict=True)) / n
    words = say(
        f"{n:,} draws: the largest gap to the theory is {significant(100 * gap)} percentage "
        f"points. It shrinks as 1 ÷ √draws: a token of 50 % comes within about "
        f"{significant(100 * 0.5 / n**0.5)} points (one standard deviation)."
    )
    return drawn_bars + words, table_html(TALLY_COLUMNS, rows, "Draws", csv_name="draws")
