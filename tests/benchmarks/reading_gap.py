"""How much longer a visitor waits for a token while a long prompt of another one is read.

    python -m tests.benchmarks.reading_gap

The scheduler without the page, on all cores: 1 and 8 rows write, and one reads prompts that fill
the context (1,000 tokens of GPT-2 small's shape, 240 of the storyteller). Prints the time between
two tokens while it reads as a multiple of the median without: median and 95 %. Two minutes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from gpt import GPTConfig, GPTModel, SamplingOptions, load_model  # noqa: E402
from gpt.engine import FastModel  # noqa: E402
from gpt.engine.machine import usable_cores  # noqa: E402
from gpt.serving import scheduler as module  # noqa: E402

REPEATS = 3


def gaps(scheduler: module.Scheduler, run: module.Run, ended: Callable[[], bool]) -> list[float]:
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


def main() -> None:
    module.take_turns = lambda taker: None  # turns are taken here, not by the thread
    torch.set_num_threads(usable_cores())
    small = GPTModel(GPTConfig(qkv_bias=True, tie_weights=True)).eval()
    for name, model in (
        ("gpt2-small-shape int8", FastModel(small, "int8").eval()),
        ("gpt2-small-shape float32", FastModel(small, "float32").eval()),
        ("storyteller int8", load_model("storyteller", precision="int8")),
    ):
        for writers in (1, 8):
            usual, found = ratios(model, writers)
            often = found[int(0.95 * len(found))]
            print(
                f"{name:26}{writers} writing: usually {1000 * usual:5.1f} ms; while one reads "
                f"{statistics.median(found):.2f} times as long, 95 % {often:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
