"""How long the Internals tab takes: the first view of a prompt, a change of settings, a click.

    python -m tests.benchmarks.internals [--threads 2] [--repeats 7] [--tokens 32] [--record]

GPT-2 small's shape with random weights, built before the clock starts. The first view is what
"Look inside" waits for: the traced pass, the tokens, the logits with their plots, and the views
of the other sections that are open at first. A change of settings is the handler of the choice:
chances, draw and many draws from the stored logits. A click is the handler of a click on a token
with every section open, for the storyteller over eight tokens, to its last message, as if all were
in view; and over 128, as many as are read of the text that the page opens with. The click in a
browser is that over eight in headless Chromium at 1280 x 800, from the press to the last change of
the page, with the requests that it made: there what is in view is computed.
Medians, in milliseconds; exits with 1 if one is over its limit. With --record it writes
internals.json and internals.txt in assets/benchmarks/.
A busy machine is slower: nothing else should run.
"""

import argparse
import asyncio
import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from gpt.checkpoints.precision_record import processor  # noqa: E402
from gpt.checkpoints.sources import random_source  # noqa: E402
from gpt.config import PRESETS  # noqa: E402
from gpt.serving.registry import Registry  # noqa: E402
from gpt.tokenizer import Tokenizer  # noqa: E402
from gpt.ui.internals import InternalsTab  # noqa: E402
from gpt.ui.internals.lab import MAX_TOKENS, Focus, Lab  # noqa: E402
from gpt.ui.internals.section import Desk  # noqa: E402
from gpt.ui.internals.sections import SECTIONS  # noqa: E402
from gpt.ui.internals.sections.text_to_tokens import (  # noqa: E402
    prompt_chips,
    prompt_message,
)
from gpt.ui.internals.tab import PROMPT  # noqa: E402
from gpt.ui.visit import Shared  # noqa: E402

