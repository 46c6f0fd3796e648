"""Parts of a total as HTML: one stacked bar with its legend, and the same against a capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpt.ui.parts.colours import PARTS
from gpt.ui.parts.numbers import percent


@dataclass(frozen=True)
class Share:
    """A part of a stacked bar: name, size, and the text for its tooltip and legend."""

    name: str
    value: float
    text: str


def stacked_bar_html(shares: Sequence[Share], message: str) -> str:
    """One bar with the parts side by side, a legend with the numbers, and the message on top."""
    total = sum(share.value for share in shares) or 1
    legend = "".join(
        f'<li><span class="swatch" style="background:{PARTS[index % len(PARTS)]}"></span>'
        f"{escape(share.name)} <b>{percent(share.value / total)}</b> "
        f"<small>{escape(share.text)}</small></li>"
        for index, share in enumerate(shares)
    )
    return (
        f'<figure class="arch-bar"><figcaption>{escape(message)}</figcaption>'
        f'<svg width="100%" height="36" role="img" aria-label="{escape(message)}">'
        f'{_pieces(shares, 100 / total, 36)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def meter_html(shares: Sequence[Share], capacity: float, label: str, text: str) -> str:
    """The same parts against a capacity: a bar that fills, or overflows and says so."""
    total = sum(share.value for share in shares)
    scale = 100 / max(total, capacity)
    end = capacity * scale
    over = " over" if total > capacity else ""
    return (
        f'<div class="arch-meter{over}"><div><span>{escape(label)}</span> '
        f"<b>{escape(text)}</b></div>"
        f'<svg width="100%" height="14" role="img" aria-label="{escape(f"{label}: {text}")}">'
        f"{_pieces(shares, scale, 14)}"
        f'<line class="limit" x1="{end:.3f}%" x2="{end:.3f}%" y1="0" y2="14"/></svg></div>'
    )


def _pieces(shares: Sequence[Share], scale: float, height: int) -> str:
    """A rectangle a share, `scale` per cent of the width for each unit of its value."""
    pieces, start = [], 0.0
    for index, share in enumerate(shares):
        width = share.value * scale
        if width:
            pieces.append(
                f'<rect x="{start:.4f}%" y="0" width="{width:.4f}%" height="{height}" '
                f'fill="{PARTS[index % len(PARTS)]}"><title>'
                f"{escape(f'{share.name}: {share.text}')}</title></rect>"
            )
        start += width
    return "".join(pieces)
