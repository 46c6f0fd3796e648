"""The engine beside a program that wants a core: how long its threads should spin for each other.

    python -m tests.benchmarks.neighbour --record

OpenMP's threads meet after each product, and who comes first spins for a while before sleeping
(GNU's library: GOMP_SPINCOUNT turns of a loop, 300,000 by default). Beside another program the
system may put both threads on one core: each then spins while the other should compute. A process
for each count loads the models; they take steps in turns, first alone, then beside one and two
programs that loop without end, each in a session of its own, as a neighbour is. Medians.
Linux with GNU's OpenMP only (as torch's wheels have it). Seven minutes; nothing else should run.
With --record it writes neighbour.txt in assets/benchmarks/.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RECORD = ROOT / "assets" / "benchmarks" / "neighbour.txt"
COUNTS = ("300000", "10000", "3000", "1000", "0")
MODELS, ROWS, NEIGHBOURS = ("storyteller", "gpt2-small-shape"), (1, 16), (0, 1, 2)
NEIGHBOUR = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
ROUNDS, ROUND_SECONDS = 7, 0.3


def serve() -> None:
    """Reads "model rows" from the standard input and answers with milliseconds a step."""
    import torch

    from gpt import GPTConfig, GPTModel, load_model
    from gpt.engine import FastModel
    from gpt.engine.machine import usable_cores

    torch.set_num_threads(usable_cores())
    shape = GPTModel(GPTConfig(qkv_bias=True, tie_weights=True)).eval()
    models = dict(
        zip(
            MODELS,
            (load_model("storyteller", precision="int8"), FastModel(shape, "int8").eval()),
            strict=True,
        )
    )
    print("ready", flush=True)
    for line in sys.stdin:
        model, rows = models[line.split()[0]], int(line.split()[1])
        with torch.inference_mode():
            caches = [model.new_cache(model.cfg.context_length) for _ in range(rows)]
            model.decode_rows([1] * rows, caches)
            seconds, started = [], time.perf_counter()
            while time.perf_counter() - started < ROUND_SECONDS and len(seconds) < 100:
                before = time.perf_counter()
                model.decode_rows([1] * rows, caches)
                seconds.append(time.perf_counter() - before)
        print(1000 * sum(seconds) / len(seconds), flush=True)


def process(count: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.neighbour", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "GOMP_SPINCOUNT": count},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be one of the processes")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--counts", nargs="+", default=COUNTS)
    parser.add_argument("--neighbours", nargs="+", type=int, default=NEIGHBOURS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    from gpt.checkpoints.precision_record import processor
    from gpt.engine.machine import usable_cores

    engines = {count: process(count) for count in arguments.counts}
    for engine in engines.values():
        engine.stdout.readline()
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {processor()}, {usable_cores()} cores, "
        f"Python {platform.python_version()}; int8, milliseconds a step",
        f"{'model':18}{'rows':>5}{'neighbours':>12}  "
        + "".join(f"{count:>10}" for count in engines),
    ]
    print("\n".join(lines), flush=True)
    for n_neighbours in arguments.neighbours:
        neighbours = [
            subprocess.Popen([sys.executable, "-c", NEIGHBOUR], start_new_session=True)
            for _ in range(n_neighbours)
        ]
        try:
            for model in MODELS:
                for rows in ROWS:
                    found: dict[str, list[float]] = {count: [] for count in engines}
                    for _ in range(arguments.rounds):
                        for count, engine in engines.items():
                            engine.stdin.write(f"{model} {rows}\n")
                            engine.stdin.flush()
                            found[count].append(float(engine.stdout.readline()))
                    lines.append(
                        f"{model:18}{rows:5}{n_neighbours:12}  "
                        + "".join(f"{statistics.median(v):10.1f}" for v in found.values())
                    )
                    print(lines[-1], flush=True)
        finally:
            for neighbour in neighbours:
                neighbour.kill()
    for engine in engines.values():
        engine.kill()
    if arguments.record:
        RECORD.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
