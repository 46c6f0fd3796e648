"""What a figure draws: positions, sizes, labels, colours and masks, against the arrays given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpt.ui.parts.bars import bars, dots
from gpt.ui.parts.heat import MASKED, heat_map, heat_table
from gpt.ui.parts.plots import AGAINST, FOR, HUE, MUTED, PARTS, plain

LABELS = ["·the", "·a", "·\"an'", "a<b&c"]


def test_ranked_bars_stand_in_the_order_given_with_their_number_and_a_grey_tail() -> None:
    figure = bars(LABELS, {"": [0.5, 0.25, 0.125, 0.125]}, "share", texts=list("wxyz"), tail=True)
    (bar,) = figure.data
    assert list(bar.x) == [0.5, 0.25, 0.125, 0.125]
    assert list(bar.y) == [0, 1, 2, 3]
    assert list(bar.text) == list("wxyz")
    assert bar.textposition == "outside"
    assert list(bar.marker.color) == [HUE, HUE, HUE, MUTED]
    assert figure.layout.yaxis.autorange == "reversed"  # the first label is on top
    assert list(figure.layout.yaxis.tickvals) == [0, 1, 2, 3]
    assert list(figure.layout.yaxis.ticktext) == [plain(label) for label in LABELS]
    assert list(bar.customdata) == [plain(label) for label in LABELS]
    assert figure.layout.xaxis.title.text == "share"
    low, high = figure.layout.xaxis.range
    assert low == 0
    assert high > 0.5  # room for the number


def test_signed_bars_are_blue_for_and_red_against() -> None:
    (bar,) = bars(["a", "b", "c"], {"": [1.5, -0.25, 0.0]}, "logit", signed=True).data
    assert list(bar.marker.color) == [FOR, AGAINST, FOR]
    assert (FOR, AGAINST) == ("#2166ac", "#b2182b")
    assert list(bar.text) == ["+1.50", "−0.250", "0"]


def test_paired_bars_keep_names_values_and_colours_together() -> None:
    figure = bars(["a", "b"], {"with": [1, 2], "without": [3, 4]}, "%")
    first, second = figure.data
    assert (first.name, list(first.x), first.marker.color) == ("with", [1, 2], HUE)
    assert (second.name, list(second.x), second.marker.color) == ("without", [3, 4], PARTS[1])
    assert figure.layout.showlegend
    assert list(figure.layout.xaxis.range) == [0, 4]


def test_dots_are_on_a_log_axis_and_zero_is_not_lost() -> None:
    figure = dots(["a", "b"], {"x": [0.5, 0.0], "y": [0.25, 1e-6]})
    assert [list(trace.x) for trace in figure.data] == [[0.5, 1e-12], [0.25, 1e-6]]
    assert figure.layout.xaxis.type == "log"
    ticks = dict(zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True))
    assert ticks[0.01] == "1 %"


def test_a_double_quote_in_a_label_is_a_double_quote() -> None:
    """`&quot;` was read: plotly decodes `&amp;`, `&lt;`, `&gt;` and numbers, and nothing else."""
    assert plain("\"quoted\" 'it' a<b>&c") == "\"quoted\" 'it' a&lt;b&gt;&amp;c"
    figures = [
        bars(LABELS, {"": [1, 2, 3, 4]}, "x"),
        bars(LABELS, {'"n"': [1, 2, 3, 4], "m": [1, 2, 3, 4]}, "x"),
        dots(LABELS, {"x": [0.5] * 4, "y": [0.1] * 4}),
        heat_map(np.eye(4), LABELS, LABELS, ("r", "c"), "u"),
    ]
    for figure in figures:
        text = figure.to_json()
        assert "&quot;" not in text
        assert "&#x27;" not in text
        assert "·\\\"an'" in text or "·\\u0022an'" in text
        assert "a<b" not in text


def test_a_figure_has_no_title_and_the_house_s_look() -> None:
    """gradio sets the top margin to 100 px where `title` is there, even if empty: 88 px lost."""
    for figure in (bars(["a"], {"": [1]}, "x"), heat_map(np.eye(2), "ab", "ab", ("r", "c"), "u")):
        layout = json.loads(figure.to_json())["layout"]
        assert "title" not in layout
        assert "title" not in layout["template"]["layout"]
        assert layout["template"]["layout"]["margin"]["t"] == 36
        assert {"zoom", "select", "lasso"} <= set(layout["template"]["layout"]["modebar"]["remove"])
        assert layout["height"] >= 100


def test_a_heat_map_draws_its_array_and_greys_what_is_masked() -> None:
    z = np.array([[0.25, 0.75], [0.5, 0.125]])
    hidden = np.array([[False, True], [False, False]])
    axes = ("row", "column")
    figure = heat_map(z, ["r0", "r1"], ["c0", "c1"], axes, "share", masked=hidden, top=1.0)
    mask, cells = figure.data
    assert np.array_equal(cells.z, [[0.25, np.nan], [0.5, 0.125]], equal_nan=True)
    assert np.array_equal(np.isnan(mask.z), ~hidden)
    assert (figure.layout.yaxis.ticktext, figure.layout.xaxis.ticktext) == (
        ("r0", "r1"),
        ("c0", "c1"),
    )
    assert {colour for _, colour in mask.colorscale} == {MASKED}
    assert (cells.zmin, cells.zmax) == (0, 1.0)
    assert [colour for _, colour in cells.colorscale] == [
        "rgba(59,125,216,0)",
        "rgba(59,125,216,0.7)",
    ]


def test_a_signed_heat_map_is_symmetric_about_0_and_blue_where_positive() -> None:
    (cells,) = heat_map(np.array([[1.0, -4.0]]), ["r"], ["a", "b"], ("", ""), "x", signed=True).data
    assert (cells.zmin, cells.zmax) == (-4, 4)
    assert [colour for _, colour in cells.colorscale] == [
        "rgba(178,24,43,0.55)",
        "rgba(123,130,144,0)",
        "rgba(33,102,172,0.55)",
    ]


@pytest.mark.parametrize(("shade", "style"), [(0.0, "0.00"), (0.5, "0.50"), (1.7, "1.00")])
def test_a_heat_table_shades_each_cell_by_its_number(shade: float, style: str) -> None:
    html = heat_table("c", ["r"], ["x", "<y>"], [[shade, 0.25]], [["·a", "<b>"]], [["t", "u"]], 1)
    assert f'<td style="--s:{style}" title="t">·a</td>' in html
    assert '<td style="--s:0.25" class="here" title="u">&lt;b&gt;</td>' in html
