"""“Measured here”: the configured model on this machine, beside what was computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from html import escape

from gpt.accounting import memory
from gpt.accounting import operations as compute
from gpt.accounting.timing import LIMIT_BYTES, Measured, measure, needed_bytes, plan
from gpt.checkpoints import free_bytes
from gpt.config import GPTConfig
from gpt.serving.all_cores import on_all_cores
from gpt.ui.architecture.compute import flop_text
from gpt.ui.architecture.job import Job
from gpt.ui.architecture.tables import Cell, Row, note_html, table_html
from gpt.ui.parts.numbers import mib_and_mb, seconds, significant

PROMPT_TOKENS = 256
ABOUT = (
    "Builds this configuration on the machine that serves this page, in float32 with random "
    f"weights, reads a prompt of up to {PROMPT_TOKENS} tokens, decodes 32 more, and puts what was "
    f"measured beside what was computed. Limit: {mib_and_mb(LIMIT_BYTES)} in all. Cancel stops "
    "before the next step; nothing is kept."
)
# Cancelling frees the event's place at once while its thread may still build: without this, who
# cancels often could fill the memory.
_one_at_a_time = threading.Lock()


def refusal(cfg: GPTConfig) -> str:
    """Why `cfg` is not built here, in one line, or an empty text if it fits."""
    planned = plan(cfg, PROMPT_TOKENS)
    needed = needed_bytes(cfg, planned.prompt_tokens, planned.steps)
    if needed > LIMIT_BYTES:
        return (
            f"this model needs {mib_and_mb(needed)} and {mib_and_mb(LIMIT_BYTES)} are allowed "
            "here: make it smaller to measure it."
        )
    free = free_bytes()
    if free is not None and needed > free:
        return (
            f"this model needs {mib_and_mb(needed)} and {mib_and_mb(free)} are free on this "
            "machine now: make it smaller, or try again later."
        )
    return ""


def measured_html(cfg: GPTConfig, job: Job) -> Iterator[str]:
    """HTML of each stage, the table at the end; close the iterator to cancel.

    Raises ValueError if the configuration does not fit this machine.
    """
    why_not = refusal(cfg)
    if why_not:
        raise ValueError(why_not)
    while not _one_at_a_time.acquire(timeout=0.5):
        yield _progress_html(0, "waiting for another measurement to end")
    running = measure(cfg, plan(cfg, PROMPT_TOKENS), on_all_cores)
    try:
        for stage in running:
            if stage.measured is not None:
                yield result_html(cfg, stage.measured, job)
            else:
                yield _progress_html(stage.share, stage.text)
    finally:
        running.close()  # the model goes with it
        _one_at_a_time.release()


def _progress_html(share: float, text: str) -> str:
    bar = f'<progress max="1" value="{share:.3f}"></progress>'
    return f'<p role="status">{bar} {escape(text)} …</p>'


def result_html(cfg: GPTConfig, found: Measured, job: Job) -> str:
    """Computed, measured and their ratio, a row each."""
    tokens, steps = found.prefill_tokens, len(found.decode_seconds)
    whole = tokens + steps
    weights = memory.weights(cfg).value
    cache = memory.kv_cache(cfg, 1, whole).value
    prefill = compute.prefill(cfg, 1, tokens, "float32", job.device)
    step = compute.decode_step(cfg, 1, whole, "float32", job.device)
    rows = [
        _row("parameters", compute_total(cfg), found.parameters, lambda n: f"{n:,.0f}"),
        _row("bytes of the parameters", weights, found.parameter_bytes, mib_and_mb),
        _row(f"KV cache, {whole:,} tokens", cache, found.cache_bytes, mib_and_mb),
        _row(f"operations, prompt of {tokens:,}", prefill.flops, found.prefill_flops, flop_text),
        _row(f"operations, token {whole:,}", step.flops, found.decode_flops, flop_text),
    ]
    if found.resident_growth_bytes is not None:
        name = "resident memory (weights + cache)"
        rows.append(_row(name, weights + cache, found.resident_growth_bytes, mib_and_mb))
    rows.append(
        _row(f"prompt of {tokens:,} tokens", prefill.seconds, found.prefill_seconds, seconds)
    )
    rows.append(_row("a decoding step", step.seconds, found.decode_median_seconds, seconds))
    table = table_html(
        ("what", "computed", "measured here", "measured / computed"),
        rows,
        f"Times are computed for: {job.device.label}, at best, float32; measured on this machine",
    )
    return note_html(_sentence(found, step.traffic_bytes), "note") + table


def compute_total(cfg: GPTConfig) -> int:
    """Parameters by the formulas."""
    return int(memory.weights(cfg).value) // 4


def _sentence(found: Measured, traffic_bytes: float) -> str:
    rate = 1 / found.decode_median_seconds
    flops = found.prefill_flops / found.prefill_seconds
    read = significant(traffic_bytes * rate / 1e9)
    return (
        f"Here: built in {seconds(found.build_seconds)}; the prompt ran at "
        f"{flop_text(flops)}/s; then {significant(rate)} tokens a second (median of "
        f"{len(found.decode_seconds)} steps), reading {read} GB/s."
    )


def _row(name: str, computed: float, measured: float, show: Callable[[float], str]) -> Row:
    ratio = measured / computed
    equal = "equal ✓" if measured == computed else f"{significant(ratio)} ×"
    return Row(
        (
            Cell(name),
            Cell(show(computed), "number"),
            Cell(show(measured), "number"),
            Cell(equal, "number"),
        )
    )
