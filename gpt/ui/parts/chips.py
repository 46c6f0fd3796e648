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


# A click on what has the attribute KEY is told with all of its data-* values. A view that is drawn
# again would drop the keyboard's focus: it goes back to the same KEY.
CHOOSE_JS = """
let focused = null;
element.addEventListener('click', (event) => {
  const chosen = event.target.closest('[KEY]');
  if (chosen) trigger('select', {...chosen.dataset});
});
element.addEventListener('focusin', (event) => {
  const button = event.target.closest('[KEY]');
  focused = button && button.getAttribute('KEY');
});
element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = null; });
watch('value', () => {
  if (focused === null || document.activeElement !== document.body) return;
  element.querySelector(`[KEY="${focused}"]`)?.focus({preventScroll: true});
});
"""

# The script of a gr.HTML component whose html_template holds one row of `chip_html`. The row is one
# Tab stop; arrow keys, Home and End move in it, the space bar asks for the next token. The chip
# that has the focus, or was clicked or tapped, is marked, and its position goes with `select`, once
# for an arrow key that is held: answers to many at once come in any order.
# `watch` runs after gradio has put the server's attributes back, at each update of the row; until a
# chip is chosen, a row with a scroll bar of its own shows the newest.
ROVING_JS = """
let at = null, before = 0, asking;
const chips = () => [...element.querySelectorAll('.chip')];
const mark = () => chips().forEach((chip, i) => {
  chip.tabIndex = i === (at ?? 0) ? 0 : -1;
  chip.classList.toggle('selected', i === at);
});
const from = (event) => chips().indexOf(event.target.closest('.chip'));
['click', 'focusin'].forEach((name) => element.addEventListener(name, (event) => {
  const i = from(event);
  if (i < 0 || (i === at && name === 'focusin')) return;
  const known = i === at && chips()[i].title === element.dataset.told;
  at = i;
  mark();
  element.dataset.told = chips()[i].title;
  if (known) return;
  clearTimeout(asking);
  asking = setTimeout(() => trigger('select', {position: i}), 80);
}));
element.addEventListener('keydown', (event) => {
  const here = from(event), last = chips().length - 1;
  const to = {ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last}[event.key];
  if (here < 0 || (to === undefined && event.key !== ' ')) return;
  event.preventDefault();
  if (event.key === ' ') document.getElementById('gen-next')?.click();
  else chips()[Math.min(Math.max(to, 0), last)].focus();
});
watch('value', () => {
  if (at !== null && !chips()[at]) at = null;
  mark();
  const box = element.closest('.block');
  if (at === null && box && before) box.scrollTop = box.scrollHeight;
  before = chips().length;
});
"""


def token_title(position: int, token_id: int, raw: bytes, extra: str = "") -> str:
    """The tooltip of a token: position (from 0), id, bytes, and what else is known."""
    hexes = raw.hex(" ") if len(raw) <= 16 else raw[:16].hex(" ") + " …"
    text = f"position {position}, id {token_id:,}, bytes {hexes}"
    return f"{text}, {extra}" if extra else text


def chip_html(position: int, chip: Chip, attributes: str = 'type="button" tabindex="-1"') -> str:
    """One chip as a button; `data-position` is its key."""
    classes = "chip special" if chip.special else "chip"
    shade = "" if chip.shade is None else f' style="--shade:{min(max(chip.shade, 0), 1):.3f}"'
    return (
        f'<button class="{classes}" data-position="{position}" title="{escape(chip.title)}"'
        f"{shade} {attributes}><bdi>{escape(chip.label)}</bdi></button>"
    )


def chips_html(chips: Sequence[Chip], label: str, selected: int | None = None) -> str:
    """The chips in reading order as HTML, the selected one pressed; `label` names the group."""
    boxes = []
    for position, chip in enumerate(chips):
        pressed = str(position == selected).lower()
        box = chip_html(position, chip, f'type="button" aria-pressed="{pressed}"')
        if position == selected:
            box = box.replace('class="chip', 'class="chip selected', 1)
        boxes.append(box)
    return f'<div class="chips" role="group" aria-label="{escape(label)}">{"".join(boxes)}</div>'
