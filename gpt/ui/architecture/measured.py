"""“Measured here”: the configured model on this machine, beside what was computed."""

import threading
import time
from collections.abc import Iterator
from html import escape

from gpt.accounting import count_parameters, memory, operations
from gpt.accounting.timing import LIMIT_BYTES, Measured, measure, needed_bytes
from gpt.checkpoints import free_bytes
from gpt.config import GPTConfig
from gpt.serving.all_cores import on_all_cores
from gpt.ui.architecture.controls import Workload
from gpt.ui.architecture.costs import flop_text
from gpt.ui.parts.numbers import counted, mib_and_mb, seconds, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, shown, table_html

PROMPT_TOKENS = 256
PAUSE_SECONDS = 0.2  # between two updates of the page
ABOUT = (
    "Builds this configuration on the machine that serves this page, in float32 with random "
    f"weights, prefills a prompt of up to {PROMPT_TOKENS} tokens, decodes 32 more, and puts what "
    f"was measured beside what was computed. Limit: {mib_and_mb(LIMIT_BYTES)} in all. Cancel stops "
    "before the next step; nothing is kept."
)
# A page that is closed frees the event's place at once, while its thread may still build.
_one_at_a_time = threading.Lock()


def measured_html(cfg: GPTConfig, load: Workload) -> Iterator[str]:
    """HTML of each stage, the table at the end; close the iterator to cancel.

    Raises ValueError, in one line, if `cfg` does not fit this machine.
    """
    needed = needed_bytes(cfg, PROMPT_TOKENS)
    for room, why in (
        (LIMIT_BYTES, "are allowed here: make it smaller to measure it."),
        (free_bytes(), "are free on this machine now: make it smaller, or try again later."),
    ):
        if room is not None and needed > room:
            raise ValueError(f"this model needs {mib_and_mb(needed)} and {mib_and_mb(room)} {why}")
    yield progress_html(0, "waiting for the machine")
    while not _one_at_a_time.acquire(timeout=0.5):
        yield progress_html(0, "waiting for another measurement to end")
    running = measure(cfg, PROMPT_TOKENS, on_all_cores)
    told = 0.0
    try:
        for stage in running:
            if isinstance(stage, Measured):
                yield result_html(cfg, stage, load)
            elif time.monotonic() > told + PAUSE_SECONDS:  # a stage may take a millisecond
                told = time.monotonic()
                yield progress_html(*stage)
    finally:
        running.close()  # the model goes with it
        _one_at_a_time.release()


def progress_html(share: float, text: str) -> str:
    bar = f'<progress max="1" value="{share:.3f}"></progress>'
    return f'<p role="status">{bar} {escape(text)} …</p>'


def result_html(cfg: GPTConfig, found: Measured, load: Workload) -> str:
    """Of which configuration, then computed, measured and their ratio, a row each."""
    tokens, steps = found.prefill_tokens, len(found.decode_seconds)
    whole = tokens + steps
    weights = memory.weights(cfg).value
    cache = memory.kv_cache(cfg, 1, whole).value
    prefill = operations.roofline(cfg, 1, tokens, tokens, "float32", load.device)
    step = operations.roofline(cfg, 1, 1, whole, "float32", load.device)
    pairs = (
        ("parameters", count_parameters(cfg).total, found.parameters, shown),
        ("bytes of the parameters", weights, found.parameter_bytes, mib_and_mb),
        (f"KV cache, {whole:,} tokens", cache, found.cache_bytes, mib_and_mb),
        (f"operations, prompt of {tokens:,}", prefill.flops, found.prefill_flops, flop_text),
        (f"operations, token {whole:,}", step.flops, found.decode_flops, flop_text),
        ("resident memory (weights + cache)", weights + cache, found.resident_growth_bytes,
         mib_and_mb),
        (f"prompt of {tokens:,} tokens", prefill.seconds, found.prefill_seconds, seconds),
        ("a decode step", step.seconds, found.decode_median_seconds, seconds),
    )  # fmt: skip
    rows = [
        (name, show(a), show(b), "equal ✓" if a == b else f"{significant(b / a)} ×")
        for name, a, b, show in pairs
        if b is not None  # not every system tells how much memory is resident
    ]
    columns = ("what", Column("computed"), Column("measured here"), Column("measured / computed"))
    caption = (
        f"Times are computed for: {load.device.label}, at best, float32; measured on this machine"
    )
    sentence = _sentence(cfg, found, step.traffic_bytes)
    return say(sentence, "note") + table_html(columns, rows, caption)


def _sentence(cfg: GPTConfig, found: Measured, traffic_bytes: float) -> str:
    """How fast it was, and what: the result outlives the controls."""
    rate = 1 / found.decode_median_seconds
    flops = found.prefill_flops / found.prefill_seconds
    read = significant(traffic_bytes * rate / 1e9)
    return (
        f"{counted(cfg.n_layers, 'layer')} of width {cfg.emb_dim:,} with "
        f"{counted(cfg.n_heads, 'head')}, vocabulary {cfg.vocab_size:,}, context "
        f"{cfg.context_length:,}: built in {seconds(found.build_seconds)}; the prompt ran at "
        f"{flop_text(flops)}/s; then {significant(rate)} tokens a second (median of "
        f"{len(found.decode_seconds)} steps), reading {read} GB/s."
    )
