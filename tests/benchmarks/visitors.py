"""Many visitors at once: what each of them waits for, through the page and by the engine alone.

    python -m tests.benchmarks.visitors [--visitors 1 4 8 16 30 50] [--before CHECKOUT] [--peers]
        [--turns 7] [--stops 15] [--record]
    python -m tests.benchmarks.visitors --soak 30

Starts app.py and asks its public endpoint through as many `gradio_client`s for 120 tokens each, of
the storyteller and of random weights in GPT-2 small's shape, in int8 and float32. Beside it, each
in a process of its own: the scheduler without the page, the page of another checkout, and
ctranslate2, llama.cpp and transformers with as many sequences in one batch. `--turns` compares the
page with the engine alone and with the page before, one after the other so many times: the medians
judge, where single runs differ by a tenth. `--stops` measures how soon the row of somebody who
leaves is free, for four minutes at most. Every process has all cores in its turn; the
clients share them with the page. Writes visitors.txt and visitors.json in assets/benchmarks/.
With `--soak` 30 visitors come and go for that many minutes, with random options, Stop and closed
tabs; every finished text must be the one of the same request alone. Nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
RECORD = ROOT / "assets" / "benchmarks" / "visitors.json"
PROMPT = "Once upon a time there was a king who"
TOKENS = 120
SHAPE = "gpt2-small-shape"
CASES = (("storyteller", "int8"), ("storyteller", "float32"), (SHAPE, "int8"), (SHAPE, "float32"))
PEERS = (  # whose name, its setting, and beside which precision of ours
    ("ctranslate2", "int8", "int8"),
    ("llama.cpp", "q8_0", "int8"),
    ("ctranslate2", "float32", "float32"),
    ("transformers", "float32", "float32"),
)
DEADLINE_SECONDS = 600
DIFFERENT_REQUESTS = 60  # in a soak; each is asked alone too, after it
LOOK_SECONDS = 0.01  # how often answers are looked at
PATIENT = {"timeout": 120}  # on a busy machine a client gives up after 5 s otherwise
# As app.py starts itself.
AS_APP = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=268435456"
}
# No certificates either: reading them for every request takes a client 0.1 s of a core.


class Page:
    """A running app.py of a checkout, and clients of it."""

    def __init__(self, checkout: Path, model: Path, port: int, watched: bool = False) -> None:
        self.address, self.clients = f"http://127.0.0.1:{port}/", []
        script = ["-m", "tests.benchmarks.stops"] if watched else ["app.py"]
        self.process = subprocess.Popen(
            [sys.executable, *script, "--port", str(port), "--model", str(model)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), **AS_APP},
            stdout=subprocess.PIPE if watched else subprocess.DEVNULL,
            text=True,
        )
        for _ in range(240):
            with contextlib.suppress(OSError):
                self.get("")
                return
            time.sleep(0.5)
        raise TimeoutError(f"the page of {checkout} did not start")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path) as answer:
            return answer.read().decode()

    def come(self, visitors: int) -> None:
        """Makes a client for each of so many visitors, before anything is timed."""
        while len(self.clients) < visitors:
            self.clients.append(self.new_client())

    def new_client(self) -> Any:
        from gradio_client import Client

        return Client(self.address, verbose=False, ssl_verify=False, httpx_kwargs=PATIENT)

    def ask(self, visitor: int, **options: Any) -> Answer:
        """The request of a visitor, each with a client of its own."""
        return Answer(self.clients[visitor].submit(api_name="/generate", **options))

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+)", status)
        assert found is not None
        return 1024 * int(found[1])

    def thread_seconds(self) -> dict[str, tuple[float, float]]:
        """For each thread: seconds on a core, and seconds for which it could but had none."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                on, waited, _ = map(int, (task / "schedstat").read_text().split())
                found[task.name] = on / 1e9, waited / 1e9
        return found

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait()


