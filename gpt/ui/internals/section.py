"""A section of the tab as data, what is folded in it, and the components of one on the page."""

import ast
import asyncio
import inspect
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from gpt.ui.internals.lab import Focus, Lab, at_most
from gpt.ui.parts.sentences import say
from gpt.ui.visit import AT_ONCE

Make = Callable[[], Component]
Values = dict[Component, Any]  # what a handler gets, and what it yields
Steps = Generator[str, None, str]  # what a view is that says how far it is
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
        statement = node.body[ast.get_docstring(node) is not None]
        begin, end = statement.lineno - 1, len(source)
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
        blocks.append(say(f"{part.function.__qualname__}, {file}:{start}", "legend"))
        blocks.append(f'<pre class="code" tabindex="0"><code>{shown}</code></pre>')
    return folded("</> code", "".join(blocks))


def html(elem_id: str, value: str = "", js: str = "") -> Make:
    return partial(
        gr.HTML, value, elem_id=elem_id, js_on_load="gptPage.keepUnfolded(element, watch);\n" + js
    )


def _maker(kind: type[Component], **usual: Any) -> Callable[..., Make]:
    """A function of id, label and what else `kind` takes, `usual` where that is not given."""

    def make(elem_id: str, label: str, *values: Any, **given: Any) -> Make:
        return partial(kind, *values, elem_id=elem_id, label=label, **{**usual, **given})

    return make


plot = _maker(gr.Plot, min_width=340)
text_box = _maker(gr.Textbox, min_width=240)
number_box = _maker(gr.Number, precision=0)
dropdown = _maker(gr.Dropdown)
slider = _maker(gr.Slider)


def token_box(elem_id: str, label: str = "Token") -> Make:
    return text_box(elem_id, label, info="A token or its id; leave empty for the top one.")


def radio(elem_id: str, label: str, choices: Iterable[str], **given: Any) -> Make:
    """One of `choices`; the first at first."""
    first, *_ = choices = list(choices)
    return partial(gr.Radio, choices, value=first, label=label, elem_id=elem_id, **given)


# Controls of these names have as many choices as the model of the pass in a field of GPTConfig;
# a view is given a number below that.
OF_MODEL = {"layer": "n_layers", "head": "n_heads"}
layer_box = partial(dropdown, label="Layer", choices=[0], min_width=110)
head_box = partial(dropdown, label="Head", choices=[0], min_width=110)


@dataclass(frozen=True)
class Section:
    """What the page needs to know of a section; how to add one stands in gpt/ui/__init__.py.

    `view(lab, focus, **controls)` gives the HTML of `output`; with `more`, whose components stand
    below it, a row each inner tuple, it gives a tuple, the HTML and a value for each of them.
    A generator yields texts that say how far it is, with a Cancel button, and returns the result.
    It is called when the section is opened, when one of its controls changes,
    and when the focus does while it is open; with a `button` only when that is pressed. A
    ValueError that it raises is one line there.
    """

    key: str
    view: Callable[..., Any]  # (lab, focus, **controls)
    title: str
    intro: str
    code: tuple[Code, ...]  # 5 to 15 lines in all that computed what is shown
    output: str  # the id of what it fills
    more: tuple[tuple[Make, ...], ...] = ()
    js: str = ""  # a script of the output
    controls: Mapping[str, Make] = field(default_factory=dict)
    needs_model: bool = False  # computes with the weights: one visitor at a time, and last
    opened: bool = False  # at first
    picks: Mapping[str, Any] = field(default_factory=dict)  # what a click on the output sets
    beside: bool = False  # its controls stand at the left, with a button that resets them
    button: str = ""
    button_id: str = ""
    hint: str = ""  # what the output says before the first press


