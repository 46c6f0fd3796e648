"""Decoding speed beside the engines that people would use instead, all in one interleaved run.

    pip install -r tests/benchmarks/requirements.txt
    python -m tests.benchmarks.decode

Every engine runs in a process of its own with two threads, and they take turns: once through the
list is one repeat. Writes decode.json, decode.txt and decode.png in assets/benchmarks/. Peers that
are not installed are left out, and named, as is what `--without` names: bfloat16 in transformers
takes minutes where the processor has none. Linux only; a quarter of an hour; nothing else should
run. `--report` writes text and plot again from decode.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.benchmarks import peer_files, report  # noqa: E402
from tests.benchmarks.contenders import THREADS, timed  # noqa: E402

MODELS = ("gpt2-small-shape", "storyteller")
CONTENDERS = [
    *(("ours", setting) for setting in ("float32", "float16", "bfloat16", "int8")),
    ("book", "float32"),
    ("transformers", "float32"),
    ("transformers", "bfloat16"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("llama.cpp", "float16"),
    ("llama.cpp", "q8_0"),
]
PACKAGES = {"ctranslate2": "ctranslate2", "llama.cpp": "llama_cpp", "transformers": "transformers"}


@dataclass(frozen=True)
class Row:
    """What is timed: a request to a contender, and how many tokens it makes or reads."""

    name: str
    request: str
    tokens: int
    options: dict[str, int] = field(default_factory=dict)
    plotted_only: bool = False  # for the plot, and those engines alone that stand in it


def rows_of(model: str) -> list[Row]:
    """The rows of a model's table; the storyteller's context is 256."""
    small = model == "gpt2-small-shape"
    contexts = (100, 500, 976) if small else (100, 200)
    prompts = (64, 512) if small else (64, 192)
    return [
        Row("decode 128", "decode", 128, {"tokens": 128, "prompt": 4}),
        Row("decode 32, batch 8", "batch", 8 * 32, {"tokens": 32, "rows": 8}),
        *(Row(f"prefill {n}", "prefill", n, {"tokens": n}) for n in prompts),
        *(
            Row(f"decode 24 after {n}", "decode", 24, {"tokens": 24, "prompt": n}, True)
            for n in contexts
        ),
        *(
            Row(f"decode 32, batch {n}", "batch", 32 * n, {"tokens": 32, "rows": n}, True)
            for n in (2, 4, 16)
        ),
    ]


def takes_part(engine: str, row: Row) -> bool:
    if engine in ("book", "before"):
        return row.name == "decode 128" or (engine == "before" and row.request == "prefill")
    if row.request == "batch":
        return (
            engine != "llama.cpp"
        )  # in visitors.py: its Python class reads one sequence at a time
    # The others do not tell the time of the prompt from the time of the tokens.
    return engine in ("ours", "llama.cpp") or not row.plotted_only


class Worker:
    """A contender's process: `ask` sends one request and waits for the answer."""

    def __init__(self, engine: str, setting: str, folder: Path, checkout: Path = ROOT) -> None:
        self.engine, self.setting = engine, setting
        self.seconds: dict[str, list[float]] = {}
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        if engine == "ours":  # as app.py starts itself
            environment["GLIBC_TUNABLES"] = (
                "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
                ":glibc.malloc.trim_threshold=268435456"
            )
        contender = "ours" if engine == "before" else engine
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.contenders", contender, setting, str(folder)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.loaded = self._answer()

    def ask(self, do: str, **options: int) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("="):
                return json.loads(line[1:])
        raise RuntimeError(f"{self.engine} {self.setting} ended: run its process by hand to see.")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def read_bandwidth(n_bytes: int) -> float:
    """Bytes a second of reading so many again and again with all threads: the best of all ways.

    A model that the cache holds is read from there, so that the rate of memory is no limit for it.
    torch shares some reductions badly among threads, and decoding was above the rate of one of
    them: so several ways are tried, among them a thread of our own for each part.
    """
    import torch

    torch.set_num_threads(THREADS)
    data = torch.ones(THREADS, n_bytes // 8 // THREADS * 2)
    parts = data.numpy().view("int64")  # numpy computes on the thread that calls it
    with ThreadPoolExecutor(THREADS) as threads:
        ways: list[Callable[[], object]] = [
            lambda: data.amax(),
            lambda: data.sum(dim=1),
            lambda: data.amax(dim=1),
            lambda: torch.mv(data, data[0]),
            lambda: list(threads.map(lambda part: part.max(), parts)),
        ]
        seconds = [timed(way) for way in ways for _ in range(5)]
    return data.nbytes / min(seconds)


def write_files(model: str, folder: Path, contenders: list[tuple[str, str]]) -> None:
    """The model in every contender's format; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "hf").exists():
        peer_files.write_ours(model, folder)
    for engine, setting in contenders:
        if engine == "ctranslate2" and not (folder / f"ct2-{setting}").exists():
            peer_files.write_ctranslate2(folder, setting)
        if engine == "llama.cpp" and not (folder / f"{setting}.gguf").exists():
            peer_files.write_gguf(folder, setting)


def run(
    model: str,
    repeats: int,
    contenders: list[tuple[str, str]],
    folder: Path,
    rows: list[Row],
    before: Path | None = None,
) -> dict[str, Any]:
    """Every row of one model: a list of seconds for each contender, and for the checkout before."""
    write_files(model, folder, contenders)
    workers = [Worker(engine, setting, folder) for engine, setting in contenders]
    if before:
        ours = [setting for engine, setting in contenders if engine == "ours"]
        workers += [Worker("before", setting, folder, before.resolve()) for setting in ours]
    sizes = weight_sizes(model)
    bandwidths: dict[str, list[float]] = {setting: [] for setting in sizes["read_bytes"]}
    for worker in workers:
        worker.ask("decode", tokens=8, prompt=4)  # warms up
    for turn in range(1, repeats + 1):
        for setting, n_bytes in sizes["read_bytes"].items():
            bandwidths[setting].append(read_bandwidth(n_bytes))
        for row in rows:
            for worker in workers:
                if takes_part(worker.engine, row):
                    seconds = worker.ask(row.request, **row.options)
                    worker.seconds.setdefault(row.name, []).append(seconds)
        print(f"{model}: turn {turn} of {repeats} at {time.strftime('%H:%M:%S')}", flush=True)
    found = [
        {
            "engine": worker.engine,
            "setting": worker.setting,
            **worker.loaded,
            "peak_bytes": worker.ask("memory"),
            "seconds": worker.seconds,
        }
        for worker in workers
    ]
    for worker in workers:
        worker.close()
    return {
        "tokens": {row.name: row.tokens for row in rows},
        **sizes,
        "read_bytes_per_second": bandwidths,
        "contenders": found,
    }


def weight_sizes(model: str) -> dict[str, dict[str, int]]:
    """Bytes of weights by precision: kept, and read for a token, which skips the embedding."""
    from gpt import GPTConfig
    from gpt.accounting.memory import read_per_pass, weight_bytes
    from gpt.checkpoints.sources import config_of
    from gpt.engine import PRECISIONS

    small = GPTConfig(qkv_bias=True, tie_weights=True)
    cfg = small if model == "gpt2-small-shape" else config_of(model)
    return {
        "weight_bytes": {name: weight_bytes(cfg, name) for name in PRECISIONS},
        "read_bytes": {name: read_per_pass(cfg, name) for name in PRECISIONS},
    }


def environment(missing: list[str]) -> dict[str, Any]:
    """When, where and with what the run was made."""
    names = ("torch", "transformers", "ctranslate2", "llama-cpp-python", "gguf")
    processor = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{platform.machine()}, {processor}, {os.cpu_count()} cores",
        "threads": THREADS,
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in names
            if name.replace("-cpp-python", ".cpp") not in missing
        },
        "left_out": missing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Decoding speed beside other engines.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--files", metavar="FOLDER", help="keep the models' files there")
    parser.add_argument("--without", nargs="+", default=[], help='such as "transformers bfloat16"')
    parser.add_argument("--before", type=Path, help="another checkout, which takes part as before")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if args.report:
        print(report.write(json.loads(report.DATA.read_text())))
        return
    missing = [name for name, package in PACKAGES.items() if find_spec(package) is None]
    contenders = [c for c in CONTENDERS if c[0] not in missing and " ".join(c) not in args.without]
    data: dict[str, Any] = {**environment(missing), "models": {}}
    data["left_out"] = [*missing, *args.without]
    with tempfile.TemporaryDirectory() as temporary:
        for model in args.models:
            folder = Path(args.files or temporary) / model
            data["models"][model] = run(
                model, args.repeats, contenders, folder, rows_of(model), args.before
            )
    report.DATA.parent.mkdir(parents=True, exist_ok=True)
    report.DATA.write_text(json.dumps(data, indent=1) + "\n")
    print(report.write(data))


if __name__ == "__main__":
    main()