class Answer:
    """One run as its client sees it: when how many tokens were there."""

    def __init__(self, job: Any) -> None:
        self.job, self.asked = job, time.perf_counter()
        self.seen, self.times, self.text = 0, [], ""

    def look(self) -> bool:
        """Notes what has come since the last look; whether more may come."""
        done = self.job.done()
        outputs = self.job.outputs()
        if len(outputs) > self.seen:
            self.seen, (self.text, stats, *_) = len(outputs), outputs[-1]
            found = re.search(r"([\d,]+) of [\d,]+ tokens", stats)
            count = int(found[1].replace(",", "")) if found else 0
            if count and (not self.times or count > self.times[-1][1]):
                self.times.append((time.perf_counter(), count))
        return not done

    @property
    def failure(self) -> str:
        """What went wrong, in short; empty if nothing did."""
        if not self.job.done():
            return "no end"
        error = self.job.exception()
        if error is not None:
            return f"{type(error).__name__}: {error}"[:200]
        return "" if self.times else "no token"


def options_of(model: str, precision: str, seed: int) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "max_new_tokens": TOKENS,
        "device": "cpu",
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "seed": seed,
        "model": model,
        "precision": precision,
    }


def through_the_page(page: Page, model: str, precision: str, visitors: int) -> dict[str, Any]:
    """All press Generate together: rates, first tokens, gaps between updates, failures."""
    page.come(visitors)
    started, clients = time.perf_counter(), time.process_time()
    before = page.thread_seconds()
    answers = [page.ask(i, **options_of(model, precision, i)) for i in range(visitors)]
    wait_for(answers)
    seconds = time.perf_counter() - started
    threads = busiest(before, page.thread_seconds(), seconds)
    clients = (time.process_time() - clients) / seconds
    good = [answer for answer in answers if not answer.failure]
    if not good:
        return {"failures": visitors, "failed_with": answers[0].failure}
    firsts = [answer.times[0][0] - answer.asked for answer in good]
    gaps = [
        later[0] - sooner[0]
        for answer in good
        for sooner, later in zip(answer.times, answer.times[1:], strict=False)
    ]
    last = max(answer.times[-1][0] for answer in good)
    return {
        "tokens_per_second": sum(a.times[-1][1] for a in good) / (last - started),
        **spread("first", firsts),
        **spread("gap", gaps),
        "threads": threads,
        "clients": clients,
        "failures": visitors - len(good),
        "failed_with": "; ".join({answer.failure for answer in answers} - {""}),
    }


def busiest(before: Any, after: Any, seconds: float) -> list[dict[str, float]]:
    """Of the three threads that computed most, as a rule the engine's two and the event loop's: the
    share of the time on a core, and the share asleep: for the engine's, what it waits for others.
    """
    spent = [
        (on - before.get(name, (0, 0))[0], waited - before.get(name, (0, 0))[1])
        for name, (on, waited) in after.items()
    ]
    return [
        {"on_core": on / seconds, "asleep": 1 - (on + waited) / seconds}
        for on, waited in sorted(spent, reverse=True)[:3]
    ]


def wait_for(answers: list[Answer]) -> None:
    deadline = time.perf_counter() + DEADLINE_SECONDS
    while any([answer.look() for answer in answers]) and time.perf_counter() < deadline:  # noqa: C419
        time.sleep(LOOK_SECONDS)
    for answer in answers:
        answer.look()


