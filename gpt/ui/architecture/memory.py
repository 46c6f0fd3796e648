"""Memory as the tab shows it: to run, to train, against four machines, each with its formula."""

from __future__ import annotations

from gpt.accounting import activations, memory
from gpt.accounting.machines import DEVICES
from gpt.config import GPTConfig
from gpt.ui.architecture.job import Job
from gpt.ui.architecture.tables import (
    Cell,
    Row,
    Share,
    meter_html,
    note_html,
    stacked_bar_html,
    table_html,
)
from gpt.ui.parts.numbers import MB, MIB, mib_and_mb, percent, significant

UNITS = (
    "MiB is 2²⁰ bytes, MB is 10⁶. The book's “621.83 MB” for the 124M model is MiB. Machines are "
    "sold in GB of 10⁹ bytes."
)
LETTERS = (
    "P is the number of parameters, M those in matrices that are multiplied (attention, "
    "feed-forward, head), R the rows of these; b is the batch, s the tokens seen, t the tokens "
    "of a pass, n the positions scored, bytes those of one number; d emb_dim, h n_heads."
)
_HEADERS = ("what", "formula in bytes", "with these numbers", "MiB", "MB", "note")


def memory_html(cfg: GPTConfig, job: Job) -> str:
    """Two stacked bars with the four machines under each, then the table."""
    run = [_share(part) for part in _to_run(cfg, job)]
    train = [_share(part) for part in _to_train(cfg, job)]
    what = f"batch {job.batch:,}, {job.tokens:,} tokens"
    return "".join(
        (
            note_html(job.cut, "note") if job.cut else "",
            _against_machines(f"To generate ({what}, {job.precision})", run),
            _against_machines(f"To train with AdamW in mixed precision ({what})", train),
            note_html(UNITS),
            table_html(_HEADERS, _rows(cfg, job), f"Memory for {what}"),
            note_html(LETTERS),
        )
    )


def _to_run(cfg: GPTConfig, job: Job) -> list[memory.Amount]:
    return [
        memory.weights(cfg, job.precision),
        memory.kv_cache(cfg, job.batch, job.tokens, job.precision),
        memory.forward_activations(cfg, job.batch, job.tokens, job.precision),
    ]


def _to_train(cfg: GPTConfig, job: Job) -> list[memory.Amount]:
    return [
        memory.training_state(cfg),
        activations.kept_in_bfloat16(cfg, job.batch, job.tokens),
    ]


def _share(part: memory.Amount) -> Share:
    names = {precision: f"weights, {precision}" for precision in memory.PRECISIONS}
    name = names.get(part.name, part.name) + (" (estimate)" if part.estimate else "")
    return Share(name, part.value, mib_and_mb(part.value))


def _against_machines(title: str, shares: list[Share]) -> str:
    total = sum(share.value for share in shares)
    fits = [each for each in DEVICES if total <= each.memory_bytes]
    verdict = f"fits {len(fits)} of {len(DEVICES)} machines"
    bar = stacked_bar_html(shares, f"{title}: {mib_and_mb(total)}, {verdict}.")
    meters = []
    for each in DEVICES:
        used = total / each.memory_bytes
        text = f"{percent(used)} of its memory"
        if used > 1:
            text = f"does not fit: {significant(used)} × its memory"
        meters.append(meter_html(shares, each.memory_bytes, each.label, text))
    return bar + "".join(meters)


def _rows(cfg: GPTConfig, job: Job) -> list[Row]:
    batch, tokens = job.batch, job.tokens
    rows = [_heading("Weights")]
    rows += [
        _row(memory.weights(cfg, precision), precision == job.precision)
        for precision in memory.PRECISIONS
    ]
    rows.append(_heading("While running"))
    rows += [_row(part) for part in _to_run(cfg, job)[1:]]
    rows.append(_heading("State of training"))
    rows += [_row(memory.training_state(cfg, each)) for each in memory.TRAINING_STATES]
    rows.append(_heading("Activations of training"))
    rows += [
        _row(activations.kept_in_bfloat16(cfg, batch, tokens, recompute=recompute))
        for recompute in (False, True)
    ]
    rows.append(_row(activations.kept_by_autocast(cfg, batch, tokens)))
    return rows


def _heading(text: str) -> Row:
    return Row((Cell(text), *(Cell("") for _ in _HEADERS[1:])), "group")


def _row(part: memory.Amount, chosen: bool = False) -> Row:
    note = f"estimate: {part.note}" if part.estimate else part.note
    return Row(
        (
            Cell(part.name, "strong" if chosen else ""),
            Cell(part.formula, "code"),
            Cell(part.numbers, "code"),
            Cell(f"{part.value / MIB:,.1f}", "number"),
            Cell(f"{part.value / MB:,.1f}", "number"),
            Cell(note),
        )
    )
