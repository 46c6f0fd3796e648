"""Two configurations side by side, with what differs marked."""

from __future__ import annotations

from dataclasses import asdict

from gpt.accounting import count_parameters, memory
from gpt.accounting import operations as compute
from gpt.config import GPTConfig
from gpt.ui.architecture.compute import flop_text
from gpt.ui.architecture.job import Job
from gpt.ui.architecture.tables import Cell, Row, note_html, table_html
from gpt.ui.parts.numbers import mib_and_mb, significant

NOTHING = "Choose what to compare with, or pin the present configuration and then change it."


def compare_html(here: GPTConfig, other: GPTConfig | None, name: str, job: Job) -> str:
    """A table of `here` and `other`; rows that differ carry ≠ and the ratio."""
    if other is None:
        return note_html(NOTHING)
    rows = [_field_row(field, asdict(here)[field], asdict(other)[field]) for field in asdict(here)]
    rows.append(_field_row("head_dim", here.head_dim, other.head_dim))
    rows += _cost_rows(here, other, job)
    different = sum(row.kind == "differs" for row in rows[:8])
    message = f"{different} of 8 settings differ." if different else "The settings are the same."
    caption = f"This configuration beside {name}"
    headers = ("", "this one", name, "differs", "this / that")
    return note_html(message, "note") + table_html(headers, rows, caption)


def _field_row(field: str, here: object, other: object) -> Row:
    ratio = ""
    if isinstance(here, int) and not isinstance(here, bool) and isinstance(other, int):
        ratio = f"{significant(here / other)} ×"
    return _row(field, _text(here), _text(other), ratio)


def _cost_rows(here: GPTConfig, other: GPTConfig, job: Job) -> list[Row]:
    """Parameters, bytes and operations of both, for the job cut to each one's context."""

    def tokens(cfg: GPTConfig) -> int:
        return min(job.tokens, cfg.context_length)

    rows = []
    for name, value, show in (
        ("parameters", lambda cfg: count_parameters(cfg).total, lambda n: f"{n:,}"),
        ("parameters of a block", lambda cfg: count_parameters(cfg).block, lambda n: f"{n:,}"),
        (
            f"weights in {job.precision}",
            lambda cfg: memory.weights(cfg, job.precision).value,
            mib_and_mb,
        ),
        (
            "KV cache",
            lambda cfg: memory.kv_cache(cfg, job.batch, tokens(cfg), job.precision).value,
            mib_and_mb,
        ),
        (
            "forward pass",
            lambda cfg: compute.forward(cfg, job.batch, tokens(cfg)).total,
            flop_text,
        ),
        (
            f"tokens/s at most, {job.device.label}",
            lambda cfg: (
                job.batch
                / compute.decode_step(
                    cfg, job.batch, tokens(cfg), job.precision, job.device
                ).seconds
            ),
            significant,
        ),
    ):
        a, b = value(here), value(other)
        rows.append(_row(name, show(a), show(b), f"{significant(a / b)} ×"))
    return rows


def _row(name: str, here: str, other: str, ratio: str) -> Row:
    same = here == other
    kind = "number" if same else "number differs"
    return Row(
        (
            Cell(name),
            Cell(here, kind),
            Cell(other, kind),
            Cell("" if same else "≠"),
            Cell("" if same else ratio, "number"),
        ),
        "" if same else "differs",
    )


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
