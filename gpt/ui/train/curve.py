"""The loss curve as SVG: small, redrawn twice a second, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from gpt.ui.parts.numbers import significant

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 34
MOST_POINTS = 240
TICKS = [n * 10.0**power for power in range(-2, 5) for n in (1, 2, 5)]


def curve(
    lines: Mapping[str, Points], baselines: Mapping[str, float], axis: str, until: float, said: str
) -> str:
    """Losses over `axis` from 0 to `until`, on a log scale, with baselines that are named.

    `lines` are drawn in the order given and styled by class: train, held-out, before. `said` is
    the text alternative.
    """
    losses = [y for points in lines.values() for _, y in points if math.isfinite(y) and y > 0]
    shown = [*losses, *(value for value in baselines.values() if value > 0)]
    low, high = 0.85 * min(shown), 1.15 * min(max(shown), 1e4)

    def x_of(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value / until, 1)

    def y_of(value: float) -> float:
        share = math.log(min(max(value, low), high) / low) / math.log(high / low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    parts = [_y_ticks(low, high, y_of), _x_ticks(axis, until, x_of)]
    for i, (name, value) in enumerate(baselines.items()):
        y = y_of(value)
        # The guess by frequency is close below the even one: its label is below its line.
        at, dy = (y + 4, "0.9em") if i == 1 else (y - 4, "0")
        parts.append(
            f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="base" x="{WIDTH - RIGHT}" y="{at:.1f}" dy="{dy}" text-anchor="end">'
            f"{escape(name)}: {significant(value)}</text>"
        )
    for name, points in lines.items():
        some = [(x, y) for x, y in thinned(points) if math.isfinite(y)]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in some)
        parts.append(f'<polyline class="{name}" points="{path}"/>')
    return (
        f'<svg class="train-curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(said)}">{"".join(parts)}</svg>'
    )


def thinned(points: Points) -> Points:
    """At most about MOST_POINTS of them, the last one included."""
    stride = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]


def _y_ticks(low: float, high: float, y_of: Scale) -> str:
    ticks = TICKS if high < 300 * low else TICKS[::3]  # of a loss that diverges, the powers of ten
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(tick):.1f}" '
        f'y2="{y_of(tick):.1f}"/><text x="{LEFT - 6}" y="{y_of(tick) + 4:.1f}" '
        f'text-anchor="end">{_short(tick)}</text>'
        for tick in ticks
        if low <= tick <= high
    )


def _x_ticks(axis: str, until: float, x_of: Scale) -> str:
    ticks = "".join(
        f'<text x="{x_of(until * i / 4):.1f}" y="{HEIGHT - 18}" '
        f'text-anchor="{"end" if i == 4 else "middle"}">{escape(_short(until * i / 4))}</text>'
        for i in range(5)
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return f'{ticks}<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(axis)}</text>'


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{significant(value / 1e6, 2)} M"
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
