"""Memory as the tab shows it: to run, to train, against four machines, each with its formula."""

from __future__ import annotations

from gpt.accounting import memory
from gpt.accounting.machines import DEVICES
from gpt.config import GPTConfig
from gpt.ui.architecture.stacked_bars import meter_html, stacked_bar_html
from gpt.ui.architecture.workload import LABELS, Workload
from gpt.ui.parts.numbers import mib_and_mb, percent, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html

UNITS = (
    "MiB is 2²⁰ bytes and GiB 2³⁰; MB is 10⁶ and GB 10⁹. The book's “621.83 MB” for the 124M model "
    "is MiB. Machines are sold in GB."
)
LETTERS = (
    "P is the number of parameters: M in matrices that are multiplied (attention, feed-forward, "
    "head), which have R rows, E in the token embedding, N the rest; b is the batch, s the tokens "
    "seen, t the tokens of a pass, n the positions scored; d emb_dim, h n_heads."
)
COLUMNS = (
    "what", Column("size", mib_and_mb), code_column("formula in bytes"),
    code_column("with these numbers"), "note",
)  # fmt: skip


def memory_html(cfg: GPTConfig, load: Workload) -> str:
    """Two stacked bars with the four machines under each, then the table."""
    running = [
        memory.kv_cache(cfg, load.batch, load.tokens, load.precision),
        memory.forward_activations(cfg, load.batch, load.tokens),
    ]
    run = {f"weights, {LABELS[load.precision]}": memory.weights(cfg, load.precision).value}
    run |= {_named(part): part.value for part in running}
    state = memory.training_state(cfg)
    kept = memory.kept_in_bfloat16(cfg, load.batch, load.tokens)
    train = {state.name: state.value, f"activations, {_named(kept)}": kept.value}
    what = f"batch {load.batch:,}, {load.tokens:,} tokens"
    return "".join(
        (
            say(load.cut, "note"),
            _against_machines(f"To generate ({what}, {load.precision})", run),
            _against_machines(f"To train with AdamW in mixed precision ({what})", train),
            say(UNITS, "hint"),
            _table(cfg, load, running, f"Memory for {what}"),
            say(LETTERS, "hint"),
        )
    )


def _named(part: memory.Amount) -> str:
    return part.name + " (estimate)" * part.estimate


def _against_machines(title: str, sizes: dict[str, float]) -> str:
    total = sum(sizes.values())
    fits = [each for each in DEVICES if total <= each.memory_bytes]
    verdict = f"fits {len(fits)} of {len(DEVICES)} machines"
    bar = stacked_bar_html(sizes, f"{title}: {mib_and_mb(total)}, {verdict}.", mib_and_mb)
    meters = []
    for each in DEVICES:
        used = total / each.memory_bytes
        text = f"{percent(used)} of its memory"
        if used > 1:
            text = f"does not fit: {significant(used)} × its memory"
        meters.append(meter_html(sizes, each.memory_bytes, each.label, text))
    return bar + "".join(meters)


def _table(cfg: GPTConfig, load: Workload, running: list[memory.Amount], caption: str) -> str:
    """Every amount, in groups; the number format of the workload is marked."""
    groups = {
        "Weights": [memory.weights(cfg, each) for each in memory.PRECISIONS],
        "While running": running,
        "State of training": [memory.training_state(cfg, each) for each in memory.TRAINING_STATES],
        "Activations of training": [
            memory.kept_in_bfloat16(cfg, load.batch, load.tokens),
            memory.kept_in_bfloat16(cfg, load.batch, load.tokens, recompute=True),
            memory.kept_by_autocast(cfg, load.batch, load.tokens),
        ],
    }
    rows: list[tuple[object, ...]] = []
    kinds = {}
    for title, parts in groups.items():
        kinds[len(rows)] = "group"
        rows.append((title, None, "", "", ""))
        for part in parts:
            if part.name == load.precision:
                kinds[len(rows)] = "marked"
            note = f"estimate: {part.note}" if part.estimate else part.note
            name = LABELS.get(part.name, part.name)
            rows.append((name, part.value, part.formula, part.numbers, note))
    return table_html(COLUMNS, rows, caption, kinds=kinds)
