"""What opening the page costs the server, and how soon a class that comes at once has it.

    python -m tests.benchmarks.arrivals [--before CHECKOUT] [--visitors 30] [--record]

Headless Chromium opens the page of this checkout, and of another in turn, as new visitors do: the
server's processor time until two seconds after the first text is there, and a second of it idle.
Then so many connections ask at once for all that a browser asks for before the page runs: the time
until the last has it. Needs playwright and a Chromium; with --record writes arrivals.json and .txt
in assets/benchmarks/. About two minutes; nothing else should run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
from tests.benchmarks.visitors import Page  # noqa: E402

RECORD = ROOT / "assets" / "benchmarks" / "arrivals.json"
OPENINGS, BEFORE_COUNTED = 7, 2  # the first load the model and whatever is kept
WATCHED_SECONDS = 2.0
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def processor_ms(page: Page) -> float:
    """Of all threads of the page's process, ended ones too."""
    of = Path(f"/proc/{page.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(of[11]) + int(of[12])) * TICK_MS


def opened(page: Page, browser: Any) -> tuple[float, list[str]]:
    """Processor milliseconds of the server for one visitor's page, and the files asked for."""
    context = browser.new_context()
    tab, asked = context.new_page(), []
    tab.on("request", lambda request: request.method == "GET" and asked.append(request.url))
    before = processor_ms(page)
    tab.goto(page.address)
    tab.wait_for_selector("#gen-chips button[data-position]", timeout=120_000)
    time.sleep(WATCHED_SECONDS)
    spent = processor_ms(page) - before
    context.close()
    files = [url.removeprefix(page.address) for url in asked if "gradio_api" not in url]
    return spent, files


def all_have_it(page: Page, files: list[str], visitors: int) -> float:
    """Seconds until so many connections that begin together have all files."""

    def one(_: int) -> None:
        connection = http.client.HTTPConnection(page.address.split("/")[2])
        for name in files:
            connection.request("GET", f"/{name}", headers={"Accept-Encoding": "gzip, br"})
            connection.getresponse().read()
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(visitors) as pool:
        list(pool.map(one, range(visitors)))
    return time.perf_counter() - started


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    checkouts = {"page": ROOT, **({"page before": args.before} if args.before else {})}
    with contextlib.ExitStack() as stack:
        pages = {}
        for i, (name, checkout) in enumerate(checkouts.items()):
            page = contextlib.closing(Page(checkout, "storyteller", 7950 + i))
            pages[name] = stack.enter_context(page)
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        idle_ms = {}
        for name, page in pages.items():
            before = processor_ms(page)
            time.sleep(5)
            idle_ms[name] = (processor_ms(page) - before) / 5
        spent: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(OPENINGS):
            for name, page in pages.items():
                one, files = opened(page, browser)
                spent[name].append(one)
        browser.close()
        return {
            name: {
                "processor_ms": statistics.median(spent[name][BEFORE_COUNTED:]),
                "idle_ms_a_second": idle_ms[name],
                "all_have_it_s": statistics.median(
                    all_have_it(page, files, args.visitors) for _ in range(3)
                ),
            }
            for name, page in pages.items()
        }


def main() -> None:
    from gpt.checkpoints.precision_record import processor
    from gpt.engine.machine import usable_cores

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--record", action="store_true", help="write arrivals.json and .txt")
    args = parser.parse_args()
    found = measure(args)
    machine = f"{time.strftime('%Y-%m-%d')}, {processor()}, {usable_cores()} cores"
    told = [machine] + [
        f"{name:12} one opened page {of['processor_ms']:5.0f} ms of the server's processor time   "
        f"{args.visitors} at once have page and files after {of['all_have_it_s']:.2f} s   "
        f"idle {of['idle_ms_a_second']:.0f} ms/s"
        for name, of in found.items()
    ]
    print("\n".join(told))
    if args.record:
        RECORD.write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n")
        RECORD.with_suffix(".txt").write_text("\n".join([*told, ""]))


if __name__ == "__main__":
    main()
