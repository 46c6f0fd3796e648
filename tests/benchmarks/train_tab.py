"""How soon the Train tab's models write words, and what writers keep beside one that trains.

    python -m tests.benchmarks.train_tab --record

In this process, as the page does it: runs of `gpt.ui.train.trainings` on the thread that has all
cores, and rows of the storyteller's scheduler. For each size, beside the label that the page gives
it: seconds of training, of the wall and of the processor, and the tokens (`MARKS` of
gpt/ui/train/settings.py), until the held-out loss is below the guess by frequency alone, and until
four of five words of the sample are words of the text. Then tokens a second of ten and of thirty
writers alone and beside a run of the default size. About six minutes, eight at most; nothing else
should run.
With --record it writes train_tab.json and train_tab.txt in assets/benchmarks/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
RECORD = ROOT / "assets" / "benchmarks" / "train_tab.json"
TOKENS, ENOUGH = 120, 0.8
MOST_SECONDS = 100
BELOW, WORDS = "below the guess by frequency", "four of five words are words"


def share_of_words(training: Any, known: set[str]) -> float:
    """Of the sample's words after the prompt those that the text has."""
    prompt = training.plan.options.prompt
    words = re.findall(r"\w+", training.history.sample.text[len(prompt) :])
    return sum(word in known for word in words) / max(len(words), 1)


async def learning(size: str) -> dict[str, Any]:
    """When a size passes the marks, and what it writes at the end of a budget of 60 s."""
    from gpt.ui.train.settings import DEFAULTS, SIZES
    from gpt.ui.train.trainings import Training, Trainings

    values = {**DEFAULTS, **SIZES[size][1], "size": size, "pasted": "", "file": None}
    training, marks, known = Training(Trainings(), values), {}, None
    wall, processor = time.perf_counter(), time.process_time()
    async with aclosing(training.updates()) as updates:
        async for _ in updates:
            history = training.history
            if not history.steps:
                continue
            known = known or set(re.findall(r"\w+", training.plan.text.text))
            now = {
                "training_s": round(history.steps[-1].seconds, 1),
                "wall_s": round(time.perf_counter() - wall, 1),
                "cpu_s": round(time.process_time() - processor, 1),
                "tokens": history.steps[-1].tokens,
            }
            frequency = training.plan.baselines["by frequency alone"]
            if history.evaluated[-1][1].nats_per_token < frequency:
                marks.setdefault(BELOW, now)
            if history.sample.step and share_of_words(training, known) >= ENOUGH:
                marks.setdefault(WORDS, now)
            if len(marks) == 2 or now["wall_s"] > MOST_SECONDS:
                training.stop()
    steps = training.history.steps
    return {
        "label": SIZES[size][0],
        "marks": marks,
        "tokens_per_second": round(steps[-1].tokens / steps[-1].seconds),
        "steps_of_the_budget": training.plan.options.steps,
        "nats_above_the_floor": round(
            training.history.evaluated[-1][1].nats_per_token
            - training.plan.text.floor(training.plan.corpus),
            3,
        ),
        "sample": training.history.sample.text,
    }


async def writing(writers: int, seconds: float, beside: bool) -> dict[str, float]:
    """Tokens a second of all writers together, alone or beside a run."""
    from gpt import SamplingOptions, load_model
    from gpt.serving.scheduler import scheduler_for
    from gpt.ui.train.settings import DEFAULTS
    from gpt.ui.train.trainings import Training, Trainings

    training = Training(Trainings(), {**DEFAULTS, "pasted": "", "file": None})

    async def train() -> None:
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                pass

    task = asyncio.create_task(train()) if beside else None
    while beside and len(training.history.steps) < 5:
        await asyncio.sleep(0.1)
    model = load_model("storyteller", precision="int8")
    scheduler = scheduler_for(model)
    written = 0

    async def write() -> None:
        """Text after text: none reaches the end of the context, where each token costs more."""
        nonlocal written
        while True:
            async for _ in scheduler.submit([1, 2, 3], SamplingOptions(TOKENS, seed=1)):
                written += 1

    tasks = [asyncio.create_task(write()) for _ in range(writers)]
    await asyncio.sleep(3)
    began, steps, before = time.perf_counter(), len(training.history.steps), written
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    trained, rate = len(training.history.steps) - steps, (written - before) / took
    for writer in tasks:
        writer.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if task is not None:
        training.stop()
        await task
    return {"tokens_per_second": rate, "training_steps_per_second": trained / took}


def report(found: dict[str, Any]) -> str:
    """The measurements as text."""
    lines = [found["machine"], "Stories in characters; seconds of training (wall) until:"]
    for of in found["sizes"].values():
        told = [f"  {of['label']}: {of['tokens_per_second']:,} tokens/s"]
        for name in (BELOW, WORDS):
            mark, when = of["marks"].get(name), f"over {MOST_SECONDS} s"
            if mark:
                when = f"{mark['training_s']} s ({mark['wall_s']}), {mark['tokens']:,} tokens"
            told.append(f"{name}: {when}")
        lines.append("   ".join(told))
    lines.append("Storyteller int8, tokens/s of all writers together:")
    for writers, of in found["writers"].items():
        lines.append(
            f"  {writers:>3} writers   alone {of['alone']['tokens_per_second']:,.0f}   beside a "
            f"training {of['beside']['tokens_per_second']:,.0f}   kept {of['kept']:.0%}   "
            f"training steps/s {of['beside']['training_steps_per_second']:.1f}"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["small", "medium", "large"])
    parser.add_argument("--writers", nargs="*", type=int, default=[10, 30])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--record", action="store_true", help="write train_tab.json and .txt")
    args = parser.parse_args()
    from gpt.checkpoints.precision_record import processor
    from gpt.engine.machine import usable_cores
    from gpt.serving import all_cores

    all_cores.start()
    found: dict[str, Any] = {
        "machine": f"{time.strftime('%Y-%m-%d')}, {processor()}, {usable_cores()} cores, "
        f"Python {platform.python_version()}",
        "sizes": {size: asyncio.run(learning(size)) for size in args.sizes},
        "writers": {},
    }
    for writers in args.writers:
        alone, beside = (
            asyncio.run(writing(writers, args.seconds, beside)) for beside in (False, True)
        )
        kept = round(beside["tokens_per_second"] / alone["tokens_per_second"], 3)
        found["writers"][str(writers)] = {"alone": alone, "beside": beside, "kept": kept}
    print(report(found))
    if args.record:
        RECORD.write_text(json.dumps(found, indent=2) + "\n")
        RECORD.with_suffix(".txt").write_text(report(found))


if __name__ == "__main__":
    main()
