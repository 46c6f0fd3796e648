"""How soon a row is free again while others write: after Stop, a closed tab, a cancelled request.

`measure` is a part of `tests.benchmarks.visitors`. The page runs in a process that tells, on
standard output, whenever the number of rows that write has changed.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LOOK_SECONDS = 0.005
WAIT_SECONDS = 30  # for so many rows to write, and for an answer
MOST_SECONDS = 240  # after which no round begins
HALF = 250  # of the tokens that a run may have


def watched(arguments: list[str]) -> None:
    """app.py in this process, and a line for each change: the time, and how many rows write."""
    import app
    from gpt.serving import scheduler

    def watch() -> None:
        last = -1
        while True:
            with contextlib.suppress(RuntimeError):  # the dictionary has changed: look once more
                rows = sum(len(one._running) for one in list(scheduler._schedulers.values()))
                if rows != last:
                    print(f"{time.perf_counter()} {rows}", flush=True)
                    last = rows
            time.sleep(LOOK_SECONDS)

    threading.Thread(target=watch, daemon=True).start()
    app.main(arguments)


class Watch:
    """The newest line of a watched page."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.at, self.rows = 0.0, 0
        self._changed = threading.Condition()
        self._lines = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines or ():
            found = line.split()
            if len(found) == 2 and found[1].isdigit():
                with self._changed:
                    self.at, self.rows = float(found[0]), int(found[1])
                    self._changed.notify_all()

    def wait_for(self, rows: int) -> float:
        """When so many rows wrote, now or later."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.rows == rows, WAIT_SECONDS):
                raise TimeoutError(f"{self.rows} rows write, not {rows}")
            return self.at


def stop_event(config: dict[str, Any]) -> int:
    """The event of the page's Stop."""
    buttons = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "gen-stop"]
    return next(
        one["id"]
        for one in config["dependencies"]
        if (buttons[0], "click") in map(tuple, one["targets"])
    )


def press_stop(http: Any, event: int, session: str) -> None:
    """Stop in the page of `session`."""
    asked = {"data": [], "fn_index": event, "session_hash": session}
    http.post("/run/predict", json=asked).raise_for_status()


class Tab:
    """A browser's page as the server sees it: a session with its heartbeat and its results."""

    def __init__(self, address: str, config: dict[str, Any], request: list[Any]) -> None:
        import httpx

        self.session = f"tab{random.randrange(10**9)}"
        self.http = httpx.Client(base_url=f"{address}gradio_api", timeout=WAIT_SECONDS)
        named = {one["api_name"]: one["id"] for one in config["dependencies"]}
        self.stop_id = stop_event(config)
        self._streams = [self._open(f"/heartbeat/{self.session}")]
        self.job = {"fn_index": named["generate"], "session_hash": self.session}
        asked = {"data": request, **self.job}
        self.event = self.http.post("/queue/join", json=asked).raise_for_status().json()["event_id"]
        self._streams.append(self._open(f"/queue/data?session_hash={self.session}"))

    def _open(self, path: str) -> Any:
        return self.http.send(self.http.build_request("GET", path), stream=True)

    def stop(self) -> None:
        press_stop(self.http, self.stop_id, self.session)

    def cancel(self) -> None:
        self.http.post("/cancel", json={"event_id": self.event, **self.job}).raise_for_status()

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self.http.close()


WAYS: dict[str, Callable[[Tab], None]] = {
    "Stop": Tab.stop,
    "closed tab": Tab.close,
    "cancelled request": Tab.cancel,
}


def measure(
    page: Any, ask: Callable[[int], Any], request: list[Any], rounds: int
) -> dict[str, Any]:
    """Seconds from each way of leaving to the free row, in order, while the page's clients write.

    `page` is a watched Page, `ask(i)` lets its client i write for long. Each time is printed as it
    comes. What was waited for too long is left out, and so are rounds for which there is no time.
    """
    import httpx

    watch = Watch(page.process)
    config = json.loads(page.get("config"))
    answers: list[Any] = []
    seconds: dict[str, list[float]] = {}
    last = time.perf_counter() + MOST_SECONDS
    for left in range(rounds, 0, -1):
        if time.perf_counter() > last:
            print(f"no time for {left} of {rounds} rounds", flush=True)
            break
        try:
            if not answers or any(written(answer) > HALF for answer in answers):  # one may end soon
                end(answers)
                watch.wait_for(0)
                answers = [ask(i) for i in range(len(page.clients))]
                watch.wait_for(len(answers))
            for way, leave in WAYS.items():
                writing = watch.rows  # less than all if one of them has drawn the end of its text
                with contextlib.closing(Tab(page.address, config, request)) as tab:
                    watch.wait_for(writing + 1)
                    time.sleep(random.uniform(0.2, 0.5))
                    started = time.perf_counter()
                    leave(tab)
                    took = watch.wait_for(writing) - started
                seconds.setdefault(way, []).append(took)
                print(f"{way}: the row is free after {1000 * took:,.0f} ms", flush=True)
        except (TimeoutError, httpx.TimeoutException) as error:  # as where a text has ended
            print(f"left out: {type(error).__name__}, {error}", flush=True)
            end(answers)
            answers = []
    end(answers)
    return {way: sorted(found) for way, found in seconds.items() if found}


def end(answers: list[Any]) -> None:
    """Cancels what is written."""
    import httpx

    for answer in answers:
        with contextlib.suppress(httpx.TimeoutException):  # its client waits for 5 s
            answer.job.cancel()


def written(answer: Any) -> int:
    """Tokens that have come."""
    answer.look()
    return answer.times[-1][1] if answer.times else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    watched(sys.argv[1:])
