"""Everything that follows the controls, computed from plain values: section -> view -> text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Any

from gpt.ui.architecture import parameters
from gpt.ui.architecture.code_section import code_html
from gpt.ui.architecture.controls import Suggestion, configuration
from gpt.ui.architecture.exchange import export
from gpt.ui.architecture.memory_section import memory_html
from gpt.ui.architecture.model_map import map_html, part_html
from gpt.ui.architecture.operations_section import operations_html, times_html
from gpt.ui.architecture.presets import Preset
from gpt.ui.architecture.side_by_side import side_by_side_html
from gpt.ui.architecture.workload import workload_of

PINNED = "pinned"


def figures(
    values: Mapping[str, Any], named: tuple[Preset, ...], sections: Collection[str] | None = None
) -> dict[str, str]:
    """The views of `sections`, or of all, from plain values: FIELDS, NAMES, what to compare.

    `compare` is a preset's key, PINNED or None; `pinned` a configuration as a dict or None;
    `format` one of the export's formats, `part` one of the picture's. A few
    milliseconds; nothing is allocated.
    Raises ValueError, in one line, if the configuration or the workload is impossible.
    """
    cfg, name = configuration(values), values["compare"]
    load, part = workload_of(values, cfg), values["part"]
    passed = cfg, load.batch, load.tokens
    other = next((preset.cfg for preset in named if preset.key == name), None)
    if name == PINNED and values["pinned"]:
        other, name = configuration(values["pinned"]), "the pinned one"
    # The views of each section by name; those of "" are always in sight.
    every: dict[str, dict[str, Callable[[], str]]] = {
        "": {
            "total": lambda: parameters.total_html(cfg),
            "map": lambda: map_html(*passed, part),
            "part": lambda: part_html(*passed, part),
        },
        "numbers": {
            "tied": lambda: parameters.tied_html(cfg),
            "plot": lambda: parameters.parameters_bar(cfg),
            "table": lambda: parameters.parameters_table(cfg),
        },
        "code": {"code": lambda: code_html(*passed)},
        "memory": {"memory": lambda: memory_html(cfg, load)},
        "operations": {
            "compute": lambda: operations_html(cfg, load),
            "times": lambda: times_html(cfg, load),
        },
        "compare": {"compare": lambda: side_by_side_html(cfg, other, name, load)},
        "work": {"export": lambda: export(cfg, values["format"])},
    }
    return {
        view: render()
        for section, views in every.items()
        if sections is None or section in sections
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
