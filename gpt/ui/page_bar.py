"""What stands above the tabs: copies of the visit as a link and as code, and the presenter."""

import contextlib
import json
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import TRAINED
from gpt.ui import links
from gpt.ui.architecture.controls import configuration, field_updates
from gpt.ui.generation.settings import labelled
from gpt.ui.internals.section import Desk
from gpt.ui.internals.sections import SECTIONS
from gpt.ui.internals.tab import InternalsTab
from gpt.ui.parts.sentences import say
from gpt.ui.tabs import TABS, Page
from gpt.ui.visit import AT_ONCE, IN_QUEUE, Visit, Visitor

IN_ZIP = "trained-gpt/model"  # the folder of a trained model
RUN_WHERE = "Run in the folder of this project, it writes the text of Generation again. "
NOTHING_YET = "press Generate first: there is no text yet that a program could write again."


class PageBar:
    """The buttons and the note; `connect` wires them when the tabs are there."""

    def __init__(self, title: str, introduction: str) -> None:
        with gr.Row(elem_id="page-bar"):
            gr.HTML(f"<h1>{title}</h1><p>{introduction}</p>", padding=False)
            button = partial(gr.Button, size="sm", min_width=60, scale=0)
            button("Take the 5-minute tour", elem_id="tour-start")
            self.link = button("Copy link", elem_id="copy-link")
            self.code = button("Copy as Python", elem_id="copy-python")
            button("Presenter", elem_id="presenter").click(js="gptPage.presenter")
        self.note = gr.HTML(
            elem_id="page-note",
            elem_classes="live",
            js_on_load="gptPage.note(element, trigger, watch);",
        )
        self.where = [gr.Textbox("", visible=False) for _ in ("address", "tab")]

    def connect(self, page: Page) -> None:
        """Wire the buttons and the opening of a link."""
        inside: InternalsTab = page.tabs["internals"]
        sizes = [page.tabs["architecture"].inputs[name] for name in links.SIZES_AT_FIRST]
        known = [*self.where, page.shared.visitor, inside.desk, *sizes]
        self.link.click(copied_link, known, self.note, js="gptPage.where", **IN_QUEUE)
        self.code.click(copied_code, page.shared.visitor, self.note, **IN_QUEUE)
        self._open_links(page)

    def _open_links(self, page: Page) -> None:
        """A page that a link opens: the link fills the controls of all tabs."""
        shared, inside = page.shared, page.tabs["internals"]
        controls, training = page.tabs["generation"].controls, page.tabs["train"].controls
        sizes = page.tabs["architecture"].inputs
        sections = {key: panel.accordion for key, panel in inside.sections.panels.items()}

        def opened(visitor: Visitor, desk: Desk, request: gr.Request) -> dict[Any, Any]:
            place, wrong = links.place_of(dict(request.query_params), page.registry.config_of)
            visit, note = place.visit, note_of(place, wrong)
            desk.open = set(place.open)
            desk.picked["attention"] = {"layer": place.layer or 0, "head": place.head or 0}
            if {"prompt", "model"} & set(request.query_params):  # the page opens without a text
                visitor.visit = visit
            given = {"prompt": visit.prompt, "model": visit.model, **visit.settings}
            if visit.seed is not None:
                limit = visit.tokens or visit.settings.get("max_new_tokens")
                given |= {"seed": visit.seed, "max_new_tokens": limit}
            shown = shared.relabel(page.registry.sources())
            for name, value in given.items():
                if value not in ("", None):
                    box = controls[name]
                    shown[box] = {**shown[box], "value": value} if box in shown else value
            shown |= {training[name]: value for name, value in place.training.items()}
            if place.sizes:
                every = {**links.SIZES_AT_FIRST, **place.sizes}
                every |= field_updates(configuration(every))  # with the step of the width's slider
                shown |= {sizes[name]: value for name, value in every.items()}
            if place.open != links.OPENED:
                shown |= {s: gr.update(open=key in desk.open) for key, s in sections.items()}
            if visit.model not in ("", *(source for _, source in controls["model"].choices)):
                shown |= shared.use_model(visitor, "The link's, untrained", visit.model)
            if place.tab != TABS[0] and "data-linked" not in note:
                shown[shared.tabs] = gr.update(selected=place.tab)
            return {**shown, self.note: note}

        outputs = {self.note, shared.tabs, *shared.pickers, *controls.values(), *sections.values()}
        outputs |= {*training.values(), *(sizes[name] for name in links.SIZES_AT_FIRST)}
        shared.blocks.load(opened, [shared.visitor, inside.desk], outputs, **AT_ONCE)


