"""Arcs over a row of words: which words each of them looks at, as SVG."""

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from unicodedata import east_asian_width

import torch

from gpt.ui.parts.numbers import percent

LETTER, GAP, HEIGHT = 8, 10, 120  # px: a letter of the row, between two words, of the arcs
TARGET = 24  # px: what one presses is at least as wide and as high
LEAST = 0.01  # a share below it has no arc
MOST = 16  # arcs of one word


def arcs_html(
    words: Sequence[str], attention: torch.Tensor, position: int, skip: int, of: str
) -> str:
    """The words in a row and, over them, an arc from each to every word that it looks at; HTML.

    `attention` are shares (t, t); the width of an arc is the share. The arcs of the word at
    `position` show at first. With `skip` the first word is looked at by none.
    """
    letters = [sum(1 + (east_asian_width(c) in "WF") for c in word) for word in words]
    slots = [max(LETTER * n + GAP, TARGET) for n in letters]
    *starts, width = accumulate(slots, initial=GAP)
    middles = [start + slot / 2 for start, slot in zip(starts, slots, strict=True)]
    drawn, texts = [], []
    for at, (word, shares) in enumerate(zip(words, attention.tolist(), strict=True)):
        on = " on" if at == position else ""
        seen = [(share, key) for key, share in enumerate(shares[: at + 1]) if share >= LEAST]
        seen = sorted((s for s in seen if s[1] >= skip or at == 0), reverse=True)[:MOST]
        arcs = "".join(_arc(middles[at], middles[key], share) for share, key in seen)
        drawn.append(f'<g class="from{on}" data-from="{at}">{arcs}</g>')
        texts.append(
            f'<g class="word{on}" data-from="{at}" tabindex="0" role="button">'
            f'<rect x="{starts[at]}" y="{HEIGHT + 5}" width="{slots[at]}" height="{TARGET}"/>'
            f'<text x="{middles[at]:.0f}" y="{HEIGHT + 22}">{escape(word)}</text></g>'
        )
    return (
        f'<div class="arcs" data-at="{position}" role="group" aria-label="what each word looks at,'
        f' {escape(of)}"><svg width="{width + GAP}" height="{HEIGHT + 44}" '
        f'viewBox="0 0 {width + GAP} {HEIGHT + 44}">{"".join(drawn + texts)}</svg></div>'
    )


def _arc(start: float, end: float, share: float) -> str:
    """From a word to one before it, or to itself; with the share under the word looked at."""
    path = f"M{start:.0f} {HEIGHT}c-16 -38 16 -38 0 0"
    if reach := start - end:
        above = HEIGHT - 2 * min(HEIGHT - 14, 24 + reach / 3)
        path = f"M{start:.0f} {HEIGHT}Q{(start + end) / 2:.0f} {above:.0f} {end:.0f} {HEIGHT}"
    return (
        f'<path d="{path}" style="--s:{share:.3f}"><title>{percent(share)}</title></path>'
        f'<text class="share" x="{end:.0f}" y="{HEIGHT + 38}">{100 * share:.0f} %</text>'
    )
