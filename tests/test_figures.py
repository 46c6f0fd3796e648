"""What a figure draws: positions, sizes, labels, colours and masks, against the arrays given."""

import base64
import io
import json
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpt.ui.internals.vector_figures import histogram_pair
from gpt.ui.parts.bars import bars, cumulative_bar
from gpt.ui.parts.colours import AGAINST, FOR, HUE
from gpt.ui.parts.heat import heat_table, picture

LABELS = ["·the", "·a", "·\"an'", "a<b&c"]


def rows_of(html: str) -> list[list[str]]:
    """Each row of bars: its classes, label, the kinds and widths of its bars, its numbers."""
    found = []
    for row in html.split('<div class="row')[1:]:
        kinds = row.split('"')[0].split()
        label = re.findall(r'class="name" title="([^"]*)"', row)
        bars = re.findall(r'<i class="(\w+)" style="--at:([\d.]+%);--w:([\d.]+%)"', row)
        found.append([kinds, label, [" ".join(bar) for bar in bars],
                      re.findall(r"<span>([^<]*)</span>", row)])  # fmt: skip
    return found


def test_ranked_bars_stand_in_the_order_given_with_their_number_and_a_grey_tail() -> None:
    values = [0.5, 0.25, 0.125, 0.125]
    html = bars(LABELS, {"": values}, "share", texts=list("wxyz"), tail=True, struck=[1])
    kinds, labels, drawn, numbers = zip(*rows_of(html), strict=True)
    assert list(kinds) == [[], ["struck"], [], ["tail"]]
    assert [label for (label,) in labels] == [escape(label) for label in LABELS]
    assert [bar for (bar,) in drawn] == [
        f"bar 0.00% {width}%" for width in ("100.000", "50.000", "25.000", "25.000")
    ]
    assert [number for (number,) in numbers] == list("wxyz")
    assert 'aria-label="share"' in html


def test_signed_bars_are_blue_for_and_red_against_and_begin_at_zero() -> None:
    rows = rows_of(bars(["a", "b", "c"], {"": [1.5, -0.5, 0.0]}, "logit", signed=True))
    assert [row[2] for row in rows] == [
        ["for 25.00% 75.000%"], ["against 0.00% 25.000%"], ["for 25.00% 0.000%"]
    ]  # fmt: skip
    assert [row[3] for row in rows] == [["+1.50"], ["−0.500"], ["0"]]


def test_paired_bars_keep_names_and_values_together() -> None:
    html = bars(["a", "b"], {"with": [1, 2], "<without>": [3, 4]}, "%")
    assert [row[2] for row in rows_of(html)] == [
        ["bar 0.00% 25.000%", "bar 0.00% 75.000%"], ["bar 0.00% 50.000%", "bar 0.00% 100.000%"]
    ]  # fmt: skip
    names = re.findall(r'class="key"></i> ([^<]*)</span>', html)
    assert names == ["with", "&lt;without&gt;"]


def test_a_log_axis_gives_each_factor_of_ten_the_same_length_and_keeps_zero() -> None:
    rows = rows_of(bars(["a", "b"], {"x": [1.0, 0.0], "y": [1e-6, 1e-3]}, "p", log=True))
    assert [row[2] for row in rows] == [
        ["bar 0.00% 100.000%", "bar 0.00% 50.000%"], ["bar 0.00% 0.000%", "bar 0.00% 75.000%"]
    ]  # fmt: skip
    assert [row[3] for row in rows] == [["1.00", "1.00e−06"], ["0", "0.00100"]]


@pytest.mark.parametrize(
    ("u", "turned"), [(0.0, False), (0.0712, False), (0.0999, False), (0.6999, False), (0.7, True)]
)
def test_the_number_on_the_cumulative_bar_stands_to_the_left_of_its_mark_from_70_on(
    u: float, turned: bool
) -> None:
    """From 7 to 10 % too, as its first digit told: on a phone it began outside the page."""
    css = (Path(__file__).parent.parent / "assets" / "style.css").read_text()
    starts = re.findall(r'\.cumulative i\[style\*="(--at:\d)"\]', css)
    assert len(starts) == 3
    bar = cumulative_bar([("all", 1.0, "many")], u)
    assert any(start in bar for start in starts) == turned


def test_a_figure_has_no_title_and_the_house_s_look() -> None:
    """gradio sets the top margin to 100 px where `title` is there, even if empty: 88 px lost."""
    layout = json.loads(histogram_pair(np.ones(3), np.zeros(3)).to_json())["layout"]
    assert "title" not in layout
    assert "title" not in layout["template"]["layout"]
    assert layout["template"]["layout"]["margin"]["t"] == 36
    assert {"zoom", "select", "lasso"} <= set(layout["template"]["layout"]["modebar"]["remove"])
    assert layout["height"] >= 100


def pixels_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_a_picture_is_clear_where_it_is_zero_and_not_a_number() -> None:
    """Heat maps stayed white in the dark theme: nothing glowed most."""
    pixels = pixels_of(picture(np.array([[0.25, np.nan], [0.0, 1.0]])))
    assert pixels[..., 3].tolist() == [[128, 0], [0, 255]]  # the square root of the share
    assert tuple(pixels[1, 1, :3]) == tuple(bytes.fromhex(HUE[1:]))


def test_a_signed_picture_is_symmetric_about_0_and_blue_where_positive() -> None:
    pixels = pixels_of(picture(np.array([[1.0, -4.0, np.nan]]), signed=True))
    assert pixels[0, :, 3].tolist() == [64, 255, 0]
    assert tuple(pixels[0, 0, :3]) == tuple(bytes.fromhex(FOR[1:]))
    assert tuple(pixels[0, 1, :3]) == tuple(bytes.fromhex(AGAINST[1:]))


@pytest.mark.parametrize(("shade", "style"), [(0.0, "0.00"), (0.5, "0.50"), (1.7, "1.00")])
def test_a_heat_table_shades_each_cell_by_its_number(shade: float, style: str) -> None:
    html = heat_table("c", ["r"], ["x", "<y>"], [[shade, 0.25]], [["·a", "<b>"]], 1, [["t", "u"]])
    assert f'<td style="--s:{style}" title="r, x: ·a, t">·a</td>' in html
    told = "r, &lt;y&gt;: &lt;b&gt;, u"
    assert f'<td style="--s:0.25" class="here" title="{told}">&lt;b&gt;</td>' in html


def test_a_heat_table_is_red_where_it_is_negative() -> None:
    html = heat_table("c", ["r"], ["x"], [[-0.5]], [["−1"]], 0)
    assert '<td style="--s:0.50" class="here against" title="r, x: −1">−1</td>' in html
