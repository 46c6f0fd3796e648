"""A run of training as the page sees it: its place in line, its steps in turns, its end.

The visitor's event drives it: a run without a page that looks on goes no further. Each step is
one job of the thread that has all cores, between turns of those who write.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import math
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gpt.accounting import count_parameters
from gpt.serving import all_cores
from gpt.training.bundle import write_bundle
from gpt.training.choices import MADE
from gpt.training.corpus import window_starts
from gpt.training.evaluation import answers
from gpt.training.events import Evaluated, Event, Sampled, Stepped
from gpt.training.trainer import Run
from gpt.ui.parts.numbers import counted
from gpt.ui.train.finished import KEPT_SECONDS, Finished, kept, new_folder
from gpt.ui.train.plans import NEVER, Plan, as_many_steps, plan, with_steps
from gpt.ui.train.settings import Experiment

MOST_TRAINING, MOST_WAITING = 2, 20
SHARE = 0.25  # of the time of all cores, while others write
UPDATE_SECONDS, LOOK_SECONDS = 0.5, 0.25
EVALUATE_SECONDS, SAMPLE_SECONDS = 1.5, 4.0
PAUSED_SECONDS, PAUSES, MOST_SECONDS = 60, 10, 1800
TRIED_STEPS = 4
EARLY = 1 / 12, 1 / 2  # shares of all steps between which an early checkpoint is: 5 s of 60
LIVE_TARGETS, LINE_TOKENS, PEEK_TOKENS = 2048, 64, 16
PEEKED = "trf_blocks.0.ff.layers.0.weight"
_HANDS = ThreadPoolExecutor(4, thread_name_prefix="train")  # for waiting, mostly
T = TypeVar("T")


@dataclass(frozen=True)
class Peek:
    """One window of one step: ids (n,), the loss of each target, one weight before and after."""

    step: int
    ids: list[int]
    nats: list[float]
    before: float
    after: float
    learning_rate: float


@dataclass
class History:
    """What was measured so far; held-out losses with the seconds of training before them."""

    steps: list[Stepped] = field(default_factory=list)
    evaluated: list[tuple[float, Evaluated]] = field(default_factory=list)
    right: tuple[int, int] | None = None  # sums of those asked
    answers: list[tuple[str, str]] = field(default_factory=list)
    sample: Sampled | None = None
    line: list[float] = field(default_factory=list)  # probabilities of the held-out line's tokens
    peek: Peek | None = None


class Line:
    """Who trains, in the order of coming: the first MOST_TRAINING do, the others wait."""

    def __init__(self) -> None:
        self.trainings: list[Training] = []
        self.lane = asyncio.Lock()  # one job and its rest at a time

    def place(self, training: Training) -> int:
        """From 1, 0 for those who train."""
        return max(self.trainings.index(training) + 1 - MOST_TRAINING, 0)


class Training:
    """One visitor's run. `updates` drives it; pause, step and stop may be asked at any time."""

    def __init__(
        self, line: Line, values: Mapping[str, Any], device: str = "cpu",
        former: Training | None = None, experiment: Experiment | None = None,
        paused: bool = False,
    ) -> None:  # fmt: skip
        self.values = {**values, **(experiment.changes if experiment else {})}
        self.device, self.experiment = device, experiment
        self.former = former
        if former is not None:
            former.former = former.run = None  # only its curve is shown
        self.history = History()
        self.plan: Plan | None = None
        self.run: Run | None = None
        self.stage, self.note = "Starting …", ""
        self.paused, self.stopped, self._left = paused, False, False
        self.made, self.begun, self.over = time.monotonic(), False, False
        self.warned = False  # that another run takes the place of its model
        self.finished: Finished | None = None
        self.axis, self.looked_away = "seconds", False  # what the page draws, and looks at
        self._line, self._single, self._news = line, int(paused), asyncio.Event()
        self._early = self._good = (0, {})  # steps and weights
        self._looked = self._sampled = -math.inf

    @property
    def rests(self) -> bool:
        """Whether it waits for somebody to go on, or to ask for a step."""
        return self.paused and not self._single

    def pause(self) -> None:
        """Pauses, or goes on."""
        self.paused = not self.paused
        self._news.set()

    def one_step(self) -> None:
        """One step, then a pause."""
        self.paused, self._single = True, self._single + 1
        self._news.set()

    def stop(self, left: bool = False) -> None:
        """Ends it with the model as it is; without one if its page was `left`."""
        self.stopped, self._left = True, left
        self._news.set()

    async def updates(self) -> AsyncIterator[None]:
        """Comes by when the page should be shown again.

        Raises ValueError if what was asked for cannot be trained, or too many wait.
        """
        trainings, self.begun = self._line.trainings, True
        try:
            if len(trainings) >= MOST_TRAINING + MOST_WAITING:
                raise ValueError(f"{MOST_WAITING} others wait to train: try again in some minutes.")
            trainings.append(self)
            async for _ in self._stages():
                yield
        finally:
            self.over = True
            self._early = self._good = (0, {})
            if self in trainings:
                trainings.remove(self)
        self.stage = ""
        yield

    async def _stages(self) -> AsyncIterator[None]:
        while place := self._line.place(self):
            if self.stopped:
                self.note = "Stopped before it began."
                return
            self.stage = f"Two others train now: you are number {place} in the line …"
            yield
            await self._sleep(LOOK_SECONDS)
        self.stage = "Reading the text …"
        yield
        await self._begin()
        yield
        async for _ in self._train(time.monotonic()):
            yield
        if not self._left:
            self.stage = "Keeping the model …"
            yield
            await self._end()

    async def _begin(self) -> None:
        """Reads the text, and counts the steps of the budget."""
        found = await _in_hands(plan, self.values, self.device)
        if self.former is not None:
            found = as_many_steps(found, self.former.plan)
        if found.options.steps == NEVER:
            found = with_steps(found, await self._seconds_of_a_step(found))
        self.plan = found
        self.run = await _in_hands(Run, found.cfg, found.options, found.corpus)
        self._events = self.run.events()
        await self._look()
        await self._sample()
        self.stage = ""

    async def _seconds_of_a_step(self, found: Plan) -> float:
        """By a few steps of a run for trial, after one that is slower; a guess if it diverges."""
        events = (await _in_hands(Run, found.cfg, found.options, found.corpus)).events()
        tried = [await self._on_cores(lambda: next(events, None)) for _ in range(1 + TRIED_STEPS)]
        done = [event.seconds for event in tried if isinstance(event, Stepped)]
        if len(done) < 2:
            return found.seconds
        return statistics.median(b - a for a, b in itertools.pairwise(done))  # others may delay one

    async def _train(self, began: float) -> AsyncIterator[None]:
        """Steps until the last one, Stop, or the end of the time that a run may take."""
        while not self.stopped:
            if time.monotonic() - began > MOST_SECONDS:
                self.note = f"Stopped: a run may take {MOST_SECONDS // 60} minutes here."
                return
            if self.rests:
                yield
                if not await self._rested():
                    return
                continue
            shown = time.monotonic()
            while time.monotonic() - shown < UPDATE_SECONDS and not self.stopped:
                if await self._step():
                    return
                if self.paused:
                    break
            now = time.monotonic()
            if now - self._looked > EVALUATE_SECONDS or self.paused:
                if not await self._look():
                    return
                if now - self._sampled > SAMPLE_SECONDS or self.paused:
                    await self._sample()
            yield

    async def _rested(self) -> bool:
        """Whether it was asked to go on; a pause is short where others wait for its place."""
        for _ in range(PAUSES):
            if await self._sleep(PAUSED_SECONDS):
                return True
            if len(self._line.trainings) > MOST_TRAINING:
                self.note = "Stopped: it was paused for a minute, and others wait for its place."
                return False
        self.note = f"Stopped: it was paused for {PAUSES} minutes."
        return False

    async def _step(self) -> bool:
        """One step of the run; whether it was the last."""
        single, self._single = self._single, max(self._single - 1, 0)
        event = await self._on_cores(self._peek if single else lambda: next(self._events, None))
        if not isinstance(event, Stepped):
            self._back_to_good()
            return True
        self.history.steps.append(event)
        return event.step == self.plan.options.steps

    def _peek(self) -> Event | None:
        """The next step, and its record: a window, what its targets cost before, one weight."""
        run, t = self.run, self.plan.cfg.context_length
        n = run.step * run.options.batch_size
        start = next(window_starts(len(run.ids), t, run.options.seed, skip=n))
        ids = run.corpus.ids[start : start + min(t, PEEK_TOKENS) + 1]
        nats, weight = run.nats(ids).tolist(), run.model.state_dict()[PEEKED][0, 0]
        before, event = float(weight), next(self._events, None)
        if isinstance(event, Stepped):
            peek = ids.tolist(), nats, before, float(weight), event.learning_rate
            self.history.peek = Peek(event.step, *peek)
        return event

    async def _look(self) -> bool:
        """Held-out loss, the held-out line, and a copy of the weights if they are good.

        False if they are not: those of before are back.
        """
        self._looked = await self._now_and_then(self._measure)
        good = math.isfinite(self.history.evaluated[-1][1].nats_per_token)
        if not good:
            self._back_to_good()
        return good

    def _measure(self) -> None:
        run, history = self.run, self.history
        evaluated = run.evaluated(LIVE_TARGETS)
        if history.evaluated and history.evaluated[-1][1].step == run.step:
            history.evaluated.pop()  # it was measured when it paused
        history.evaluated.append((run.seconds, evaluated))
        history.line = (-run.nats(run.corpus.held_out[: LINE_TOKENS + 1])).exp().tolist()
        if math.isfinite(evaluated.nats_per_token):
            last, self._good = self._good, (run.step, copy.deepcopy(run.model.state_dict()))
            low, high = (share * self.plan.options.steps for share in EARLY)
            if not run.step:
                self._early = self._good
            elif not self._early[0] and low <= last[0] <= high and last[0] < run.step:
                self._early = last  # only now: the newest would be compared with itself
        if self.plan.text.name == "additions":
            self._add_up()

    def _add_up(self) -> None:
        """Asks for sums that were held out."""
        pairs = MADE["additions"].held_out.pairs[::8]
        questions = [f"{a}+{b}=" for a, b in pairs]
        found = answers(self.run.whole_model(), self.run.corpus.tokenizer, questions)
        right = sum(str(a + b) == said for (a, b), said in zip(pairs, found, strict=True))
        self.history.right = right, len(pairs)
        self.history.answers = list(zip(questions, found, strict=True))[::13]

    async def _sample(self) -> None:
        def work() -> None:
            self.history.sample = self.run.sampled()

        self._sampled = await self._now_and_then(work)

    async def _now_and_then(self, work: Callable[[], None]) -> float:
        """When it was done; what takes long counts as done later, to be a fifth at most."""
        began = time.monotonic()
        await self._on_cores(work)
        return time.monotonic() + 4 * (time.monotonic() - began)

    def _back_to_good(self) -> None:
        run, (kept, weights) = self.run, self._good
        self.note = (
            f"The loss is not finite at step {run.step:,}: it stopped, and the weights of step "
            f"{kept:,} are kept. Use a lower learning rate."
        )
        run.model.load_state_dict(weights)
        run.step = kept

    async def _end(self) -> None:
        """The last numbers, and the model kept for an hour."""
        if not await self._look():
            await self._look()
        await self._sample()
        self.finished = await _in_hands(self._keep)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self.finished.drop)
        self.run = self._events = None

    def _keep(self) -> Finished:
        history, run, text = self.history, self.run, self.plan.text
        evaluated, sample = history.evaluated[-1][1], history.sample.text
        archive = write_bundle(run, text, history.steps, evaluated, sample, new_folder())
        early, weights = self._early
        run.model.load_state_dict(weights)
        folder = archive.parent / f"at step {early:,}"  # its name is shown
        run.write_model(folder, "float32")
        count = count_parameters(run.cfg).total
        label = (
            f"Yours, trained on {text.called}: {count:,} parameters, {counted(run.step, 'step')}"
        )
        return kept(archive, folder, label, f"Steps {early:,} and {run.step:,}")

    async def _on_cores(self, work: Callable[[], T]) -> T:
        """`work()` on all cores, then a rest in which those who write have most of the time."""

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            return work(), time.perf_counter() - began

        async with self._line.lane:
            result, seconds = await _in_hands(all_cores.on_all_cores, timed)
            if all_cores.texts_are_written():
                await asyncio.sleep(seconds * (1 / SHARE - 1))
        return result

    async def _sleep(self, seconds: float) -> bool:
        """Until there is news, which is True, or the time is over."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return False
        self._news.clear()
        return True


async def _in_hands(work: Callable[..., T], *args: Any) -> T:
    def held() -> T:
        try:
            return work(*args)
        except StopIteration as error:  # no future can have it: one would wait for ever
            raise RuntimeError("a job of a run raised StopIteration") from error

    return await asyncio.get_running_loop().run_in_executor(_HANDS, held)
