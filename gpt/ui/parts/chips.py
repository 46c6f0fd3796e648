"""Token chips: one box a token, keyed by position, every character escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Chip:
    """What one chip shows and says: its label, a tooltip, and a shade from 0 to 1 if any."""

    label: str
    title: str
    shade: float | None = None
    special: bool = False


def token_title(position: int, token_id: int, raw: bytes, extra: str = "") -> str:
    """The tooltip of a token: position (from 0), id, bytes, and what else is known."""
    hexes = raw.hex(" ") if len(raw) <= 16 else raw[:16].hex(" ") + " …"
    text = f"position {position}, id {token_id:,}, bytes {hexes}"
    return f"{text}, {extra}" if extra else text


def chips_html(
    chips: Sequence[Chip], label: str, selected: int | None = None, clickable: bool = False
) -> str:
    """The chips in reading order as HTML; `data-position` is the key, `label` names the group."""
    tag = "button" if clickable else "span"
    boxes = []
    for position, chip in enumerate(chips):
        classes = "chip" + (" special" if chip.special else "")
        classes += " selected" if position == selected else ""
        shade = "" if chip.shade is None else f' style="--shade:{min(max(chip.shade, 0), 1):.3f}"'
        focus = ' tabindex="0"'
        if clickable:
            focus = f' type="button" aria-pressed="{str(position == selected).lower()}"'
        boxes.append(
            f'<{tag} class="{classes}" data-position="{position}" title="{escape(chip.title)}"'
            f"{shade}{focus}><bdi>{escape(chip.label)}</bdi></{tag}>"
        )
    return f'<div class="chips" role="group" aria-label="{escape(label)}">{"".join(boxes)}</div>'
