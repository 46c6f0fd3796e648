"""Parts of a total as HTML: one stacked bar with its legend, and the same against a capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape

from gpt.ui.parts.colours import PARTS
from gpt.ui.parts.numbers import mib_and_mb, percent


def stacked_bar_html(sizes: Mapping[str, float], message: str, show: Callable[[float], str]) -> str:
    """One bar with the parts side by side, a legend with the numbers, and the message on top.

    `show` writes a size, for legend and tooltip.
    """
    total = sum(sizes.values()) or 1
    legend = "".join(
        f'<li><span class="swatch" style="background:{PARTS[index]}"></span>'
        f"{escape(name)} <b>{percent(size / total)}</b> <small>{escape(show(size))}</small></li>"
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
        f"{_pieces(sizes, scale, 14, mib_and_mb)}"
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