LONG = " ".join([PROMPT] * (MAX_TOKENS // 8))  # 128 tokens
LIMITS = {
    "first view": 1500.0, "change of settings": 100.0, "click, all open": 400.0,
    "click in a browser": 400.0,
}  # fmt: skip
MOST_REQUESTS = 3  # of a click
RECORD = ROOT / "assets" / "benchmarks" / "internals.json"
WATCH_JS = """
window.pressed = window.changed = 0;
document.addEventListener('click', () => { pressed = performance.now(); }, true);
new MutationObserver(() => { changed = performance.now(); }).observe(
  document.querySelector('#int-story').parentElement,
  {subtree: true, childList: true, attributes: true, characterData: true});
"""


def show(lab: Lab, focus: Focus, key: str, **changed: object) -> None:
    """The views of one section, its controls as they are at first but for `changed`."""
    section = next(section for section in SECTIONS if section.key == key)
    first = {name: make().value for name, make in section.controls.items()}
    assert section.view is not None
    section.view(lab, focus, **{**first, **section.picks, **changed})


def first_view(lab: Lab, source: str, prompt: str) -> Focus:
    """All that is on the page after a look at a prompt never seen before."""
    focus = lab.read(source, prompt)
    prompt_message(lab, focus)
    prompt_chips(lab, focus)
    for section in SECTIONS:
        if section.opened:
            show(lab, focus, section.key)
    return focus


def clicks(repeats: int, prompt: str = PROMPT) -> tuple[float, float]:
    """Median and longest of clicks on eight tokens of the prompt, every section open."""
    with gr.Blocks():
        tab = InternalsTab(Registry(), "storyteller", Shared())
    desk = Desk(open={section.key for section in SECTIONS})
    values = {control: control.value for control in [*tab.sections.controls, tab.model]}
    every = len(Tokenizer().encode(prompt)) // 8

    async def last_of(steps: AsyncIterator[Any]) -> None:
        async for _ in steps:
            pass

    def click(n: int) -> None:
        event = SimpleNamespace(target=tab.chips, position=n % 8 * every)
        loop.run_until_complete(last_of(tab.move({tab.desk: desk}, event)))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(last_of(tab.look({tab.desk: desk, tab.prompt: prompt, **values})))
    found = median_ms(click, min(repeats, 7))  # the eighth would be the first again, remembered
    loop.close()
    return found


def browser_clicks(repeats: int) -> tuple[tuple[float, float], int]:
    """Median and longest of clicks in a browser, every section open, and most requests of one."""
    from playwright.sync_api import sync_playwright

    import app

    demo, asked, times, most = app.build_demo(), [], [], 0
    _, url, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.get_by_role("tab", name="Internals").click()
        page.wait_for_selector("#int-choice .bars")
        page.fill("#int-prompt textarea", PROMPT)
        page.click("#int-run")
        page.wait_for_function("document.querySelectorAll('#int-chips .chip').length === 8")
        for section in SECTIONS:
            bar = page.locator(f"#int-section-{section.key} > button")
            if "open" not in (bar.get_attribute("class") or "").split():
                bar.click()
            if not section.button:
                page.wait_for_selector(f"#{section.output} p", state="attached")
        page.locator("#int-chips").scroll_into_view_if_needed()
        page.wait_for_timeout(3000)  # until nothing is on its way
        page.evaluate(WATCH_JS)
        page.on("request", lambda request: asked.append("/gradio_api/" in request.url))
        for n in range(repeats + 1):
            asked.clear()
            page.locator(f'#int-chips [data-position="{n % 8}"]').click()
            page.wait_for_timeout(2000)
            times.append(page.evaluate("changed - pressed"))
            most = max(most, sum(asked))
        browser.close()
    demo.close()
    return (statistics.median(times[1:]), max(times[1:])), most


def median_ms(work: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Median and longest of `repeats` calls, in milliseconds, after one that is not counted."""
    times = []
    for n in range(repeats + 1):
        start = time.perf_counter()
        work(n)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:]), max(times[1:])


def measure(tokens: int, repeats: int) -> tuple[dict[str, tuple[float, float]], int]:
    """Median and longest of each, by name, and the most requests of a click."""
    registry, tokenizer = Registry(), Tokenizer()
    source = random_source(PRESETS["gpt2-small"])
    prompt = " a" * tokens
    assert [len(tokenizer.encode(text)) for text in (prompt, LONG)] == [tokens, MAX_TOKENS]
    with registry.borrow(source):
        pass

    def fresh(_: int) -> Focus:
        return first_view(Lab(registry), source, prompt)

    lab = Lab(registry)
    focus = lab.read(source, prompt)

    def change(n: int) -> None:
        show(lab, focus, "choice", temperature=0.5 + n / 20, top_k=50, top_p=0.9, query="262")

    found = {
        "first view": median_ms(fresh, repeats),
        "change of settings": median_ms(change, repeats),
        "click, all open": clicks(repeats),
        f"the same, {MAX_TOKENS} tokens": clicks(repeats, LONG),
    }
    found["click in a browser"], requests = browser_clicks(repeats)
    return found, requests


def main() -> int:
    parser = argparse.ArgumentParser(description="Times of the Internals tab's handlers.")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--repeats", type=int, default=7, help="at least 5")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--record", action="store_true", help="write internals.json and .txt")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found, requests = measure(args.tokens, max(args.repeats, 5))
    machine = f"{time.strftime('%Y-%m-%d')}, {processor()}, Python {platform.python_version()}"
    lines = [machine, f"{args.tokens} tokens, {torch.get_num_threads()} threads, float32"]
    for name, (median, longest) in found.items():
        limit = f", allowed {LIMITS[name]:,.0f}" if name in LIMITS else ""
        lines.append(f"{name:20}{median:>9,.1f} ms (longest {longest:,.1f}){limit}")
    lines.append(f"requests of a click: {requests}, allowed {MOST_REQUESTS}")
    print("\n".join(lines))
    if args.record:
        times = {name: {"median_ms": m, "longest_ms": n} for name, (m, n) in found.items()}
        data = {"machine": machine, "tokens": args.tokens, "times": times, "requests": requests}
        RECORD.write_text(json.dumps(data, indent=2) + "\n")
        RECORD.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    late = any(found[name][0] > limit for name, limit in LIMITS.items())
    return int(late or requests > MOST_REQUESTS)


if __name__ == "__main__":
    sys.exit(main())