def spread(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {
        f"{name}_median": statistics.median(ordered),
        f"{name}_95th": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        f"{name}_worst": ordered[-1],
    }


async def steps_in(runs: list[Any]) -> int:
    """How many steps all of `runs` have, once they are over."""
    for run in runs:
        await run.ended(DEADLINE_SECONDS)
    return sum(len(run.take()) for run in runs)


def engine(model: str, precision: str) -> None:
    """For each number of rows that is read, a line each, prints the scheduler's tokens a second."""
    from gpt import SamplingOptions, Tokenizer, load_model
    from gpt.serving import all_cores
    from gpt.serving.scheduler import scheduler_for

    all_cores.start()
    loaded = all_cores.on_all_cores(load_model, model, precision=precision)
    ids = Tokenizer().encode(PROMPT)
    for rows in map(int, sys.stdin):
        started = time.perf_counter()
        runs = [
            scheduler_for(loaded).submit(ids, SamplingOptions(max_new_tokens=TOKENS, seed=i))
            for i in range(rows)
        ]
        made = asyncio.run(steps_in(runs))
        print(json.dumps(made / (time.perf_counter() - started)), flush=True)


class Engine:
    """The scheduler without the page, in a process of its own."""

    def __init__(self, model: str, precision: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.visitors", "--engine", model, precision],
            cwd=ROOT,
            env={**os.environ, **AS_APP},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rate(16)  # warms up

    def rate(self, rows: int) -> float:
        """Tokens a second of so many together."""
        self.process.stdin.write(f"{rows}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def peer_rates(folder: Path, name: str, setting: str, visitors: list[int]) -> list[float]:
    """Tokens a second of another engine with as many sequences in one batch."""
    from tests.benchmarks.decode import Worker

    worker = Worker(name, setting, folder)
    try:
        worker.ask("batch", tokens=8, rows=max(visitors))  # warms up
        return [rows * TOKENS / worker.ask("batch", tokens=TOKENS, rows=rows) for rows in visitors]
    finally:
        worker.process.terminate()
        worker.process.wait()


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that was asked for."""
    cases = [case for case in CASES if case[0] in args.models and case[1] in args.precisions]
    sources = {"storyteller": "storyteller", SHAPE: str(folder / "ours")}
    data: dict[str, Any] = {"tokens": TOKENS}
    if args.visitors:
        data |= {"visitors": args.visitors, "cases": rows_by_case(args, folder, cases, sources)}
    if args.turns:
        data["turns"] = {
            " ".join(case): in_turns(args, folder, sources[case[0]], case[1]) for case in cases
        }
    if args.stops:
        data["stops"] = stops_of(args, folder)
    return data


def rows_by_case(args: argparse.Namespace, folder: Path, cases: Any, sources: Any) -> Any:
    """Every case, number of visitors and checkout; the page is started once for each checkout."""
    data: dict[str, Any] = {}
    checkouts = {"page": ROOT, **({"page before": args.before} if args.before else {})}
    for model, precision in cases:
        with contextlib.closing(Engine(sources[model], precision)) as alone:
            rates = [alone.rate(visitors) for visitors in args.visitors]
        found = data.setdefault(f"{model} {precision}", {})
        found["engine"] = rows_of(rates, args.visitors)
        print(f"{model} {precision} engine", [round(rate) for rate in rates], flush=True)
    for i, (name, checkout) in enumerate(checkouts.items()):
        with contextlib.closing(Page(checkout, folder / "ours", args.port + i)) as page:
            for model, precision in cases:
                rows = data[f"{model} {precision}"].setdefault(name, [])
                through_the_page(page, sources[model], precision, 1)  # loads and warms up
                for visitors in args.visitors:
                    found = through_the_page(page, sources[model], precision, visitors)
                    rows.append({"visitors": visitors, **found})
                    print(f"{model} {precision} {name} {visitors}", rows[-1], flush=True)
    for name, setting, precision in PEERS if args.peers and SHAPE in args.models else ():
        if precision not in args.precisions:
            continue
        few = [visitors for visitors in args.visitors if visitors <= 16]
        found = data.setdefault(f"{SHAPE} {precision}", {})
        found[name] = rows_of(peer_rates(folder, name, setting, few), few)
        print(f"{SHAPE} {precision} {name}", found[name], flush=True)
    return data


def in_turns(args: argparse.Namespace, folder: Path, model: str, precision: str) -> dict[str, Any]:
    """Tokens a second of one on the page and before, in int8 also of 16 there and by the engine."""

    def of_page(page: Page, visitors: int) -> float:
        page.process.send_signal(signal.SIGCONT)
        rate = through_the_page(page, model, precision, visitors)["tokens_per_second"]
        page.process.send_signal(signal.SIGSTOP)  # an idle page takes up to 5 % of a core
        return rate

    found: dict[str, list[float]] = {}

    def compare(ways: dict[str, Any]) -> None:
        for ask in ways.values():  # warms up
            ask()
        for turn in range(args.turns):
            for name in sorted(ways, reverse=turn % 2 == 1):
                found.setdefault(name, []).append(ways[name]())

    with contextlib.closing(Page(ROOT, folder / "ours", args.port + 3)) as page:
        if precision == "int8":
            with contextlib.closing(Engine(model, precision)) as alone:
                compare({"page 16": lambda: of_page(page, 16), "engine 16": lambda: alone.rate(16)})
        if args.before:
            with contextlib.closing(Page(args.before, folder / "ours", args.port + 4)) as before:
                compare(
                    {"page 1": lambda: of_page(page, 1), "before 1": lambda: of_page(before, 1)}
                )
    print(f"{model} {precision} in turns", found, flush=True)
    return found


def rows_of(rates: list[float], visitors: list[int]) -> list[dict[str, float]]:
    pairs = zip(rates, visitors, strict=True)
    return [{"visitors": many, "tokens_per_second": rate} for rate, many in pairs]


def stops_of(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds until the row of somebody who leaves is free, while 30 others write."""
    from tests.benchmarks import stops

    model = str(folder / "ours")
    with contextlib.closing(Page(ROOT, folder / "ours", args.port + 9, watched=True)) as page:
        page.come(30)
        through_the_page(page, model, "int8", 1)

        def ask(visitor: int) -> Answer:
            options = options_of(model, "int8", visitor)
            return page.ask(visitor, **{**options, "max_new_tokens": 500})

        options = {**options_of(model, "int8", 0), "max_new_tokens": 500}
        request = [*options.values(), 0.0, "", None]  # min_p, stop and steering are the last
        found = stops.measure(page, ask, request, args.stops)
    return {way: spread("free", seconds) for way, seconds in found.items()}


def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Visitors that come and go: finished texts against the same request alone, and memory."""
    import httpx

    from tests.benchmarks.stops import press_stop, stop_event

    rng, answers, errors = random.Random(0), {}, []
    requests = [_random_request(rng) for _ in range(DIFFERENT_REQUESTS)]
    finished: list[tuple[int, str]] = []  # which request, and its text
    counts = {"stopped": 0, "stops_unanswered": 0, "closed": 0}
    memory: list[tuple[float, int]] = []
    stopped: set[int] = set()  # who waits for the answer to a Stop, before the next request
    with contextlib.closing(Page(ROOT, Path("storyteller"), args.port)) as page:
        page.come(30)
        http = httpx.Client(base_url=f"{page.address}gradio_api", timeout=DEADLINE_SECONDS)
        stop = stop_event(json.loads(page.get("config")))
        started = time.perf_counter()
        while (now := time.perf_counter() - started) < 60 * args.soak:
            if not memory or now - memory[-1][0] > 10:
                memory.append((now, page.memory_bytes()))
                print(
                    f"{now:.0f} s: {len(finished)} finished, {memory[-1][1] >> 20} MiB", flush=True
                )
            for visitor in range(30):
                if visitor not in answers:
                    chosen = rng.randrange(len(requests))
                    answers[visitor] = page.ask(visitor, **requests[chosen]), chosen
                answer, chosen = answers[visitor]
                if not answer.look():
                    del answers[visitor]
                    if visitor in stopped:
                        stopped.discard(visitor)
                    elif answer.failure:
                        errors.append(answer.failure)
                    else:
                        finished.append((chosen, answer.text))
                elif visitor not in stopped and answer.times and rng.random() < 0.002:
                    stopped.add(visitor)
                    counts["stopped"] += 1
                    if rng.random() < 0.3:
                        press_stop(http, stop, page.clients[visitor].session_hash)
                        continue
                    try:
                        answer.job.cancel()
                    except httpx.TimeoutException:  # its client waits for 5 s
                        counts["stops_unanswered"] += 1
                    if rng.random() < 0.5:  # as a closed tab: another client comes in its place
                        page.clients[visitor].close()
                        page.clients[visitor] = page.new_client()
                        stopped.discard(visitor)
                        del answers[visitor]
                        counts["closed"] += 1
            time.sleep(0.02)
        wait_for([answer for answer, _ in answers.values()])
        print(f"{len(finished)} finished, {counts}, errors {errors}; each alone", flush=True)
        alone = {}
        for chosen in {chosen for chosen, _ in finished}:
            answer = page.ask(0, **requests[chosen])
            wait_for([answer])
            alone[chosen] = answer.text
    after_a_minute = [n for at, n in memory if at > 60] or [memory[-1][1]]
    return {
        "finished": len(finished),
        **counts,
        "errors": len(errors),
        "failed_with": "; ".join(sorted(set(errors)))[:300],
        "compared": len(finished),
        "different": sum(text != alone[chosen] for chosen, text in finished),
        "minutes": args.soak,
        "memory_mib_after_a_minute": after_a_minute[0] // 2**20,
        "memory_mib_at_the_end": after_a_minute[-1] // 2**20,
        "memory_mib_most": max(after_a_minute) // 2**20,
        "memory_mib_every_minute": [
            round(statistics.median(n for at, n in memory if at // 60 == minute) / 2**20)
            for minute in range(int(memory[-1][0] // 60) + 1)
        ],
    }


def _random_request(rng: random.Random) -> dict[str, Any]:
    request = options_of("storyteller", rng.choice(["int8", "float32"]), rng.randrange(10**6))
    changes = {
        "prompt": " ".join(rng.choices(["The king", "and a wolf", "said,", "once"], k=9)),
        "max_new_tokens": rng.choice([5, 60, 120, 300]),  # the last outgrow the context
        "temperature": rng.choice([0, 0.7, 1.2]),
        "top_k": rng.choice([0, 40]),
        "top_p": rng.choice([1.0, 0.9]),
        "min_p": rng.choice([0, 0.05]),
        "stop": rng.choice(["", "", "king", "."]),
        "steering": rng.choice([None, [[3, 262]]]),
    }
    return {**request, **changes}


def text_of(data: dict[str, Any]) -> str:
    """The measurements as tables."""
    stamps: dict[str, list[str]] = {}
    for part, stamp in data["measured"].items():
        stamps.setdefault(stamp, []).append(part)
    lines = [f"{stamp}: {', '.join(parts)}" for stamp, parts in stamps.items()]
    lines += ["Tokens a second together; first token and gap between updates in ms: median, 95 %,"]
    lines += ["worst. Clients, page and engine share the cores.", ""]
    for case, found in data.get("cases", {}).items():
        for name, rows in found.items():
            for row in rows:
                rate, visitors = row.get("tokens_per_second", 0.0), row["visitors"]
                line = f"{case:26}{name:14}{visitors:>4} visitors {rate:>9,.1f} tokens/s"
                if "failures" in row:
                    times = [
                        " ".join(f"{1000 * row.get(f'{what}_{how}', 0):,.0f}" for how in HOW)
                        for what in ("first", "gap")
                    ]
                    line += f"   first {times[0]}   gap {times[1]}   failures {row['failures']}"
                    if row.get("threads"):
                        busy = ", ".join(f"{found['on_core']:.0%}" for found in row["threads"])
                        line += f"   of a core: threads {busy}, clients {row['clients']:.0%}"
                lines.append(line)
    for case, found in data.get("turns", {}).items():
        for name, rates in found.items():
            shown = " ".join(f"{rate:,.0f}" for rate in sorted(rates))
            lines.append(f"{case:26}in turns, {name:10} {shown} tokens/s")
    for way, found in data.get("stops", {}).items():
        times = " ".join(f"{1000 * found[f'free_{how}']:,.0f}" for how in HOW)
        lines.append(f"{way}: the row is free after {times} ms, while 30 others write")
    lines += ["", *bounds(data)]
    if "soak" in data:
        lines += ["", "soak: " + ", ".join(f"{k} {v}" for k, v in data["soak"].items())]
    return "\n".join(lines) + "\n"


HOW = ("median", "95th", "worst")
NONE = [math.nan]


def bounds(data: dict[str, Any]) -> Iterator[str]:
    """What was promised of these numbers, beside what they are."""
    found = {
        (case, name, row["visitors"]): row
        for case, rows_by_name in data.get("cases", {}).items()
        for name, rows in rows_by_name.items()
        for row in rows
    }

    def rate(*key: Any) -> float:
        return found.get(key, {}).get("tokens_per_second", math.nan)

    def ratio(case: str, over: str, under: str) -> float:
        turns = data.get("turns", {}).get(case, {})
        return statistics.median(turns.get(over, NONE)) / statistics.median(turns.get(under, NONE))

    story, shape = "storyteller int8", f"{SHAPE} int8"
    thirty, sixteen = found.get((story, "page", 30), {}), rate(shape, "engine", 16)
    for what, value, least in (
        ("30 visitors, storyteller: refused", thirty.get("failures", math.nan), "0"),
        ("the same: first token, 95 %, s", thirty.get("first_95th", math.nan), "at most 2"),
        (
            "16 visitors over one, GPT-2 small's shape",
            rate(shape, "page", 16) / rate(shape, "page", 1),
            "2.5",
        ),
        ("engine, 16 rows, over llama.cpp q8_0", sixteen / rate(shape, "llama.cpp", 16), "1.0"),
        ("engine, 16 rows, over ctranslate2 int8", sixteen / rate(shape, "ctranslate2", 16), "1.3"),
        *(
            (
                f"the page's cost with 16 visitors, {case}",
                1 - ratio(case, "page 16", "engine 16"),
                "at most 0.30",
            )
            for case in (story, shape)
        ),
        *(
            (
                f"in it the clients' share of all cores, {case}",
                found.get((case, "page", 16), {}).get("clients", math.nan) / (os.cpu_count() or 1),
                "nothing: visitors have machines of their own",
            )
            for case in (story, shape)
        ),
        *(
            (
                f"one visitor, over the page before, {case}",
                ratio(case, "page 1", "before 1"),
                "0.95",
            )
            for case in map(" ".join, CASES)
        ),
    ):
        if not math.isnan(value):
            yield f"{what}: {value:.2f} (wanted: {least})"


def parts_of(data: dict[str, Any]) -> list[str]:
    """What can be measured anew by itself."""
    return [*data.get("cases", {}), *(key for key in ("turns", "stops", "soak") if key in data)]


def machine() -> str:
    known = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().replace("\t", "").splitlines()
        if ":" in line
    )
    extensions = [name for name in ("avx2", "avx512_vnni", "amx_int8") if name in known["flags"]]
    return (
        f"{time.strftime('%Y-%m-%d')}, {known['model name'].strip()} ({', '.join(extensions)}), "
        f"{os.cpu_count()} cores, Python {platform.python_version()}"
    )


@contextlib.contextmanager
def model_folder(peers: bool) -> Iterator[Path]:
    """Random weights in GPT-2 small's shape, as our folder and as those of the peers."""
    from tests.benchmarks import peer_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer_files.write_ours(SHAPE, folder)
        if peers:
            peer_files.write_ctranslate2(folder, "int8")
            peer_files.write_ctranslate2(folder, "float32")
            peer_files.write_gguf(folder, "q8_0")
        yield folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Many visitors through the page and without.")
    parser.add_argument("--visitors", type=int, nargs="*", default=[1, 4, 8, 16, 30, 50])
    parser.add_argument("--models", nargs="+", default=["storyteller", SHAPE])
    parser.add_argument("--precisions", nargs="+", default=["int8", "float32"])
    parser.add_argument("--before", type=Path, help="another checkout, whose page is measured too")
    parser.add_argument(
        "--peers", action="store_true", help="other engines too, up to 16 sequences"
    )
    parser.add_argument(
        "--turns", type=int, default=0, metavar="N", help="compare in so many turns"
    )
    parser.add_argument("--stops", type=int, default=0, metavar="N", help="leave N times each way")
    parser.add_argument("--soak", type=float, help="minutes of visitors coming and going, only")
    parser.add_argument("--port", type=int, default=7871)
    parser.add_argument("--record", action="store_true", help="write assets/benchmarks/visitors.*")
    parser.add_argument("--engine", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        engine(*args.engine)
        return 0
    if args.soak:
        new = {"soak": soak(args)}
    else:
        with model_folder(args.peers) as folder:
            new = measure(args, folder)
    old = json.loads(RECORD.read_text()) if args.record and RECORD.exists() else {}
    measured = {**old.get("measured", {}), **dict.fromkeys(parts_of(new), machine())}
    for case, found in old.get("cases", {}).items() if "cases" in new else ():
        new["cases"][case] = {**found, **new["cases"].get(case, {})}  # a part may be measured anew
    if "turns" in new:
        new["turns"] = {**old.get("turns", {}), **new["turns"]}
    data = {**old, **new, "measured": measured}
    print(text_of(data))
    if args.record:
        RECORD.write_text(json.dumps(data, indent=1) + "\n")
        RECORD.with_suffix(".txt").write_text(text_of(data))
    if not args.soak:
        return 0
    found = new["soak"]
    grown = found["memory_mib_at_the_end"] > 1.1 * found["memory_mib_after_a_minute"]
    return int(grown or found["errors"] + found["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