def copied_link(page: str, tab: str, visitor: Visitor, desk: Desk, *sizes: Any) -> str:
    """The note with the address of the visit, HTML; `sizes` are Architecture's.

    `page` is the address without parameters, `tab` the one that is shown.
    """
    picked = {k: n for k, n in desk.picked.get("attention", {}).items() if n}
    opened = tuple(section.key for section in SECTIONS if section.key in desk.open)
    visit, missing = visitor.visit, []
    shown = desk.focus and (desk.given is None or desk.focus.key != desk.given.key)
    if tab == "internals" and shown:
        visit, missing = Visit(), ["the text that was typed in Internals"]
    named = dict(zip(links.SIZES_AT_FIRST, sizes, strict=True))
    changed = {name: n for name, n in named.items() if n != links.SIZES_AT_FIRST[name]}
    if tab == "architecture" and (wrong := links.impossible(named)):
        changed, missing = {}, [f"the sizes ({wrong.rstrip('.')})"]
    place = links.Place(visit, tab, **picked, open=opened, training=visitor.training, sizes=changed)
    address, told = links.link_of(place, str(page)[:500], missing)
    return _copied("The link", address, told, ' data-link="1"')


def copied_code(visitor: Visitor) -> str:
    """The note with the program and the command. Raises ValueError before the first text."""
    visit: Visit = visitor.visit
    if visit.seed is None or visit.tokens == 0 or not (visit.model and visit.prompt):
        raise ValueError(NOTHING_YET)
    needs = RUN_WHERE
    if visit.model.startswith(TRAINED):
        visit = replace(visit, model=IN_ZIP)
        needs += f"It needs {IN_ZIP}, from “Take it along”. "
    program = _copied("The program", links.python_of(visit), needs)
    if "device" in visit.settings:
        needs += "It writes on the CPU, where the text may be another."
    return program + _copied("The command", links.command_of(visit), needs)


def note_of(place: links.Place, wrong: tuple[str, ...]) -> str:
    """What an opened link could not do, and the text that the page is to write again; HTML."""
    visit, mark = place.visit, ""
    if visit.prompt and visit.model and visit.seed is not None:
        chip = None
        with contextlib.suppress(ValueError):  # of a prompt that the run will refuse, in a line
            if visit.position is not None:
                chip = visit.position - len(tokenizer_of(visit.model).encode(visit.prompt))
        asked = json.dumps({"prompt": visit.prompt, "chip": chip, "tab": place.tab})
        mark = f'<span data-linked="{escape(asked)}"></span>'
    told = " ".join(labelled(line)[:300] for line in wrong)
    told = f"Left out of this link: {told}"
    return mark + (say(told, "note") if wrong else "")


def _copied(what: str, text: str, missing: str = "", mark: str = "") -> str:
    rows = min(1 + text.count("\n"), 16)
    return (
        f'<div class="note"><p><span class="copied" data-what="{what}">{what}, to copy:</span> '
        f'{escape(missing)} <button type="button" class="close">Close</button></p>'
        f'<textarea readonly rows="{rows}" aria-label="{what}"{mark}>{escape(text)}</textarea>'
        "</div>"
    )
