"""The loss curve as SVG: small, redrawn twice a second, in the page's own colours."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from gpt.ui.parts.numbers import significant

Points = Sequence[tuple[float, float]]
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

    parts = []
    ticks = TICKS if high < 300 * low else TICKS[::3]  # of a loss that diverges, the powers of ten
    for tick in ticks:
        if low <= tick <= high:
            y = y_of(tick)
            parts += [_level(y, "grid"), _text(LEFT - 6, y + 4, _short(tick), "end")]
    for i in range(5):
        at, anchor = until * i / 4, "end" if i == 4 else "middle"
        parts.append(_text(x_of(at), HEIGHT - 18, _short(at), anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, axis, "middle"))
    for i, (name, value) in enumerate(baselines.items()):
        y, label = y_of(value), f"{name}: {significant(value)}"
        # The guess by frequency is close below the even one: its label is below its line.
        up, base = (-4, ' class="base" dy="0.9em"') if i == 1 else (4, ' class="base"')
        parts += [_level(y, "base"), _text(WIDTH - RIGHT, y - up, label, "end", base)]
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


def _level(y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{significant(value / 1e6, 2)} M"
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
