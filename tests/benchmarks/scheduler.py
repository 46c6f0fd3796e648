"""What the scheduler's two promises cost: that nobody waits for a long prompt, and equal bits.

    python -m tests.benchmarks.scheduler --record

The scheduler without the page, on all cores. First 1 and 8 rows write, and one reads prompts that
fill the context (1,000 tokens of GPT-2 small's shape, 240 of the storyteller): the time between two
tokens while it reads as a multiple of the median without, median and 95 %. Then a step of 16 rows
in float32 as the scheduler makes it, each row by itself so that its bits are those of it alone, and
as one batch, in turns. Three minutes; nothing else should run.
With --record it writes scheduler.txt in assets/benchmarks/.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from gpt import GPTConfig, GPTModel, SamplingOptions, load_model  # noqa: E402
from gpt.checkpoints.precision_record import processor  # noqa: E402
from gpt.engine import FastModel  # noqa: E402
from gpt.engine.machine import usable_cores  # noqa: E402
from gpt.serving import scheduler as module  # noqa: E402

REPEATS = 3
ROWS, STEPS, FILLED = 16, 12, 64
RECORD = ROOT / "assets" / "benchmarks" / "scheduler.txt"


def gaps(
    scheduler: module.Scheduler, run: module.StepStream, ended: Callable[[], bool]
) -> list[float]:
    """Seconds between two tokens of `run`, over turns until `ended()`."""
    run.take()
    found, last = [], time.perf_counter()
    while not ended():
        scheduler.turn()
        if run.take():
            now = time.perf_counter()
            found.append(now - last)
            last = now
    return found


def ratios(model: GPTModel, writers: int) -> tuple[float, list[float]]:
    """The usual seconds between two tokens, and all those while others read, as multiples."""
    context = model.cfg.context_length
    usual, reading = [], []
    for repeat in range(REPEATS):
        scheduler = module.Scheduler(model)
        options = [SamplingOptions(max_new_tokens=context - 8, seed=i) for i in range(writers)]
        runs = [scheduler.submit([1 + repeat] * 8, each) for each in options]
        gaps(scheduler, runs[-1], lambda: all(run.started for run in runs))  # noqa: B023
        turns = iter(range(40))
        usual += gaps(scheduler, runs[0], lambda: next(turns, None) is None)[20:]  # noqa: B023
        prompt = list(range(context - 24 if context > 1000 else context - 16))
        reader = scheduler.submit(prompt, SamplingOptions(max_new_tokens=1, seed=0))
        reading += gaps(scheduler, runs[0], lambda: reader.over)  # noqa: B023
    median = statistics.median(usual)
    return median, sorted(gap / median for gap in reading)


@torch.inference_mode()
def step_seconds(model: FastModel) -> tuple[float, float]:
    """Medians of a decode step of ROWS rows: each by itself, and as one batch."""
    ids = torch.arange(ROWS * FILLED).view(ROWS, FILLED) % model.cfg.vocab_size
    caches = [model.new_cache(FILLED + STEPS) for _ in range(ROWS)]
    for row, cache in zip(ids, caches, strict=True):
        model(row[None], cache, last_only=True)
    together = GPTModel.new_cache(model, FILLED + STEPS)
    model(ids, together, last_only=True)
    apart, batched = [], []
    for _ in range(STEPS):
        for work, found in (
            (lambda: model.decode_rows([1] * ROWS, caches), apart),
            (lambda: model(torch.ones(ROWS, 1, dtype=torch.long), together), batched),
        ):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
    return statistics.median(apart), statistics.median(batched)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    record = parser.parse_args().record
    module.take_turns = lambda taker: None  # turns are taken here, not by the thread
    torch.set_num_threads(usable_cores())
    small = GPTModel(GPTConfig(qkv_bias=True, tie_weights=True)).eval()
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {processor()}, {usable_cores()} cores, "
        f"Python {platform.python_version()}"
    ]
    for name, model in (
        ("gpt2-small-shape int8", FastModel(small, "int8").eval()),
        ("gpt2-small-shape float32", FastModel(small, "float32").eval()),
        ("storyteller int8", load_model("storyteller", precision="int8")),
    ):
        for writers in (1, 8):
            usual, found = ratios(model, writers)
            often = found[int(0.95 * len(found))]
            lines.append(
                f"{name:26}{writers} writing: usually {1000 * usual:5.1f} ms; while one reads "
                f"{statistics.median(found):.2f} times as long, 95 % {often:.2f}"
            )
            print(lines[-1], flush=True)
    for name, model in (
        ("gpt2-small-shape float32", FastModel(small, "float32").eval()),
        ("storyteller float32", load_model("storyteller", precision="float32")),
    ):
        apart, batched = (1000 * seconds for seconds in step_seconds(model))
        lines.append(
            f"{name:26}a step of {ROWS} rows: {apart:5.1f} ms with equal bits, {batched:5.1f} ms "
            f"as one batch, {apart / batched:.2f} times as long"
        )
        print(lines[-1], flush=True)
    if record:
        RECORD.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
