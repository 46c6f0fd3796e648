"""Token chips: one box a token, keyed by position, every character escaped."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Chip:
    """What one chip shows and says: its label, a tooltip, and a shade from 0 to 1 if any."""

    label: str
    title: str
    shade: float | None = None
    special: bool = False


# Scripts of gr.HTML components; assets/page.js says what each does. KEY is an attribute.
CHOOSE_JS = "gptPage.choose(element, trigger, watch, 'KEY');\n"
ROVING_JS = "gptPage.roving(element, trigger, watch);\n"


@functools.lru_cache(maxsize=2**16)
def display(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as shown; an id beyond the tokenizer's vocabulary as ⟨id⟩."""
    if token_id >= tokenizer.vocab_size:
        return f"⟨{token_id}⟩"
    return tokenizer.piece(token_id)


def token_title(position: int, token_id: int, raw: bytes, extra: str = "") -> str:
    """The tooltip of a token: position (from 0), id, bytes, and what else is known."""
    hexes = raw.hex(" ") if len(raw) <= 16 else raw[:16].hex(" ") + " …"
    text = f"position {position}, id {token_id:,}, hexadecimal bytes {hexes}"
    return f"{text}, {extra}" if extra else text


def chip_html(position: int, chip: Chip, pressed: bool | None = None) -> str:
    """One chip as a button; `data-position` is its key.

    `pressed` says whether it is the chosen one; None: in a row that ROVING_JS makes one Tab stop.
    """
    classes = "chip" + " selected" * bool(pressed) + " special" * chip.special
    shade = "" if chip.shade is None else f' style="--shade:{min(max(chip.shade, 0), 1):.3f}"'
    state = 'tabindex="-1"' if pressed is None else f'aria-pressed="{str(pressed).lower()}"'
    return (
        f'<button class="{classes}" data-position="{position}" title="{escape(chip.title)}"'
        f'{shade} type="button" {state}><bdi>{escape(chip.label)}</bdi></button>'
    )


def chips_html(
    chips: Sequence[Chip], label: str, selected: int | None = None, roving: bool = False
) -> str:
    """The chips in reading order as HTML, the selected one pressed; `label` names the group.

    `roving`: they are one Tab stop, in which ROVING_JS moves.
    """
    boxes = (chip_html(i, c, None if roving else i == selected) for i, c in enumerate(chips))
    return f'<div class="chips" role="group" aria-label="{escape(label)}">{"".join(boxes)}</div>'
