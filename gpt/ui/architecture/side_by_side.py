"""Two configurations side by side, with what differs marked."""

from __future__ import annotations

from gpt.accounting import count_parameters, memory, operations
from gpt.config import GPTConfig
from gpt.ui.architecture.operations_section import flop_text
from gpt.ui.architecture.workload import Workload
from gpt.ui.parts.numbers import mib_and_mb, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, shown, table_html

NOTHING = "Choose what to compare with, or pin this configuration and then change it."


def side_by_side_html(here: GPTConfig, other: GPTConfig | None, name: str, load: Workload) -> str:
    """A table of `here` and `other`; rows that differ carry ≠ and the ratio."""
    if other is None:
        return say(NOTHING, "hint")
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
