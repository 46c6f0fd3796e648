"""Tables, bars and sentences as HTML fragments; every text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gpt.ui.parts.numbers import percent
from gpt.ui.parts.plots import PARTS


@dataclass(frozen=True)
class Cell:
    """A cell: its text, whether it is a number, code, a heading of a row, or a difference."""

    text: str
    kind: str = ""  # classes of assets/style.css: number, code, strong, differs


@dataclass(frozen=True)
class Row:
    """Cells of a row; `kind` "group" or "total" sets it apart."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Share:
    """A part of a stacked bar: name, size, and the text for its tooltip and legend."""

    name: str
    value: float
    text: str


def row(*texts: str, kind: str = "", numbers: Sequence[int] = ()) -> Row:
    """A row of plain texts; the columns `numbers` are set as numbers."""
    cells = [Cell(text, "number" if i in numbers else "") for i, text in enumerate(texts)]
    return Row(tuple(cells), kind)


def table_html(headers: Sequence[str], rows: Sequence[Row], caption: str) -> str:
    """A table whose rows become cards on a narrow page, with its caption."""
    head = "".join(
        f'<th scope="col"{_heading_class(rows, index)}>{escape(header)}</th>'
        for index, header in enumerate(headers)
    )
    body = []
    for line in rows:
        cells = []
        for index, cell in enumerate(line.cells):
            tag = 'th scope="row"' if index == 0 else "td"
            label = f' data-label="{escape(headers[index])}"' if index else ""
            kind = f' class="{cell.kind}"' if cell.kind else ""
            cells.append(f"<{tag}{kind}{label}>{escape(cell.text)}</{tag.split()[0]}>")
        kind = f' class="{line.kind}"' if line.kind else ""
        body.append(f"<tr{kind}>{''.join(cells)}</tr>")
    return (
        f'<table class="arch-table"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def stacked_bar_html(shares: Sequence[Share], message: str) -> str:
    """One bar with the parts side by side, a legend with the numbers, and the message on top."""
    total = sum(share.value for share in shares) or 1
    pieces, legend, start = [], [], 0.0
    for index, share in enumerate(shares):
        width = 100 * share.value / total
        colour = PARTS[index % len(PARTS)]
        title = escape(f"{share.name}: {share.text}, {percent(share.value / total)}")
        if share.value:
            pieces.append(
                f'<rect x="{start:.4f}%" y="0" width="{width:.4f}%" height="36" fill="{colour}">'
                f"<title>{title}</title></rect>"
            )
        legend.append(
            f'<li><span class="swatch" style="background:{colour}"></span>{escape(share.name)} '
            f"<b>{percent(share.value / total)}</b> <small>{escape(share.text)}</small></li>"
        )
        start += width
    return (
        f'<figure class="arch-bar"><figcaption>{escape(message)}</figcaption>'
        f'<svg width="100%" height="36" role="img" aria-label="{escape(message)}">'
        f'{"".join(pieces)}</svg><ul class="legend">{"".join(legend)}</ul></figure>'
    )


def meter_html(shares: Sequence[Share], capacity: float, label: str, text: str) -> str:
    """The same parts against a capacity: a bar that fills, or overflows and says so."""
    total = sum(share.value for share in shares)
    scale = 100 / max(total, capacity)
    pieces, start = [], 0.0
    for index, share in enumerate(shares):
        width = share.value * scale
        pieces.append(
            f'<rect x="{start:.4f}%" y="0" width="{width:.4f}%" height="14" '
            f'fill="{PARTS[index % len(PARTS)]}"><title>{escape(share.name)}: '
            f"{escape(share.text)}</title></rect>"
        )
        start += width
    end = capacity * scale
    pieces.append(f'<line class="limit" x1="{end:.3f}%" x2="{end:.3f}%" y1="0" y2="14"/>')
    over = " over" if total > capacity else ""
    return (
        f'<div class="arch-meter{over}"><div><span>{escape(label)}</span> '
        f"<b>{escape(text)}</b></div>"
        f'<svg width="100%" height="14" role="img" aria-label="{escape(f"{label}: {text}")}">'
        f"{''.join(pieces)}</svg></div>"
    )


def note_html(text: str, kind: str = "hint") -> str:
    """One line of explanation; `kind` is a class of assets/style.css."""
    return f'<p class="{kind}">{escape(text)}</p>'


def _heading_class(rows: Sequence[Row], column: int) -> str:
    """Headings of columns of numbers stand to the right, as the numbers do."""
    numeric = any("number" in line.cells[column].kind for line in rows)
    return ' class="number"' if numeric else ""
