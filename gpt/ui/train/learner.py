"""The model that learns: its steps, what is measured of it, and what is kept of it for an hour."""

import contextlib
import copy
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from gpt.accounting import count_parameters
from gpt.checkpoints.sources import forget, keep_trained
from gpt.training.bundle import write_bundle
from gpt.training.corpus import window_starts
from gpt.training.evaluation import answers
from gpt.training.events import Evaluated, Sampled, Stepped
from gpt.training.texts import Additions
from gpt.training.trainer import Run
from gpt.ui.parts.numbers import counted
from gpt.ui.train.plans import Plan

EARLY = 1 / 12, 1 / 2  # shares of all steps between which an early checkpoint is: 5 s of 60
LIVE_TARGETS, LINE_TOKENS, PEEK_TOKENS = 2048, 64, 16
PEEKED = "trf_blocks.0.ff.layers.0.weight"
SUMS = [f"{a}+{b}=" for a, b in Additions(held_out=True).pairs[::8]]  # which were held out
KEPT_SECONDS = 3600
MOST_KEPT_BYTES = 4 * 2**30  # of all visitors; the oldest goes
_kept: "list[Finished]" = []


@dataclass(frozen=True)
class Peek:
    """One window of one step: ids (n,), the loss of each target, one weight before and after."""

    done: Stepped
    ids: list[int]
    nats: list[float]
    before: float
    after: float


@dataclass
class History:
    """What was measured so far; held-out losses with the seconds of training before them."""

    steps: list[Stepped] = field(default_factory=list)
    evaluated: list[tuple[float, Evaluated]] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)  # to sums that were held out
    sample: Sampled | None = None
    line: list[float] = field(default_factory=list)  # probabilities of the held-out line's tokens
    peek: Peek | None = None
    note: str = ""  # why it ended early


@dataclass(frozen=True)
class Finished:
    """A model that was trained here, kept until `drop`.

    The oldest go while all together have more than MOST_KEPT_BYTES.
    Its name for other tabs, which nobody guesses, labels of it and of its comparison with itself
    early in the training, its zip, and the folder of that.
    """

    source: str
    label: str
    compared: str
    archive: Path
    folder: tempfile.TemporaryDirectory[str]
    n_bytes: int  # of all files in it

    def __post_init__(self) -> None:
        _kept.append(self)
        while len(_kept) > 1 and sum(each.n_bytes for each in _kept) > MOST_KEPT_BYTES:
            _kept[0].drop()

    def drop(self) -> None:
        """The model and its files are gone."""
        forget(self.source)
        self.folder.cleanup()
        with contextlib.suppress(ValueError):
            _kept.remove(self)


class Learner:
    """A run of `gpt.training` over a plan. Its methods compute, and write into `history`."""

    def __init__(self, plan: Plan, history: History) -> None:
        self.plan, self.history = plan, history
        self._run = Run(plan.cfg, plan.options, plan.corpus)
        self._events = self._run.events()
        self._early = self._good = (0, {})  # steps and weights

    @property
    def done(self) -> bool:
        """Whether the last step is done, or the loss was not finite, which is noted."""
        return bool(self.history.note) or self._run.step == self.plan.options.steps

    def step(self) -> None:
        """One step."""
        stepped = next(self._events, None)
        if self._run.diverged:
            self._go_back()
        else:
            self.history.steps.append(stepped)

    def peek(self) -> None:
        """As `step`, and its record: a window, what its targets cost before, one weight."""
        run, t = self._run, self.plan.cfg.context_length
        n = run.step * run.options.batch_size
        start = next(window_starts(len(run.ids), t, run.options.seed, skip=n))
        ids = run.corpus.ids[start : start + min(t, PEEK_TOKENS) + 1]
        nats, weight = run.nats(ids).tolist(), run.model.state_dict()[PEEKED][0, 0]
        before = float(weight)
        self.step()
        if not self.history.note:
            done = self.history.steps[-1]
            self.history.peek = Peek(done, ids.tolist(), nats, before, float(weight))

    def look(self) -> None:
        """Held-out loss, the held-out line, and a copy of the weights, if they are good ones."""
        run, history = self._run, self.history
        evaluated = run.evaluated(LIVE_TARGETS)
        if history.evaluated and history.evaluated[-1][1].step == run.step:
            history.evaluated.pop()  # it was measured when it paused
        history.evaluated.append((run.seconds, evaluated))
        if not math.isfinite(evaluated.nats_per_token):
            self._go_back()
            self.look()
            return
        history.line = (-run.nats(run.corpus.held_out[: LINE_TOKENS + 1])).exp().tolist()
        last, self._good = self._good, (run.step, copy.deepcopy(run.model.state_dict()))
        low, high = (share * self.plan.options.steps for share in EARLY)
        if not run.step:
            self._early = self._good
        elif not self._early[0] and low <= last[0] <= high and last[0] < run.step:
            self._early = last  # only now: the newest would be compared with itself
        if self.plan.text.name == "additions":
            found = answers(run.whole_model(), run.corpus.tokenizer, SUMS)
            history.answers = list(zip(SUMS, found, strict=True))

    def sample(self) -> None:
        """What the model writes now."""
        self.history.sample = self._run.sampled()

    def keep(self) -> Finished:
        """The model, its early checkpoint and its zip as files."""
        history, run, text = self.history, self._run, self.plan.text
        evaluated, sample = history.evaluated[-1][1], history.sample.text
        home = tempfile.TemporaryDirectory(prefix="gpt-trained-", ignore_cleanup_errors=True)
        folder = Path(home.name)
        archive = write_bundle(run, text, history.steps, evaluated, sample, folder)
        step, weights = self._early
        run.model.load_state_dict(weights)
        early = folder / f"at step {step:,}"  # its name is shown
        run.write_model(early, "float32")
        count, steps = count_parameters(run.cfg).total, counted(run.step, "step")
        label = f"Yours, trained on {text.name}: {count:,} parameters, {steps}"
        source = keep_trained(folder / "model", early)
        compared = f"Steps {step:,} and {run.step:,}" if step < run.step else ""
        n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Finished(source, label, compared, archive, home, n_bytes)

    def _go_back(self) -> None:
        """Ends the run, whose loss is not finite, with the last good weights."""
        run, (step, weights) = self._run, self._good
        self.history.note = (
            f"The loss is not finite at step {run.step:,}: it stopped, and the weights of step "
            f"{step:,} are kept. Use a lower learning rate."
        )
        run.model.load_state_dict(weights)
        run.step = step
