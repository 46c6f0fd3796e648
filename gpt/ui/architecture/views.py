"""Everything that follows the controls, computed from plain values: section -> view -> text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from gpt.accounting import count_parameters, memory, operations
from gpt.config import GPTConfig
from gpt.ui.architecture import parameters
from gpt.ui.architecture.controls import Workload, configuration, suggestions, workload_of
from gpt.ui.architecture.costs import flop_text, memory_html, operations_html, times_html
from gpt.ui.architecture.exchange import FORMATS, from_json
from gpt.ui.architecture.model_map import code_html, map_html, part_html
from gpt.ui.architecture.presets import Presets
from gpt.ui.parts.numbers import mib_and_mb, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, shown, table_html

PINNED = "the pinned one"
# The sections of the tab; what is in "" is always in sight.
SECTIONS = ("", "numbers", "code", "memory", "operations", "compare", "work")


def figures(
    values: Mapping[str, Any], named: Presets, sections: Collection[str] = SECTIONS
) -> dict[str, str]:
    """The views of `sections` by name, from plain values: those of the controls, and more.

    `compare` is a preset's key, or a configuration as `to_json` writes it; `format` one of the
    export's formats, `part` one of the picture's. A few milliseconds; nothing is allocated.
    Raises ValueError, in one line, if the configuration or the workload is impossible.
    """
    cfg, name = configuration(values), values["compare"]
    load, part = workload_of(values, cfg), values["part"]
    passed = cfg, load.batch, load.tokens
    found: dict[str, str] = {}
    if "" in sections:
        found["total"] = parameters.total_html(cfg)
        found["map"], found["part"] = map_html(*passed, part), part_html(*passed, part)
    if "numbers" in sections:
        found["tied"], found["plot"] = parameters.tied_html(cfg), parameters.parameters_bar(cfg)
        found["table"] = parameters.parameters_table(cfg)
    if "code" in sections:
        found["code"] = code_html(*passed)
    if "memory" in sections:
        found["memory"] = memory_html(cfg, load)
    if "operations" in sections:
        found["compute"], found["times"] = operations_html(cfg, load), times_html(cfg, load)
    if "compare" in sections:
        if name in named:
            _, other = named[name]
        else:
            (other, _), name = from_json(name), PINNED
        found["compare"] = side_by_side_html(cfg, other, name, load)
    if "work" in sections:
        write, _ = FORMATS[values["format"]]
        found["export"] = write(cfg)
    return found


def side_by_side_html(here: GPTConfig, other: GPTConfig, name: str, load: Workload) -> str:
    """A table of `here` and `other`; rows that differ carry ≠ and the ratio."""
    rows = [_row(field, here[field], other[field]) for field in here]
    different = sum(bool(row[3]) for row in rows)
    rows.append(_row("head_dim", here.head_dim, other.head_dim))
    costs = zip(_costs(here, load), _costs(other, load), strict=True)
    rows += [_row(what, a, b, show) for (what, a, show), (_, b, _) in costs]
    message = f"{different} of 8 settings differ." if different else "The settings are the same."
    columns = (
        "setting or cost", Column("this one"), Column(name), "differs",
        Column("this / that"),
    )  # fmt: skip
    kinds = {index: "differs" for index, row in enumerate(rows) if row[3]}
    caption = f"This configuration beside {name}"
    return say(message, "note") + table_html(columns, rows, caption, kinds=kinds)


def _costs(cfg: GPTConfig, load: Workload) -> list[tuple[str, float, object]]:
    """What `cfg` costs for the workload cut to its context: name, value, how it is shown."""
    batch, tokens = load.batch, min(load.tokens, cfg.context_length)
    step = operations.roofline(cfg, batch, 1, tokens, load.precision, load.device)
    count = count_parameters(cfg)
    cache = memory.kv_cache(cfg, batch, tokens, load.precision).value
    return [
        ("parameters", count.total, shown),
        ("parameters of a block", count.block, shown),
        (f"weights in {load.precision}", memory.weights(cfg, load.precision).value, mib_and_mb),
        ("KV cache", cache, mib_and_mb),
        ("forward pass", operations.forward(cfg, batch, tokens).total, flop_text),
        (f"tokens/s at most, {load.device.label}", batch / step.seconds, significant),
    ]


def _row(name: str, here: object, other: object, show=shown) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    """Texts of a row: the two values, ≠ if they differ, and their ratio."""
    if here == other:
        return name, show(here), show(other), "", ""
    is_size = not isinstance(here, bool) and isinstance(here, (int, float)) and other
    ratio = f"{significant(here / other)} ×" if is_size and name != "drop_rate" else ""
    return name, show(here), show(other), "≠", ratio


def problem_html(error: ValueError, given: Mapping[str, Any] | None = None) -> str:
    """What is impossible; beside the controls, whose values are `given`, more.

    There also what would be possible, and what is shown.
    """
    more = ""
    if given is not None:
        buttons = "".join(
            f'<button type="button" data-field="{field}" data-value="{value}">{field} = {value:,}'
            "</button>"
            for field, value in suggestions(given["emb_dim"], given["n_heads"])
        )
        if buttons:
            more = f' Or take one of these: <span id="arch-suggestions">{buttons}</span>'
        more += "<br><small>The figures still show the last possible configuration.</small>"
    return f'<div class="arch-problem" role="alert"><b>{escape(str(error))}</b>{more}</div>'
