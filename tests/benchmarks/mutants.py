"""One-line changes to what the page shows: which of them do the tests see?

    python tests/benchmarks/mutants.py            all of them, about twenty minutes on two cores
    python tests/benchmarks/mutants.py bars heat  those whose name or file has one of these words
    python -m tests.benchmarks.mutants --record   all, and their table to assets/benchmarks

Each change is made to a copy of the project (never to the project itself), and the tests that
should see it run there: "caught" if one fails. First these tests run without any change, since
tests that fail anyway see nothing. Exits with 1 if more than two of thirty survive, with 2 if a
change no longer applies: its line was rewritten, so rewrite it here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RECORD = ROOT / "assets" / "benchmarks" / "mutants.txt"
SURVIVORS_ALLOWED = 2  # of thirty


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands once in gpt/ui/`file`, becomes `new`; `tests` should see it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


ARCHITECTURE = "tests/test_architecture_shown.py"
FIGURES, NUMBERS, PARTS = "tests/test_figures.py", "tests/test_numbers.py", "tests/test_parts.py"
GENERATION, INTERNALS = "tests/test_generation_tab.py", "tests/test_ui_internals_sections.py"
LIMITS = "tests/test_train_limits.py"
SHOWN, SECTIONS = "tests/test_internals_shown.py", "internals/sections/"

MUTANTS = (
    Mutant("MiB and MB swapped", "parts/numbers.py",
           "{n_bytes / MIB:,.1f} MiB ({n_bytes / MB:,.1f} MB)",
           "{n_bytes / MB:,.1f} MiB ({n_bytes / MIB:,.1f} MB)", NUMBERS),
    Mutant("per cents below 1 % divided by 10", "parts/numbers.py",
           "{100 * probability:.2f} %", "{10 * probability:.2f} %", NUMBERS),
    Mutant("signed bars with red and blue swapped", "parts/bars.py",
           '("for" if value >= 0 else "against")', '("against" if value >= 0 else "for")', FIGURES),
    Mutant("labels of every bar chart reversed", "parts/bars.py",
           "for row, label in enumerate(labels):", "for row, label in enumerate(labels[::-1]):",
           FIGURES),
    Mutant("the CSV holds what is shown", "parts/table.py",
           "writer.writerows([_inert(value) for value in row] for row in rows)",
           'writer.writerows([f"{value:,}" for value in row] for row in rows)', PARTS),
    Mutant("chips without any details", "parts/chips.py",
           'title="{escape(chip.title)}"', 'title=""', PARTS),
    Mutant("fits counts machines that do not fit", "architecture/costs.py",
           "fits += used <= 1", "fits += used > 1", ARCHITECTURE),
    Mutant("stacked bars at a tenth of their width", "parts/bars.py",
           "_pieces(sizes, 100 / total, 36", "_pieces(sizes, 10 / total, 36", ARCHITECTURE),
    Mutant("the line of the capacity at 0", "parts/bars.py",
           "end = capacity * scale", "end = 0 * scale", ARCHITECTURE),
    Mutant("the ratio upside down", "architecture/costs.py",
           "significant(value / that)", "significant(that / value)", ARCHITECTURE),
    Mutant("rules of thumb with the other sign", "architecture/costs.py",
           "rule / counted - 1", "1 - rule / counted", ARCHITECTURE),
    Mutant("the prompt takes as long as a step", "architecture/costs.py",
           "(each.label, *peak, prefill.seconds,", "(each.label, *peak, step.seconds,",
           ARCHITECTURE),
    Mutant("shares of the groups halved", "architecture/parameter_table.py",
           "share = subtotal / count.total", "share = subtotal / count.total / 2", ARCHITECTURE),
    Mutant("tokens a second too high", "generation/continuation.py",
           "(len(self.steps) - self._known - 1) / later", "(len(self.steps) - self._known) / later",
           GENERATION),
    Mutant("an example without its temperature", "generation/settings.py",
           '"max_new_tokens": 60, "temperature": 0', '"max_new_tokens": 60', GENERATION),
    Mutant("softmax bars at half length", SECTIONS + "logits_to_odds.py",
           "shown = [p * unit for p in values]", "shown = [p * unit / 2 for p in values]",
           INTERNALS),
    Mutant("bits that are nats", SECTIONS + "logits_to_odds.py",
           "{significant(came.surprisal / math.log(2))} bits",
           "{significant(came.surprisal)} bits", INTERNALS),
    Mutant("ranks of merges from 0", "internals/sections/text_to_tokens.py",
           "(at, step.rank,", "(at, step.rank - 1,", INTERNALS),
    Mutant("arcs of half the share", "internals/arcs.py",
           "middles[key], share)", "middles[key], share / 2)", INTERNALS),
    Mutant("perplexity squared", SECTIONS + "text_to_tokens.py",
           "{significant(math.exp(nats))}", "{significant(math.exp(2 * nats))}", INTERNALS),
    Mutant("dark chips are improbable tokens", SECTIONS + "text_to_tokens.py",
           "shade = entry.probability", "shade = 1 - entry.probability", INTERNALS),
    Mutant("attention pictures inverted", "parts/heat.py",
           "np.sqrt(np.clip(values, 0, 1))", "1 - np.sqrt(np.clip(values, 0, 1))", INTERNALS),
    Mutant("q·k of the transposed cell", SECTIONS + "attention_heads.py",
           '["scores"][at, rows[at].most_attended]', '["scores"][rows[at].most_attended, at]',
           SHOWN),
    Mutant("the residual stream's heat all white", SECTIONS + "residual_stream.py",
           "(values / high).clamp(min=0)", "(0 * values / high).clamp(min=0)", INTERNALS),
    Mutant("LayerNorm's before and after swapped", SECTIONS + "residual_stream.py",
           "histogram_pair(before.cpu().numpy(), after.cpu().numpy())",
           "histogram_pair(after.cpu().numpy(), before.cpu().numpy())", SHOWN),
    Mutant("lowers and raises swapped", SECTIONS + "why_this_token.py",
           '"lowers" if drops[most] > 0', '"lowers" if drops[most] < 0', INTERNALS),
    Mutant("with and without swapped", SECTIONS + "what_if.py",
           '("with", "without"), what', '("without", "with"), what', SHOWN),
    Mutant("twice the theory beside the draws", "internals/draws.py",
           '"in theory": [each / n for', '"in theory": [2 * each / n for',
           INTERNALS),
    Mutant("the draw is always the seed's first", "internals/draws.py",
           "at + 1)[-1:]", "at + 1)[:1]", INTERNALS),
    Mutant("the text has what was drawn", "internals/draws.py",
           "if came == token_id:", "if came is not None:", INTERNALS),
    Mutant("the lens's entropy all white", SECTIONS + "logit_lens.py",
           "return values / nats, f", "return 0 * values, f", INTERNALS),
    Mutant("no rest after a step while texts are written", "train/trainings.py",
           "if all_cores.texts_are_written():", "if False:", LIMITS),
    Mutant("a page that was closed trains on", "train/tab.py",
           "            last.stop(left=True)", "            pass", LIMITS),
    Mutant("a learning rate that is the gradient's norm", "train/views.py",
           "significant(newest.learning_rate)", "significant(newest.gradient_norm)",
           "tests/test_train_views.py"),
    Mutant("the rest of the ledger left out", SECTIONS + "why_this_token.py",
           "values.append(sum(term.value for term in rest))", "values.append(0)", SHOWN),
)  # fmt: skip


def copy_of_the_project(to: Path) -> None:
    """The tracked files below `to`, as they are on disk; assets as one link."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if name.startswith("assets/") or not (ROOT / name).exists():
            continue
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    (to / "assets").symlink_to(ROOT / "assets")


