"""Horizontal bars in the page's own style: a row a label, or the parts of a total in one row."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape

from gpt.ui.parts import numbers
from gpt.ui.parts.colours import PARTS

Segment = tuple[str, float, str]  # label, width, kind: "many" tokens, or a token in two colours


def bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    unit: str,
    *,
    show: Callable[[float], str] | None = None,
    texts: Sequence[str] | None = None,
    signed: bool = False,
    tail: bool = False,
    struck: Collection[int] = (),
    log: bool = False,
    here: int | None = None,
) -> str:
    """HTML: bars in the given order with their numbers beside them; every text is escaped.

    The axis ends at the longest bar. `show` writes a number, else it has three figures; `texts`
    are the numbers of a single series as shown. `signed` colours by sign (blue for, red against);
    with `tail` the last row is grey; rows in `struck` have their label struck out. `log`:
    probabilities, each factor of 10 as long. A box with more rows than it shows opens at `here`.
    """
    show = show or (numbers.signed if signed else numbers.significant)
    drawn = {n: [_log(v) if log else v for v in values] for n, values in series.items()}
    every = [0.0, *(value for values in drawn.values() for value in values)]
    low, high = min(every), max(every)
    span = (high - low) or 1.0
    rows = []
    for row, label in enumerate(labels):
        marks, values_shown = [], []
        for name, values in drawn.items():
            value = values[row]
            kind = ("for" if value >= 0 else "against") if signed else "bar"
            at, width = (min(value, 0.0) - low) / span, abs(value) / span
            marks.append(f'<i class="{kind}" style="--at:{at:.2%};--w:{width:.3%}"></i>')
            number = texts[row] if texts else show(series[name][row])
            values_shown.append(f"<span>{escape(number)}</span>")
        kinds = " tail" * (tail and row == len(labels) - 1) + " struck" * (row in struck)
        kinds += " here" * (row == here)
        rows.append(
            f'<div class="row{kinds}"><bdi class="name" title="{escape(label)}">{escape(label)}'
            f'</bdi><span class="track" style="--zero:{-low / span:.2%}">{"".join(marks)}</span>'
            f'<span class="values">{"".join(values_shown)}</span></div>'
        )
    names = "".join(f'<span><i class="key"></i> {escape(name)}</span>' for name in series if name)
    more = " two" if len(series) > 1 else ""
    return (
        f'<div class="bars{more}" role="group" aria-label="{escape(unit)}" tabindex="0">'
        f'<p class="legend">{names}<span>{escape(unit)}</span></p>{"".join(rows)}</div>'
    )


def _log(probability: float) -> float:
    """How far a probability is above 1 in 10^12, in powers of 10."""
    return math.log10(max(probability, 1e-12)) + 12


def cumulative_bar(segments: Sequence[Segment], u: float | None) -> str:
    """One bar from 0 to 1 cut into segments in id order, and where a number falls on it; HTML."""
    parts = [
        f'<span class="{kind}" style="--w:{width:.3%}" '
        f'title="{escape(label)}: {numbers.percent(width)}">'
        f"<bdi>{escape(label) if width > 0.06 else ''}</bdi></span>"
        for label, width, kind in segments
    ]
    # Two digits before the point: by the first one style.css puts the label to the left, from 70 %.
    mark = "" if u is None else f'<i style="--at:{u:07.3%}">u = {u:.4f}</i>'
    return (
        f'<div class="cumulative" role="group" aria-label="cumulative probability, in id order">'
        f"{mark}<div>{''.join(parts)}</div></div>"
    )


def stacked_bar_html(sizes: Mapping[str, float], message: str, show: Callable[[float], str]) -> str:
    """One bar with the parts side by side, a legend with the numbers, and the message on top.

    `show` writes a size, for legend and tooltip.
    """
    total = sum(sizes.values()) or 1
    legend = "".join(
        f'<li><span class="swatch" style="background:{PARTS[index]}"></span>'
        f"{escape(name)} <b>{numbers.percent(size / total)}</b> "
        f"<small>{escape(show(size))}</small></li>"
        for index, (name, size) in enumerate(sizes.items())
    )
    return (
        f'<figure class="arch-bar"><figcaption>{escape(message)}</figcaption>'
        f'<svg width="100%" height="36" role="img" aria-label="{escape(message)}">'
        f'{_pieces(sizes, 100 / total, 36, show)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def meter_html(sizes: Mapping[str, float], capacity: float, label: str, text: str) -> str:
    """The same parts, in bytes, against a capacity: a bar that fills, or overflows and says so."""
    total = sum(sizes.values())
    scale = 100 / max(total, capacity)
    end = capacity * scale
    over = " over" if total > capacity else ""
    return (
        f'<div class="arch-meter{over}"><div><span>{escape(label)}</span> '
        f"<b>{escape(text)}</b></div>"
        f'<svg width="100%" height="14" role="img" aria-label="{escape(f"{label}: {text}")}">'
        f"{_pieces(sizes, scale, 14, numbers.mib_and_mb)}"
        f'<line class="limit" x1="{end:.3f}%" x2="{end:.3f}%" y1="0" y2="14"/></svg></div>'
    )


def _pieces(
    sizes: Mapping[str, float], scale: float, height: int, show: Callable[[float], str]
) -> str:
    """A rectangle a part, `scale` per cent of the width for each unit of its size."""
    pieces, start = [], 0.0
    for index, (name, size) in enumerate(sizes.items()):
        width = size * scale
        if width:
            pieces.append(
                f'<rect x="{start:.4f}%" y="0" width="{width:.4f}%" height="{height}" '
                f'fill="{PARTS[index]}"><title>{escape(f"{name}: {show(size)}")}</title></rect>'
            )
        start += width
    return "".join(pieces)
