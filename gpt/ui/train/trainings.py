"""A run of training as the page sees it: its place in line, its steps in turns, its end.

The visitor's event drives it: a run without a page that looks on goes no further. Each step is
one job of the thread that has all cores, between turns of those who write.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from anyio import move_on_after
from anyio.to_thread import run_sync

from gpt.serving import all_cores
from gpt.training.events import Stepped
from gpt.training.trainer import Run
from gpt.ui.train.learner import KEPT_SECONDS, Finished, History, Learner
from gpt.ui.train.plans import NEVER, Plan, as_many_steps, plan, set_pace, with_steps
from gpt.ui.train.settings import Experiment

MOST_TRAINING, MOST_WAITING = 2, 40
SHARE = 0.25  # of the time of all cores, while others write
UPDATE_SECONDS, LOOK_SECONDS = 0.5, 0.25
EVERY = {"look": 1.5, "sample": 4.0}  # seconds, of what a learner measures
PAUSED_SECONDS, PAUSES, MOST_SECONDS = 60, 10, 1800
TRIED_STEPS = 4
LOST_SECONDS = 10  # after which a start whose run has not begun is none: its page has gone
MOST_TRAININGS = 64  # whose curves are kept; of pages that were not closed the oldest goes
T = TypeVar("T")


def _usual_seconds(steps: Sequence[Stepped]) -> float:
    """The median of what a step took, without the first: others may delay some."""
    return statistics.median(b.seconds - a.seconds for a, b in itertools.pairwise(steps))


class Training:
    """One visitor's run. `updates` drives it; pause, step and stop may be asked at any time."""

    def __init__(
        self, trainings: "Trainings", values: Mapping[str, Any], former: "Training | None" = None,
        experiment: Experiment | None = None, paused: bool = False,
    ) -> None:  # fmt: skip
        self.values = {**values, **(experiment.changes if experiment else {})}
        self.experiment, self.former = experiment, former
        if former is not None:
            former.former = None  # only its curve is shown
        self.history = History()
        self.plan: Plan | None = None
        self.stage = "Starting …"
        self.paused, self.stopped, self._left = paused, False, False
        self.asked_at, self.begun, self.over = time.monotonic(), False, False
        self.warned = False  # that another run takes the place of its model
        self.finished: Finished | None = None
        self.axis, self.looked_away = "seconds", False  # what the page draws, and looks at
        self._trainings, self._single, self._news = trainings, int(paused), asyncio.Event()
        self._learner: Learner | None = None  # while it goes on
        self._due: dict[str, float] = {}  # by the names of EVERY

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
        line, self.begun = self._trainings.line, True
        try:
            if len(line) >= MOST_TRAINING + MOST_WAITING:
                raise ValueError(f"{MOST_WAITING} others wait to train: try again in some minutes.")
            line.append(self)
            async for _ in self._stages():
                yield
        finally:
            self.over, self._learner = True, None
            if self in line:
                line.remove(self)
        self.stage = ""
        yield

    async def _stages(self) -> AsyncIterator[None]:
        """Waits in line, begins, trains until the last step, Stop or too long, keeps the model."""
        if self._trainings.line.index(self) >= MOST_TRAINING:
            # What cannot be trained is refused before its turn; the hands are for those who train.
            await asyncio.to_thread(plan, self.values, self._trainings.device)
        while (place := self._trainings.line.index(self) + 1 - MOST_TRAINING) > 0:
            if self.stopped:
                self.history.note = "Stopped before it began."
                return
            self.stage = f"Two others train now: you are number {place} in the line …"
            yield
            await self._sleep(LOOK_SECONDS)
        self.stage = "Reading the text …"
        yield
        await self._begin()
        yield
        ends = time.monotonic() + MOST_SECONDS
        while not (self.stopped or self._learner.done):
            if time.monotonic() > ends:
                self._stop(f"a run may take {MOST_SECONDS // 60} minutes here.")
            elif self.rests:
                yield
                await self._rest()
            else:
                await self._some_steps()
                yield
        if len(self.history.steps) > TRIED_STEPS:
            set_pace(self.plan, _usual_seconds(self.history.steps))
        if not self._left:
            self.stage = "Keeping the model …"
            yield
            await self._measure()
            self.finished = await run_sync(self._learner.keep)
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self.finished.drop)

    async def _begin(self) -> None:
        """Reads the text, and counts the steps of the budget."""
        found = await run_sync(plan, self.values, self._trainings.device)
        # The same again is measured again: a busy machine may have given the run before few steps.
        if self.former and (self.experiment or self.values != self.former.values):
            found = as_many_steps(found, self.former.plan)
        if found.options.steps == NEVER:
            found = with_steps(found, await self._seconds_of_a_step(found))
        self.plan = found
        self._learner = await run_sync(Learner, found, self.history)
        await self._measure()
        self.stage = ""

    async def _seconds_of_a_step(self, found: Plan) -> float:
        """By a few steps of a run for trial, after one that is slower; a guess if it diverges."""
        events = (await run_sync(Run, found.cfg, found.options, found.corpus)).events()
        tried = [await self._on_cores(lambda: next(events, None)) for _ in range(1 + TRIED_STEPS)]
        done = [event for event in tried if isinstance(event, Stepped)]
        if len(done) < 2:
            return found.seconds
        return _usual_seconds(done)

    async def _some_steps(self) -> None:
        """Until the page is to be shown again, and what is then due to be measured."""
        shown = time.monotonic()
        while time.monotonic() - shown < UPDATE_SECONDS and not self.stopped:
            single, self._single = self._single, max(self._single - 1, 0)
            await self._on_cores(self._learner.peek if single else self._learner.step)
            if self._learner.done:
                return
            if self.paused:
                break
        await self._measure(all_of_it=self.paused)

    async def _rest(self) -> None:
        """Until it is asked for something; a pause is short where others wait for its place."""
        for _ in range(PAUSES):
            if await self._sleep(PAUSED_SECONDS):
                return
            if len(self._trainings.line) > MOST_TRAINING:
                self._stop("it was paused for a minute, and others wait for its place.")
                return
        self._stop(f"it was paused for {PAUSES} minutes.")

    def _stop(self, why: str) -> None:
        self.stopped, self.history.note = True, f"Stopped: {why}"

    async def _measure(self, all_of_it: bool = True) -> None:
        """Held-out loss and sample, or what is due of them: a fifth of the time at most."""
        for name, seconds in EVERY.items():
            began = time.monotonic()
            if all_of_it or began > self._due[name]:
                await self._on_cores(getattr(self._learner, name))
                done = time.monotonic()
                self._due[name] = done + seconds + 4 * (done - began)

    async def _on_cores(self, work: Callable[[], T]) -> T:
        """`work()` on all cores, then a rest in which those who write have most of the time."""

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            return work(), time.perf_counter() - began

        async with self._trainings.lane:
            result, seconds = await run_sync(all_cores.on_all_cores, timed)
            if all_cores.texts_are_written():
                await asyncio.sleep(seconds * (1 / SHARE - 1))
        return result

    async def _sleep(self, seconds: float) -> bool:
        """Until there is news, which is True, or the time is over."""
        with move_on_after(seconds):
            await self._news.wait()
            self._news.clear()
            return True
        return False