def passes(project: Path, tests: str) -> bool:
    """Whether these tests pass there. Bytecode is not kept: a change may be within its second."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()],
        cwd=project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
    )
    return done.returncode == 0


def main(words: list[str]) -> int:
    record, words = "--record" in words, [word for word in words if word != "--record"]
    chosen = [m for m in MUTANTS if not words or any(word in m.name + m.file for word in words)]
    survivors, stale, lines = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        copy_of_the_project(project)
        if not passes(project, " ".join(dict.fromkeys(m.tests for m in chosen))):
            print("the tests fail without any change: nothing can be said")
            return 2
        for mutant in chosen:
            file = project / "gpt" / "ui" / mutant.file
            text = file.read_text() if file.exists() else ""
            if text.count(mutant.old) != 1:
                stale.append(mutant)
                print(f"stale    {mutant.file}: {mutant.name}", flush=True)
                continue
            file.write_text(text.replace(mutant.old, mutant.new))
            survived = passes(project, mutant.tests)
            file.write_text(text)
            survivors += [mutant] * survived
            lines.append(f"{'SURVIVED' if survived else 'caught  '} {mutant.file}: {mutant.name}")
            print(lines[-1], flush=True)
    tried = len(chosen) - len(stale)
    lines.append(f"{tried - len(survivors)} of {tried} caught")
    print(lines[-1])
    if record:
        from gpt.checkpoints.precision_record import processor

        head = f"One-line changes to the page, {date.today()}, {processor()}"
        RECORD.write_text("\n".join([head, *lines, ""]))
    if stale:
        return 2
    return int(len(survivors) > SURVIVORS_ALLOWED * tried / 30)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
