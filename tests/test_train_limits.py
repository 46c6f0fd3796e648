"""What holds a run of the Train tab back, so that others can write, train and have memory."""

import asyncio
import itertools
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from own_loop import run_async
from train_runs import TINY, driven

from gpt.checkpoints.sources import is_kept, keep_trained
from gpt.serving import all_cores
from gpt.training.choices import MOST_HELD_OUT, corpus_of, own_text
from gpt.training.corpus import read_corpus
from gpt.training.events import Evaluated, Sampled
from gpt.training.trainer import Run
from gpt.ui.train import learner as learner_module
from gpt.ui.train import trainings as trainings_module
from gpt.ui.train.learner import Finished, Learner
from gpt.ui.train.plans import as_many_steps, plan, with_steps
from gpt.ui.train.settings import EXPERIMENTS
from gpt.ui.train.tab import Handlers
from gpt.ui.train.trainings import MOST_TRAINING, Training, Trainings


@pytest.fixture
def clock(monkeypatch):
    """What runs take for the time, in `now`."""
    made = SimpleNamespace(now=100.0)
    made.perf_counter = made.monotonic = lambda: made.now
    monkeypatch.setattr(trainings_module, "time", made)
    return made


@pytest.mark.parametrize("texts", [True, False])
def test_a_step_is_followed_by_three_times_its_rest_while_texts_are_written(
    texts, clock, monkeypatch
):
    """Those who write keep 70 % of their rate; no other run's step fills the rest."""
    rests, training = [], Training(Trainings(), TINY)

    async def rest(seconds):
        rests.append((round(seconds, 6), training._trainings.lane.locked()))

    def step():
        clock.now += 0.2

    monkeypatch.setattr(all_cores, "texts_are_written", lambda: texts)
    # Of this module only: the page of other tests is served in this process.
    others = SimpleNamespace(**{**vars(asyncio), "sleep": rest})
    monkeypatch.setattr(trainings_module, "asyncio", others)
    run_async(training._on_cores(step))
    assert rests == ([(0.6, True)] if texts else [])


def test_a_slow_validation_is_a_fifth_of_the_time_at_most(clock):
    def look():
        clock.now += 2

    training = Training(Trainings(), TINY)
    training._learner = SimpleNamespace(look=look, sample=lambda: None)
    run_async(training._measure())
    assert training._due["look"] == 100 + 2 + 4 * 2 + trainings_module.EVERY["look"]


def test_the_loss_is_measured_every_second_or_two_and_a_sample_made_every_few(clock, monkeypatch):
    def noted(name, answer):
        times = []

        def watched(*_):
            times.append(clock.now)
            return answer

        monkeypatch.setattr(Run, name, watched)
        return times

    evaluated = noted("evaluated", Evaluated(1.0, 9))
    sampled, step = noted("sampled", Sampled(0, "")), Learner.step

    def quarter_of_a_second(learner):
        clock.now += 0.25
        step(learner)

    monkeypatch.setattr(Learner, "step", quarter_of_a_second)
    training = run_async(driven(Training(Trainings(), {**TINY, "steps": 64})))
    training.finished.drop()
    for times, low, high in ((evaluated, 1.5, 3), (sampled, 4, 7)):
        gaps = [b - a for a, b in itertools.pairwise(times)][:-2]  # the end is at its own time
        assert gaps
        assert low <= min(gaps)
        assert max(gaps) <= high


def test_steps_are_those_of_the_whole_budget_and_an_experiment_has_as_many(monkeypatch):
    """A second run on a machine that is busy now would have another schedule."""
    measured = [0.01, 0.05, 0.02]

    async def seconds(*_):
        return measured.pop(0)

    monkeypatch.setattr(Training, "_seconds_of_a_step", seconds)
    values = {**TINY, "steps": 0, "budget": 60}

    def steps(of, **more):
        training = Training(Trainings(), of, **more)
        return run_async(driven(training, lambda t: t.plan is not None))

    first = steps(values)
    twin = steps(values, former=first, experiment=EXPERIMENTS[1])
    other = steps({**values, "batch": 4}, former=twin)
    again = steps({**values, "batch": 4}, former=other)  # few steps stayed few for ever
    found = [t.plan.options.steps for t in (first, twin, other, again)]
    assert found == [6000, 6000, 1200, 3000]


@pytest.mark.parametrize(
    "changed", [{"layers": 2}, {"width": 32}, {"pasted": "Another text.\n" * 40}]
)
def test_another_model_or_text_has_steps_of_its_own(changed):
    """Two sizes of one's own are both "yours", two texts "own": eight blocks of 256 had the steps
    of one of 8, and a budget of a minute took far longer.
    """
    values = {**TINY, "text": "own", "pasted": "A line of it.\n" * 40, "characters": 0, "steps": 0}
    former = with_steps(plan(values), 0.01)
    found = plan({**values, **changed})
    assert as_many_steps(found, former) is found
    assert as_many_steps(plan({**values, "heads": 1}), former).options.steps == 6000


@pytest.mark.parametrize(
    ("limit", "paused", "note"),
    [("PAUSED_SECONDS", True, "it was paused for"), ("MOST_SECONDS", False, "a run may take")],
)
def test_a_run_does_not_hold_its_place_for_ever(limit, paused, note, monkeypatch):
    monkeypatch.setattr(trainings_module, limit, 0.05)
    monkeypatch.setattr(trainings_module, "UPDATE_SECONDS", 0.02)
    trainings = Trainings()

    async def go():
        training = Training(trainings, {**TINY, "steps": 100_000}, paused=paused)
        return await asyncio.wait_for(driven(training), 30)

    training = run_async(go())
    assert note in training.history.note
    assert trainings.line == []
    training.finished.drop()


