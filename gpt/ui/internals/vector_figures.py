"""Figures of single vectors: strips, histograms, curves with points on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from gpt.ui.parts.heat import picture
from gpt.ui.parts.numbers import significant
from gpt.ui.parts.table import Column, csv_link, table_html

WIDTH, HEIGHT, LEFT = 460, 150, 44


def strips(values: np.ndarray, rows: Sequence[str], caption: str) -> str:
    """Rows of numbers as signed strips on one scale, a colour a number; HTML."""
    names = "".join(f'<bdi title="{escape(row)}">{escape(row)}</bdi>' for row in rows)
    high = significant(float(np.nanmax(np.abs(values), initial=0.0)))
    return (
        f'<div class="strips" style="--rows:{len(rows)}"><div class="names">{names}</div>'
        f'<img src="{picture(values, signed=True)}" alt="{escape(caption)}"></div>'
        f'<p class="legend"><span class="ramp signed"></span> −{high} to {high}; '
        f"{values.shape[1]:,} numbers from left to right.</p>"
    )


def xy_plot(
    series: Mapping[str, tuple[str, Sequence[float], Sequence[float]]],
    axes: tuple[str, str],
    said: str,
) -> str:
    """Named series of (kind, x, y) over axes that end at the data, as SVG with a legend; HTML.

    A kind is line, dash, dots or steps, and a class of assets/style.css.
    """
    every = [np.concatenate([each[i] for each in series.values()]) for i in (1, 2)]
    low, high = ([float(f(numbers)) for numbers in every] for f in (np.min, np.max))
    low[1] = min(low[1], 0.0)
    box = ((LEFT, WIDTH - 8), (HEIGHT - 34, 6))

    def at(axis: int, value: float) -> float:
        start, end = box[axis]
        return start + (end - start) * (value - low[axis]) / (high[axis] - low[axis] or 1)

    parts = [_text(at(0, x), HEIGHT - 20, x) for x in np.linspace(low[0], high[0], 5)[1:-1]]
    tight = -low[1] < 0.12 * (high[1] - low[1])  # its number would lie on that of 0
    for y in (0.0, high[1], *(() if tight else (low[1],))):
        parts.append(f'<path class="grid" d="M{LEFT} {at(1, y):.1f}H{WIDTH - 8}"/>')
        parts.append(_text(LEFT - 22, at(1, y) + 4, y))
    for kind, xs, ys in series.values():
        points = [(at(0, x), at(1, y)) for x, y in zip(xs, ys, strict=True)]
        if kind == "dots":
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
        else:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path class="{kind}" d="M{path}"/>')
    names = "".join(
        f'<span><i class="key {kind}"></i> {escape(name)}</span>'
        for name, (kind, *_) in series.items()
    )
    return (
        f'<figure class="xy"><p class="legend">{escape(axes[1])} {names}</p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{''.join(parts)}{_text((LEFT + WIDTH) / 2, HEIGHT - 4, axes[0])}</svg></figure>"
    )


def _text(x: float, y: float, what: Any) -> str:
    text = what if isinstance(what, str) else significant(float(what), 2)
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def histogram_pair(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> str:
    """How the numbers of two rows are spread, over the same 40 bins; HTML."""
    edges = np.histogram_bin_edges(np.concatenate([first, second]), 40)
    x = np.repeat(edges, 2)
    steps = [
        np.concatenate([[0], np.repeat(np.histogram(values, edges)[0], 2), [0]])
        for values in (first, second)
    ]
    series = {
        name: (kind, x, y)
        for name, kind, y in zip(names, ("steps before", "steps"), steps, strict=True)
    }
    return xy_plot(series, ("value", "numbers"), f"numbers {names[0]} and {names[1]}")


def largest_numbers(name: str, rows: Sequence[str], values: np.ndarray) -> str:
    """The largest of the numbers (rows, d) as a table, all of them as CSV; HTML."""
    columns = [Column("dimension"), *[Column(row, lambda v: significant(v, 4)) for row in rows]]
    every = [(i, *[float(v) for v in values[:, i]]) for i in range(values.shape[1])]
    largest = np.argsort(-np.abs(values).max(axis=0), kind="stable")[:8]
    shown = [every[i] for i in largest]
    caption = f"The 8 largest dimensions of {name}"
    return table_html(columns, shown, caption) + csv_link(
        name, [column.name for column in columns], every
    )
