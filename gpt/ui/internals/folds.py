"""What is folded under a view: its numbers, and the lines of code that computed them."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_KINDS = re.compile(
    r"""(?P<remark>\#.*)|(?P<text>[rbf]?("[^"\n]*"|'[^'\n]*'))|(?P<figure>\b\d[\w.]*)"""
    rf"|\b(?P<word>{'|'.join(keyword.kwlist)})\b"
)


def folded(title: str, inner: str) -> str:
    """`inner` (HTML) under a line that opens it."""
    return f'<details class="fold"><summary>{escape(title)}</summary>{inner}</details>'


def numbers(*tables: str) -> str:
    """Tables and their CSV links, folded."""
    return folded("Numbers", "".join(tables))


@dataclass(frozen=True)
class Code:
    """Lines of a function of gpt/: all but its docstring, or those from one text to another."""

    function: Callable[..., Any]
    first: str = ""
    last: str = ""

    def lines(self) -> tuple[str, int, list[str]]:
        """File, number of the first line, and the lines, read from the program that runs."""
        function = inspect.unwrap(self.function)
        source, start = inspect.getsourcelines(function)
        file = Path(inspect.getsourcefile(function) or "").relative_to(ROOT).as_posix()
        (node,) = ast.parse(textwrap.dedent("".join(source))).body
        statement, documented = node.body[0], ast.get_docstring(node) is not None
        begin, end = statement.end_lineno if documented else statement.lineno - 1, len(source)
        if self.first:
            begin = next(i for i in range(begin, end) if self.first in source[i])
        if self.last:
            end = 1 + next(i for i in range(begin, end) if self.last in source[i])
        return file, start + begin, source[begin:end]


def code_html(parts: Sequence[Code]) -> str:
    """The lines that computed a section, highlighted, folded under `</> code`."""
    blocks = []
    for part in parts:
        file, start, lines = part.lines()
        text = escape(textwrap.dedent("".join(lines)).rstrip(), quote=False)
        shown = _KINDS.sub(lambda found: f'<span class="{found.lastgroup}">{found[0]}</span>', text)
        blocks.append(
            f'<p class="legend">{escape(part.function.__qualname__)}, {escape(file)}:{start}</p>'
            f'<pre class="code" tabindex="0"><code>{shown}</code></pre>'
        )
    return folded("</> code", "".join(blocks))