def test_a_pause_is_short_where_others_wait_for_the_place(monkeypatch):
    """Two pages that had pressed Step kept everybody from training for ten minutes."""
    monkeypatch.setattr(trainings_module, "PAUSED_SECONDS", 0.05)
    trainings = Trainings()

    async def go():
        training = Training(trainings, {**TINY, "steps": 100_000}, paused=True)
        others = [Training(trainings, TINY) for _ in range(MOST_TRAINING)]
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                if others[0] not in trainings.line:
                    trainings.line += others
        return training

    training = run_async(go())
    assert "others wait for its place" in training.history.note
    assert training.history.steps
    training.finished.drop()


def test_what_cannot_be_trained_is_refused_before_its_turn():
    """It waited for it, for minutes, and was then told that its text is too short."""
    trainings = Trainings()
    trainings.line += [Training(Trainings(), TINY)] * MOST_TRAINING
    refused = Training(trainings, {**TINY, "characters": 20})
    with pytest.raises(ValueError, match=r"the text has .. tokens to learn from"):
        run_async(driven(refused, lambda training: "in the line" in training.stage))
    assert refused not in trainings.line


def test_a_class_of_thirty_finds_room_in_the_line():
    """The 23rd and those after were turned away."""
    trainings = Trainings()

    async def go():
        begun = [Training(trainings, TINY).updates() for _ in range(30)]
        for updates in begun:
            await anext(updates)
        places = len(trainings.line)
        for updates in begun:
            await updates.aclose()
        return places

    assert run_async(go()) == 30
    assert trainings.line == []


def test_a_page_that_is_closed_stops_its_run(built):
    (left,) = [f.fn for f in built.fns.values() if (None, "unload") in f.targets
               and isinstance(getattr(f.fn, "__self__", None), Handlers)]  # fmt: skip
    trainings = left.__self__.trainings
    trainings.start("mine", TINY, None, paused=False)
    trainings.start("yours", TINY, None, paused=False)
    mine, yours = trainings.of["mine"], trainings.of["yours"]
    run_async(left(SimpleNamespace(session_hash="mine")))
    assert (mine.stopped, yours.stopped) == (True, False)
    assert trainings.of.pop("yours") is yours
    assert "mine" not in trainings.of


def test_a_class_of_thirty_keeps_its_models_for_their_hour(tmp_path, monkeypatch):
    """Of more than 24 models the oldest went, however small all of them were."""
    monkeypatch.setattr(learner_module, "_kept", [])
    folders = [TemporaryDirectory(dir=tmp_path) for _ in range(30)]
    made = [
        Finished(
            keep_trained(tmp_path, tmp_path), "", "", Path(folder.name) / "all.zip", folder, 2**20
        )
        for folder in folders
    ]
    assert all(is_kept(each.source) for each in made)
    for each in made:
        each.drop()


def test_of_many_models_and_curves_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(learner_module, "_kept", [])
    monkeypatch.setattr(learner_module, "MOST_KEPT_BYTES", 20)
    monkeypatch.setattr(trainings_module, "MOST_TRAININGS", 2)
    made, trainings = [], Trainings()
    for name in "abc":
        folder = TemporaryDirectory(dir=tmp_path)
        archive = Path(folder.name) / "all.zip"
        made.append(Finished(keep_trained(tmp_path, tmp_path), name, "", archive, folder, 10))
        trainings.start(name, TINY, None, paused=False)
        trainings.of[name].over = True
    assert [is_kept(each.source) for each in made] == [False, True, True]
    assert [each.archive.parent.exists() for each in made] == [False, True, True]
    trainings.start("d", TINY, None, paused=False)
    assert list(trainings.of) == ["c", "d"]
    for each in made[1:]:
        each.drop()


@pytest.mark.parametrize("line", ["One line of it.\n", "no line ends here "])
def test_of_a_long_text_no_more_is_held_out_than_is_soon_read(line):
    """Of a file of 2 MiB 200,000 characters were read twice at a run's end, each time as one job,
    for which everybody who wrote waited.
    """
    whole = (line * (2**21 // len(line))).strip()
    found = own_text(whole, None)
    assert found.text + found.held_out == whole
    assert MOST_HELD_OUT - len(line) <= len(found.held_out) <= MOST_HELD_OUT


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    """A forged event can name what is no upload, such as the zip of a model."""
    large = tmp_path / "model.zip"
    large.write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("was read"))
    with pytest.raises(ValueError, match=r"model.zip has 3.1 MB: use at most 2 MiB"):
        own_text("", large)


@pytest.mark.parametrize(
    "text",
    ["The cat sat on the mat.\n" * 120 + "\n" * 800, "\ufeff\ufeffOne.\n" * 200 + "\ufeffTwo."],
)
def test_the_two_files_of_the_zip_are_read_as_the_page_read_the_text(text, tmp_path):
    """A blank end was held out, which train.py refused; a mark before the cut was lost there."""
    found = own_text(text, None)
    (tmp_path / "a").write_text(found.text, encoding="utf-8", newline="")
    (tmp_path / "b").write_text(found.held_out, encoding="utf-8", newline="")
    again = read_corpus([str(tmp_path / "a")], str(tmp_path / "b"), "characters")
    corpus = corpus_of(found, "characters")
    assert corpus.ids.equal(again.ids)
    assert corpus.held_out.equal(again.held_out)