def section(key: str, **given: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The view below it fills a section of these fields; its output is `int-KEY` if not named."""

    def found(view: Callable[..., Any]) -> Callable[..., Any]:
        view.section = Section(key, view, **{"output": f"int-{key}", **given})
        return view

    return found


@dataclass
class Desk:
    """What the server knows of one page. Handlers share the object and change it in place."""

    open: set[str]  # keys of sections
    in_view: frozenset[str] | None = None  # as last told; None: nothing was, all are taken to be
    told: int = 0  # how often it was; an older word may come late
    late: set[str] = field(default_factory=set)  # open, and nobody has begun to fill them anew
    focus: Focus | None = None
    awaited: bool = False  # the first pass, or the first after a text that could not be read
    written: Any = None  # of Generation, when the tab was last opened
    given: Focus | None = None  # what of it is looked at
    typed: int | None = None  # a position for a text that was not looked at yet
    turn: int = 0  # counts looks and moves: an event of an earlier one has nothing more to say
    looks: int = 0  # counts looks alone: a move on the former text ends none over another one
    fills: Counter[str] = field(default_factory=Counter)  # how often each panel was filled
    values: Values = field(default_factory=dict)  # of every control, as last heard
    picked: dict[str, dict[str, Any]] = field(default_factory=dict)  # in a section, by clicks
    cancelled: set[str] = field(default_factory=set)
    # Held while a message is on its way: gradio prepares several at once, and a short one would
    # overtake the long one before it.
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    def look_at(self, focus: Focus) -> None:
        """`focus` is looked at now; Generation's text is looked at again from there."""
        self.focus, self.typed = focus, None
        if self.given and self.given.key == focus.key:
            self.given = focus


class Panel:
    """A section laid out: its components, and how its view fills them."""

    def __init__(self, spec: Section) -> None:
        self.spec = spec
        self.button = self.cancel = None
        with gr.Accordion(
            spec.title, open=spec.opened, elem_id=f"int-section-{spec.key}",
            elem_classes=None if spec.button else "follows",
        ) as self.accordion:  # fmt: skip
            gr.Markdown(spec.intro)
            if spec.beside:
                with gr.Row(elem_classes="beside"):
                    with gr.Column(scale=1, min_width=230):
                        self._lay_controls()
                    with gr.Column(scale=3, min_width=300):
                        self._lay_output()
            else:
                with gr.Row():
                    self._lay_controls()
                self._lay_output()
            self.code = gr.HTML(code_html(spec.code), elem_id=f"int-code-{spec.key}")
        self.outputs = [self.output, *self.more, *([self.cancel] if self.cancel else [])]

    def _lay_controls(self) -> None:
        spec = self.spec
        self.controls = {name: make() for name, make in spec.controls.items()}
        if spec.button:
            self.button = gr.Button(spec.button, elem_id=spec.button_id, min_width=140)
        if spec.beside:
            reset = gr.Button("Reset to defaults", elem_id=f"int-{spec.key}-reset", min_width=140)
            boxes = [*self.controls.values()]
            reset.click(lambda: [box.value for box in boxes], None, boxes, **AT_ONCE)
        if inspect.isgeneratorfunction(spec.view):
            cancel_id = f"int-{spec.key}-cancel"
            self.cancel = gr.Button("Cancel", elem_id=cancel_id, min_width=100, visible=False)

    def _lay_output(self) -> None:
        self.output = html(self.spec.output, say(self.spec.hint, "note"), self.spec.js)()
        self.more: list[Component] = []
        for row in self.spec.more:
            with gr.Row():
                self.more += [make() for make in row]

    def fill(self, lab: Lab, desk: Desk, focus: Focus) -> Iterator[Values]:
        """What the view gives."""
        named = {name: desk.values[control] for name, control in self.controls.items()}
        named |= desk.picked.get(self.spec.key, self.spec.picks)
        cfg = lab.registry.config_of(focus.source)
        for name in named.keys() & OF_MODEL.keys():
            named[name] = at_most(named[name], getattr(cfg, OF_MODEL[name]))
        result = self.spec.view(lab.using(focus.source), focus, **named)
        if self.cancel is not None:
            result = yield from self._steps(result, desk)
        yield self.showing(result)

    def _steps(self, steps: Iterator[str], desk: Desk) -> Generator[Values, None, str]:
        """Shows how far it is; the result, or that it was cancelled."""
        desk.cancelled.discard(self.spec.key)
        while self.spec.key not in desk.cancelled:
            try:
                yield {**self.showing(next(steps)), self.cancel: gr.update(visible=True)}
            except StopIteration as end:
                return end.value
        return say("Cancelled.", "note")

    def showing(self, result: Any) -> Values:
        """What a view gave, or one text, in the outputs, and nothing to cancel."""
        results = result if isinstance(result, tuple) else (result, *[None] * len(self.more))
        shown: Values = dict(zip((self.output, *self.more), results, strict=True))
        return shown if self.cancel is None else {**shown, self.cancel: gr.update(visible=False)}

    def former(self) -> Values:
        """Says that the result was of another focus."""
        told = f"The result was of the former pass: press “{self.spec.button}” again."
        return self.showing(say(told, "note"))
