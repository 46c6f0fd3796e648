"""Tables, their CSV, sentences and chips: what stands in the page's HTML."""

import csv
import io
import re

import pytest

from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import percent
from gpt.ui.parts.sentences import formula, say
from gpt.ui.parts.table import Column, code_column, csv_text, table_html

COLUMNS = (Column("rank"), "token", Column("chance", percent), code_column("formula"))
ROWS = [(1, "·the", 0.5, "a*b"), (1298, "<b>", 0.25, ""), (None, "others", None, "")]


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html)[1:]
    return [re.findall(r"<bdi>(.*?)</bdi>", row) for row in rows]


def test_a_table_shows_each_value_as_its_column_says_and_escapes_it() -> None:
    html = table_html(COLUMNS, ROWS, "a<b", kinds={1: "struck"})
    assert cells(html) == [
        ["1", "·the", "50.0 %", "a*b"],
        ["1,298", "&lt;b&gt;", "25.0 %", ""],
        ["", "others", "", ""],
    ]
    assert html.count('<tr class="struck">') == 1
    assert "<caption>a&lt;b</caption>" in html
    assert '<th scope="col" class="text">token</th>' in html
    assert "csv" not in html


def test_the_csv_of_a_table_holds_the_numbers_and_not_their_looks() -> None:
    """`draws.csv` said "1,298", which a program reads as a text."""
    rows = list(
        csv.reader(io.StringIO(csv_text(["rank", "token", "chance"], [(1298, "x", 1 / 3)])))
    )
    assert rows == [["rank", "token", "chance"], ["1298", "x", repr(1 / 3)]]
    assert 'download="draws.csv"' in table_html(COLUMNS, ROWS, "c", csv_name="draws")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_run_is_made_inert(text: str) -> None:
    """The token `=HYPERLINK(...)` was a formula once the file was opened."""
    ((cell, number),) = list(
        csv.reader(io.StringIO(csv_text(["x", "y"], [(text, -1.5)]), newline=""))
    )[1:]
    assert cell == "'" + text
    assert number == "-1.5"


def test_quotes_commas_and_line_ends_survive_the_csv() -> None:
    assert csv_text(["h"], [['a"b,c'], [0.1], [None]]) == 'h\r\n"a""b,c"\r\n0.1\r\n""\r\n'


def test_sentences_are_escaped() -> None:
    assert say("a<b", "hint") == '<p class="hint">a&lt;b</p>'
    assert "<span>x &lt; 1</span><br><span>&amp;</span>" in formula("x < 1", "&")


def test_a_chip_is_as_dark_as_its_number_and_tells_what_it_knows() -> None:
    title = token_title(3, 50256, b"<|endoftext|>x", "8.44 %")
    assert title.startswith("position 3, id 50,256, hexadecimal bytes 3c 7c 65")
    assert title.endswith(", 8.44 %")
    html = chips_html([Chip("·a", "t", 0.25), Chip("<b>", title, 2.0, special=True)], "Tokens", 1)
    first, second = re.findall(r"<button .*?</button>", html)
    assert "--shade:0.250" in first
    assert 'data-position="0"' in first
    assert set(re.search(r'class="(.*?)"', second)[1].split()) == {"chip", "special", "selected"}
    assert f'title="{title}"' in second
    assert "--shade:1.000" in second
    assert "&lt;b&gt;" in second
