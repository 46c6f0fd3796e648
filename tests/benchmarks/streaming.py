"""What the page costs: tokens a second through `gradio_client` beside the package alone.

    python -m tests.benchmarks.streaming [--model FOLDER_OR_NAME] [--precision int8] [--repeats 5]

Starts app.py, asks its public endpoint for 200 tokens as any client does, and takes turns with
the same run by `gpt.generate` in a process of its own. Time runs from the first token to the last,
as the client sees them. Prints medians (worst-best) and the share that the page costs, which may
be 20 %; exits with 1 if it is more. `--record` adds them to assets/benchmarks/streaming.txt.
Nothing else should run.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
RECORD = ROOT / "assets" / "benchmarks" / "streaming.txt"
PROMPT = "Once upon a time"
TOKENS = 200
LARGEST_COST = 0.20


@contextlib.contextmanager
def app(port: int, model: str) -> Iterator[str]:
    """The address of a running app.py."""
    command = [sys.executable, "app.py", "--port", str(port), "--model", model]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address).close()
                break
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def through_the_page(client: object, model: str, precision: str) -> tuple[float, float, float]:
    """Tokens a second at the client, by the page's statistics, and seconds to the first token."""
    started = time.perf_counter()
    job = client.submit(  # type: ignore[attr-defined]
        PROMPT, TOKENS, "cpu", 1.0, 0, 1.0, 7, model, precision, api_name="/generate"
    )
    first = last = 0.0
    first_count = count = 0
    stats = ""
    for update in job:
        stats = update[1]
        found = re.search(r"(\d+) of \d+ tokens", stats)
        if found and int(found[1]) > count:
            last, count = time.perf_counter(), int(found[1])
            if not first:
                first, first_count = last, count
    shown = re.search(r"([\d.,]+) tokens/s", stats)
    assert shown is not None, stats
    rate = (count - first_count) / (last - first) if last > first else 0.0
    return rate, float(shown[1].replace(",", "")), first - started


def alone(model: str, precision: str) -> None:
    """Answers each line on standard input with the rate of one run."""
    import torch

    from gpt import SamplingOptions, Tokenizer, load_model
    from gpt.engine.machine import usable_cores
    from gpt.generate import generate

    torch.set_num_threads(usable_cores())
    loaded = load_model(model, precision=precision)
    ids = Tokenizer().encode(PROMPT)
    for _ in sys.stdin:
        steps = generate(loaded, ids, SamplingOptions(max_new_tokens=TOKENS, seed=7))
        next(steps)
        started = time.perf_counter()
        made = sum(1 for _ in steps)
        print(made / (time.perf_counter() - started), flush=True)


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):8.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Tokens a second through the page and without.")
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--port", type=int, default=7869)
    parser.add_argument("--record", action="store_true", help="add the result to the file")
    parser.add_argument("--name", help="what a folder is called in the result")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        alone(args.model, args.precision)
        return 0
    from gradio_client import Client

    command = [sys.executable, "-m", "tests.benchmarks.streaming", "--alone"]
    command += ["--model", args.model, "--precision", args.precision]
    package = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    rates: dict[str, list[float]] = {"alone": [], "page": [], "shown": [], "first": []}
    with app(args.port, args.model) as address, package:
        assert package.stdin is not None
        assert package.stdout is not None
        client = Client(address, verbose=False)
        for turn in range(args.repeats + 1):  # the first loads and warms up
            package.stdin.write("\n")
            package.stdin.flush()
            rate = float(package.stdout.readline())
            page, shown, first = through_the_page(client, args.model, args.precision)
            if turn:
                for name, value in zip(rates, (rate, page, shown, first), strict=True):
                    rates[name].append(value)
        package.stdin.close()
    cost = 1 - statistics.median(rates["page"]) / statistics.median(rates["alone"])
    what = f"{args.precision}, {TOKENS} tokens, {args.repeats} repeats"
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {args.name or args.model}, {what}",
        f"package alone          {middle(rates['alone'])} tokens/s",
        f"at the client          {middle(rates['page'])} tokens/s",
        f"by the page's own line {middle(rates['shown'])} tokens/s",
        f"first token at client  {1000 * statistics.median(rates['first']):8.0f} ms",
        f"the page costs {cost:.0%}, allowed {LARGEST_COST:.0%}",
    ]
    print("\n".join(lines))
    if args.record:
        with RECORD.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")
    return int(cost > LARGEST_COST)


if __name__ == "__main__":
    sys.exit(main())
