"""Everything that follows the controls, computed from plain values: name -> HTML or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gpt.config import GPTConfig
from gpt.ui.architecture import parameters
from gpt.ui.architecture.compare import compare_html
from gpt.ui.architecture.compute import compute_html, times_html
from gpt.ui.architecture.controls import FIELDS, Suggestion, configuration
from gpt.ui.architecture.drawing import drawing_svg
from gpt.ui.architecture.exchange import export
from gpt.ui.architecture.job import job_of
from gpt.ui.architecture.memory import memory_html
from gpt.ui.architecture.presets import Preset
from gpt.ui.architecture.tables import note_html

PINNED = "pinned"
LIVE_VIEWS = (
    "total",
    "plot",
    "table",
    "memory",
    "compute",
    "times",
    "drawing",
    "compare",
    "export",
)


def figures(values: Mapping[str, Any], named: tuple[Preset, ...]) -> dict[str, str]:
    """Every view of plain values by name: FIELDS, the job's NAMES, and what to compare.

    `compare` is a preset's key, PINNED or None; `pinned` a configuration as a dict or None;
    `format` one of the export's formats. A few milliseconds; nothing is allocated.
    Raises ValueError, in one line, if the configuration or the job is impossible.
    """
    cfg = configuration(values)
    job = job_of(values, cfg)
    other, name = _other(values.get("compare"), values.get("pinned"), named)
    return {
        "total": parameters.total_html(cfg),
        "tied": parameters.tied_html(cfg),
        "plot": parameters.plot(cfg),
        "table": parameters.table(cfg),
        "memory": memory_html(cfg, job),
        "compute": compute_html(cfg, job),
        "times": times_html(cfg, job),
        "drawing": drawing_html(cfg, job.batch, job.tokens),
        "compare": compare_html(cfg, other, name, job),
        "export": export(cfg, values["format"]),
    }


def drawing_html(cfg: GPTConfig, batch: int, tokens: int) -> str:
    """The drawing with what it leaves out said below it."""
    left_out = (
        f"Not drawn: dropout (drop_rate {cfg.drop_rate:g}) on the embeddings, on the attention "
        "weights and after both sub-layers; it acts in training only."
    )
    return drawing_svg(cfg, batch, tokens) + note_html(left_out)


def problem_html(error: ValueError, found: Sequence[Suggestion] | None = None) -> str:
    """What is impossible; beside the controls also what would be possible, and what is shown.

    `found` are the suggestions beside the controls, None away from them.
    """
    more = " Or take one of these:" if found else ""
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