class Trainings:
    """The newest run of each page, by session, and the `line` of those that go on.

    The line is in the order of coming: the first MOST_TRAINING of it train, the others wait.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.of: dict[str | None, Training] = {}
        self.line: list[Training] = []
        self.lane = asyncio.Lock()  # one job and its rest at a time

    def going(self, session: str | None) -> Training | None:
        """The page's run, if it goes on, or was asked for just now."""
        training = self.of.get(session)
        if training is None or training.over:
            return None
        lost = not training.begun and time.monotonic() - training.asked_at > LOST_SECONDS
        return None if lost else training

    def made(self, session: str | None) -> Training | None:
        """The page's newest run that left a model; while another goes on, the one before."""
        return self._newest(session, lambda run: run.finished)

    def measured(self, session: str | None) -> Training | None:
        """The page's newest run that has a curve: of one that was refused the one before."""
        return self._newest(session, lambda run: run.history.evaluated)

    def _newest(self, session: str | None, has: Callable[[Training], Any]) -> Training | None:
        last = self.of.get(session)
        return next((run for run in (last, last and last.former) if run and has(run)), None)

    def start(
        self, session: str | None, values: Mapping[str, Any], experiment: Experiment | None = None,
        paused: bool = False,
    ) -> Training:  # fmt: skip
        """A run that is to be driven. The page's last one, if it has a curve, is shown in it."""
        last = self.of.pop(session, None)
        former = last if last is None or last.history.steps else last.former
        started = self.of[session] = Training(self, values, former, experiment, paused)
        over = [name for name in self.of if not self.going(name)]
        for name in over[: max(len(self.of) - MOST_TRAININGS, 0)]:
            del self.of[name]
        return started
