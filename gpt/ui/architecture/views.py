"""Everything that follows the controls, computed from plain values: section -> view -> text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from gpt.config import GPTConfig
from gpt.ui.architecture import parameters
from gpt.ui.architecture.code_section import code_html
from gpt.ui.architecture.controls import FIELDS, Suggestion, configuration
from gpt.ui.architecture.exchange import export
from gpt.ui.architecture.memory_section import memory_html
from gpt.ui.architecture.model_map import map_html, part_html
from gpt.ui.architecture.operations_section import operations_html, times_html
from gpt.ui.architecture.presets import Preset
from gpt.ui.architecture.side_by_side import side_by_side_html
from gpt.ui.architecture.workload import Workload, workload_of

PINNED = "pinned"


class Asked(NamedTuple):
    """What every view is computed from."""

    cfg: GPTConfig
    load: Workload
    other: GPTConfig | None  # to compare with
    name: str  # of `other`
    format: str  # of the export
    part: str  # chosen in the picture


# The views of each section by name; those of "" are always in sight.
SECTIONS: dict[str, dict[str, Callable[[Asked], str]]] = {
    "": {
        "total": lambda a: parameters.total_html(a.cfg),
        "map": lambda a: map_html(a.cfg, a.load.batch, a.load.tokens, a.part),
        "part": lambda a: part_html(a.cfg, a.load.batch, a.load.tokens, a.part),
    },
    "numbers": {
        "tied": lambda a: parameters.tied_html(a.cfg),
        "plot": lambda a: parameters.parameters_bar(a.cfg),
        "table": lambda a: parameters.parameters_table(a.cfg),
    },
    "code": {"code": lambda a: code_html(a.cfg, a.load.batch, a.load.tokens)},
    "memory": {"memory": lambda a: memory_html(a.cfg, a.load)},
    "operations": {
        "compute": lambda a: operations_html(a.cfg, a.load),
        "times": lambda a: times_html(a.cfg, a.load),
    },
    "compare": {"compare": lambda a: side_by_side_html(a.cfg, a.other, a.name, a.load)},
    "work": {"export": lambda a: export(a.cfg, a.format)},
}


def figures(
    values: Mapping[str, Any],
    named: tuple[Preset, ...],
    sections: Collection[str] = tuple(SECTIONS),
) -> dict[str, str]:
    """The views of `sections` from plain values: FIELDS, the workload's NAMES, what to compare.

    `compare` is a preset's key, PINNED or None; `pinned` a configuration as a dict or None;
    `format` one of the export's formats, `part` one of the picture's. A few
    milliseconds; nothing is allocated.
    Raises ValueError, in one line, if the configuration or the workload is impossible.
    """
    cfg = configuration(values)
    other, name = _other(values.get("compare"), values.get("pinned"), named)
    asked = Asked(cfg, workload_of(values, cfg), other, name, values["format"], values["part"])
    return {
        view: render(asked)
        for section, views in SECTIONS.items()
        if section in sections
        for view, render in views.items()
    }


def problem_html(error: ValueError, found: Sequence[Suggestion] | None = None) -> str:
    """What is impossible; beside the controls also what would be possible, and what is shown.

    `found` are the suggestions beside the controls, None away from them.
    """
    more = ""
    if found:
        buttons = "".join(
            f'<button type="button" data-field="{field}" data-value="{value}">{field} = {value:,}'
            "</button>"
            for field, value in found
        )
        more = f' Or take one of these: <span id="arch-suggestions">{buttons}</span>'
    if found is not None:
        more += "<br><small>The figures still show the last possible configuration.</small>"
    return f'<div class="arch-problem" role="alert"><b>{escape(str(error))}</b>{more}</div>'


def _other(
    choice: str | None, pinned: Mapping[str, Any] | None, named: tuple[Preset, ...]
) -> tuple[GPTConfig | None, str]:
    """The configuration to compare with and its name, or None if nothing is chosen."""
    if choice == PINNED and pinned:
        return configuration({name: pinned[name] for name in FIELDS}), "the pinned one"
    for preset in named:
        if preset.key == choice:
            return preset.cfg, preset.key
    return None, ""
