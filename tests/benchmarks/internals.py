"""How long the Internals tab takes: the first view of a prompt, and a change of the settings.

    python -m tests.benchmarks.internals [--threads 2] [--repeats 7] [--tokens 32]

GPT-2 small's shape with random weights, built before the clock starts. The first view is what
"Run the pass" waits for: the traced pass, the tokens, the logits with their plots, and the views
of the other sections that are open at first. A change of settings is the handler of the choice:
table, bar, draw and many draws from the stored logits. Medians, in milliseconds; exits with 1 if
one is over its limit. A busy machine is slower: nothing else should run.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from gpt.checkpoints.sources import random_source  # noqa: E402
from gpt.config import PRESETS  # noqa: E402
from gpt.serving.registry import Registry  # noqa: E402
from gpt.tokenizer import Tokenizer  # noqa: E402
from gpt.ui.internals.attention import STAGES, grid_html, head_views  # noqa: E402
from gpt.ui.internals.choice import DEFAULTS, choice_views, find_token  # noqa: E402
from gpt.ui.internals.lab import Lab, RunStore, State  # noqa: E402
from gpt.ui.internals.logits import read_logits, views  # noqa: E402
from gpt.ui.internals.position import position_html  # noqa: E402
from gpt.ui.internals.prompt import prompt_chips, prompt_message  # noqa: E402

LIMITS = {"first view": 1500.0, "change of settings": 100.0}
BARS = 20


def first_view(lab: Lab, source: str, prompt: str) -> State:
    """All that is on the page after a run of a prompt never seen before."""
    state = lab.read(source, prompt)
    views(read_logits(lab, state, BARS))
    prompt_message(lab, state)
    prompt_chips(lab, state)
    position_html(lab, state)
    grid_html(lab, state, 0, 0, False)
    head_views(lab, state, 0, 0, STAGES[0], False)
    choice_views(lab, state, *DEFAULTS)
    return state


def median_ms(work: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Median and longest of `repeats` calls, in milliseconds, after one that is not counted."""
    times = []
    for n in range(repeats + 1):
        start = time.perf_counter()
        work(n)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:]), max(times[1:])


def measure(tokens: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median and longest of both, by name."""
    registry, tokenizer = Registry(), Tokenizer()
    source = random_source(PRESETS["gpt2-small"])
    prompt = " a" * tokens
    assert len(tokenizer.encode(prompt)) == tokens
    with registry.borrow(source):
        pass

    def fresh(_: int) -> State:
        return first_view(Lab(registry, tokenizer, RunStore()), source, prompt)

    lab = Lab(registry, tokenizer)
    state = lab.read(source, prompt)

    def change(n: int) -> None:
        settings = (0.5 + n / 20, 50, 0.9)
        choice_views(lab, state, *settings, 123 + n, 1000)
        find_token(lab, state, "262", *settings)

    return {
        "first view": median_ms(fresh, repeats),
        "change of settings": median_ms(change, repeats),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Times of the Internals tab's handlers.")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--repeats", type=int, default=7, help="at least 5")
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.tokens, max(args.repeats, 5))
    print(f"{args.tokens} tokens, {torch.get_num_threads()} threads, float32")
    for name, (median, longest) in found.items():
        limit = LIMITS[name]
        print(f"{name:20}{median:>9,.1f} ms (longest {longest:,.1f}), allowed {limit:,.0f}")
    return int(any(median > LIMITS[name] for name, (median, _) in found.items()))


if __name__ == "__main__":
    sys.exit(main())
