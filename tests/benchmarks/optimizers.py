"""AdamW and Muon after the same processor time, on a text of one's own.

    python -m tests.benchmarks.optimizers --text tales-train.txt --validation tales-val.txt --record

The bundled model's shape and the defaults of `python -m gpt train` on a CPU, but for what is
compared and for a warm-up of a twentieth. The schedule of a run is as long as its time allows by
its first steps; all runs have one thread each and as much processor time, two at once on two
cores. The held-out loss is over the whole file.
With --record the findings are written to assets/benchmarks/optimizers.txt.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
RECORD = ROOT / "assets" / "benchmarks" / "optimizers.txt"
FIRST_STEPS = 4


def train(text: str, validation: str, optimizer: str, rate: float, seconds: float) -> str:
    """One run in this process, on one thread: a line of the table."""
    import torch

    from gpt.training.corpus import read_corpus
    from gpt.training.events import Stepped
    from gpt.training.options import STORYTELLER_CONFIG, TrainOptions
    from gpt.training.trainer import Run

    torch.set_num_threads(1)
    corpus = read_corpus((text,), validation)
    rare = 10**9  # no sample, validation or checkpoint before the end
    options = TrainOptions(
        steps=FIRST_STEPS,
        optimizer=optimizer,
        peak_rate=rate,
        out="",
        report_every=1,
        validate_every=rare,
        checkpoint_every=rare,
    )
    trial, times = Run(STORYTELLER_CONFIG, options, corpus), [time.process_time()]
    for event in trial.events():
        if isinstance(event, Stepped):
            times.append(time.process_time())
    a_step = min(b - a for a, b in itertools.pairwise(times))
    steps = round(seconds / a_step)
    run = Run(STORYTELLER_CONFIG, replace(options, steps=steps, warmup_steps=steps // 20), corpus)
    started, last = time.process_time(), None
    for event in run.events():
        if isinstance(event, Stepped):
            last, took = event, time.process_time() - started
    return (
        f"{optimizer:6} {rate:.0e}  {a_step:5.2f} s a step  {steps:5,} steps  "
        f"{last.tokens:9,} tokens  {took:5,.0f} s  training {last.average_loss:.3f}  "
        f"held-out {run.evaluated().nats_per_token:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3])
    parser.add_argument("--seconds", type=float, default=600, help="of the processor, a run")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "muon"])
    parser.add_argument("--at-once", type=int, default=2, help="runs; no more than cores")
    parser.add_argument("--record", action="store_true", help="write optimizers.txt")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    files = [args.text, args.validation]
    if args.one:
        print(train(*files, args.one[0], float(args.one[1]), args.seconds))
        return

    def in_a_process(optimizer: str, rate: float) -> str:
        command = [sys.executable, "-m", "tests.benchmarks.optimizers", "--text", files[0]]
        command += ["--validation", files[1], "--seconds", str(args.seconds)]
        command += ["--one", optimizer, str(rate)]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=-1, text=True).stdout

    from gpt.checkpoints.precision_record import processor

    cases = [(optimizer, rate) for rate in args.rates for optimizer in args.optimizers]
    with ThreadPoolExecutor(args.at_once) as pool:
        lines = list(pool.map(lambda case: in_a_process(*case), cases))
    head = f"{time.strftime('%Y-%m-%d')}, {processor()}, one thread a run, Python "
    report = head + platform.python_version() + "\n" + "".join(lines)
    print(report)
    if args.record:
        RECORD.write_text(report)


if __name__ == "__main__":
    main()
