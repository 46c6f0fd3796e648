"""The Train tab without a browser: plans, runs, their line, what comes out, what is refused."""

import asyncio
import math
import re
import runpy
import statistics
import zipfile
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
import pytest
import torch
from own_loop import run_async
from train_runs import TINY, driven

from gpt.__main__ import main
from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import EARLY, is_kept, load_model
from gpt.serving.registry import Registry
from gpt.training.bundle import card
from gpt.training.choices import corpus_of, made_text
from gpt.training.corpus import make_corpus, split_documents
from gpt.training.evaluation import evaluate, unigram_nats
from gpt.training.events import Evaluated, Stepped
from gpt.training.texts import Grammar, make_text
from gpt.training.trainer import Run
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.sections.text_to_tokens import tokens_html
from gpt.ui.internals.sections.what_if import EARLIER, comparison_html
from gpt.ui.links import Place, link_of, place_of
from gpt.ui.parts.numbers import mib_and_mb, significant
from gpt.ui.parts.sentences import say
from gpt.ui.train import plans, views
from gpt.ui.train import trainings as trainings_module
from gpt.ui.train.curve import thinned
from gpt.ui.train.layout import Layout
from gpt.ui.train.learner import History, Learner
from gpt.ui.train.plans import NEVER, pace, plan, with_steps
from gpt.ui.train.settings import DEFAULTS, EXPERIMENTS, MARKS, SIZES
from gpt.ui.train.tab import Handlers
from gpt.ui.train.trainings import MOST_TRAINING, MOST_WAITING, Training, Trainings
from gpt.ui.visit import Shared, Visitor

REQUEST = SimpleNamespace(session_hash="me")


def trained(**changed):
    return run_async(driven(Training(Trainings(), {**TINY, **changed})))


@pytest.fixture
def diverge_at(monkeypatch):
    """Lets each run go to NaN in a step: a rate of 10 does so, or not, with the processor's
    rounding, and what was to diverge at once then trained for its minute.
    """
    gradients = Run._gradients

    def at(step):
        def spoilt(run, *given):
            if run.step == step - 1:
                run.model.pos_emb.weight.data.fill_(math.nan)
            return gradients(run, *given)

        monkeypatch.setattr(Run, "_gradients", spoilt)

    return at


@pytest.fixture
def often(monkeypatch):
    """A run of many steps is looked at after some of them, not after half a second."""
    monkeypatch.setattr(trainings_module, "UPDATE_SECONDS", 0.02)


@pytest.fixture
def handlers():
    """Those of a page without a browser."""
    with gr.Blocks():
        return Handlers(Layout(), Trainings(), Shared())


@pytest.fixture(scope="module")
def done():
    """One finished run that all tests read."""
    finished = trained()
    yield finished
    finished.finished.drop()


@pytest.fixture(scope="module")
def unpacked(done, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    with zipfile.ZipFile(done.finished.archive) as archive:
        archive.extractall(folder)
    return folder / "trained-gpt"


def test_a_run_in_the_tab_is_that_of_the_command_line(done, unpacked, tmp_path, monkeypatch):
    """Same texts, same options: step by step the same numbers, and the same held-out loss."""
    events, seen = Run.events, []

    def watched(run):
        for event in events(run):
            seen.append(event)
            yield event

    monkeypatch.setattr(Run, "events", watched)
    options, cfg = done.plan.options, done.plan.cfg
    flags = {
        "text": unpacked / "text.txt", "validation": unpacked / "held_out.txt",
        "out": tmp_path / "run", "vocabulary": options.vocabulary, "steps": options.steps,
        "batch-size": options.batch_size, "peak-rate": options.peak_rate,
        "warmup-steps": options.warmup_steps, "weight-decay": options.weight_decay,
        "report-every": 1,
        "precision": options.precision, "seed": options.seed, "emb-dim": cfg.emb_dim,
        "n-heads": cfg.n_heads, "n-layers": cfg.n_layers, "context-length": cfg.context_length,
        "drop-rate": cfg.drop_rate,
    }  # fmt: skip
    given = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert main(["train", *given]) == 0
    steps = [event for event in seen if isinstance(event, Stepped)]
    assert [replace(step, seconds=0) for step in steps] == [
        replace(step, seconds=0) for step in done.history.steps
    ]
    assert [step.step for step in steps] == list(range(1, 51))
    evaluated = [event for event in seen if isinstance(event, Evaluated)]
    assert evaluated == [done.history.evaluated[-1][1]]


def test_the_program_in_the_zip_trains_the_same_weights(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)
    runpy.run_path("train.py")
    mine, again = (load_model(unpacked / name) for name in ("model", "trained"))
    for name, weight in mine.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


def test_the_zip_is_read_by_transformers(done, unpacked):
    transformers = pytest.importorskip("transformers")
    folder = unpacked / "huggingface"
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = done.plan.corpus.held_out[:17]
    assert tokenizer.decode(ids[:8]) == done.plan.corpus.tokenizer.decode(ids[:8].tolist())
    with torch.inference_mode():
        logits = model(ids[None, :-1]).logits[0]
    found = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
    ours = -torch.tensor(done.history.line[:16]).log()
    torch.testing.assert_close(found, ours, rtol=1e-3, atol=1e-4)


def test_the_card_has_the_numbers_of_the_run(done, unpacked):
    text = (unpacked / "README.md").read_text()
    assert f"{done.history.evaluated[-1][1].nats_per_token:.4f} nats a token" in text
    assert "50 of 50 steps" in text
    assert done.history.sample.text.splitlines()[0] in text


def test_the_card_of_a_text_of_one_s_own_says_so():
    """It was headed "trained on own"."""
    found = plan({**TINY, "text": "own", "pasted": "One line of it.\n" * 40, "characters": 0})
    run = Run(found.cfg, found.options, found.corpus)
    made = card(run, found.text, Evaluated(1.0, 9), "")
    assert made.startswith("# A small GPT, trained on your text\n")


def test_what_was_trained_is_a_model_like_any_other_until_it_is_dropped():
    finished = trained(steps=2).finished
    registry = Registry(budget_bytes=2**28)
    with registry.borrow(finished.source) as model:
        assert model.cfg == registry.config_of(finished.source)
        assert tokenizer_of(finished.source).vocab_size == model.cfg.vocab_size
    finished.drop()
    assert not finished.archive.exists()
    with pytest.raises(ValueError, match="kept for an hour and is gone: train it again"):
        registry.config_of(finished.source)


def test_the_held_out_loss_is_that_of_the_model_that_is_kept(done):
    model = load_model(done.finished.source)
    found = evaluate(model, done.plan.corpus.held_out)
    assert done.history.evaluated[-1][1].nats_per_token == pytest.approx(found.nats_per_token)
    assert found.nats_per_token < math.log(model.cfg.vocab_size)


def test_the_curve_shows_the_losses_between_their_baselines(done):
    corpus = done.plan.corpus
    assert done.plan.baselines == {
        f"even guess among {corpus.tokenizer.vocab_size}": math.log(corpus.tokenizer.vocab_size),
        "by frequency alone": unigram_nats(corpus.ids),
        "floor of this text": done.plan.text.floor_nats / len(corpus.held_out),
    }
    html = views.loss_view(done)
    lines = {name: points.split() for name, points in re.findall(
        r'<polyline class="([\w-]+)" points="([^"]+)"', html
    )}  # fmt: skip
    assert len(lines["train"]) == 50  # the last point is always there, and once
    heights = [float(point.split(",")[1]) for point in lines["held-out"]]
    assert heights[-1] > heights[0]  # a lower loss is lower in the picture
    last = done.history.evaluated[-1][1].nats_per_token
    assert f"Held-out loss {last:.2f} nats a token" in html


def test_the_line_has_the_models_probabilities(done):
    chips = re.findall(r'--shade:([\d.]+)"', views.line_view(done))
    assert [float(shade) for shade in chips] == pytest.approx(done.history.line, abs=6e-4)


def test_one_step_shows_its_window_its_losses_and_a_weight():
    """The first Step begins a run that pauses after it; Pause then lets it go on."""

    async def go():
        training = Training(Trainings(), TINY, paused=True)
        await driven(training, lambda t: t.history.peek is not None)
        return training

    training = run_async(go())
    peek, corpus = training.history.peek, training.plan.corpus
    assert len(training.history.steps) == 1
    ids = corpus.ids.tolist()
    assert any(ids[i : i + len(peek.ids)] == peek.ids for i in range(len(ids)))
    # The weights are random: every target costs about as much as an even guess.
    assert peek.nats == pytest.approx([math.log(corpus.tokenizer.vocab_size)] * 16, abs=0.7)
    assert peek.before != peek.after
    html = views.step_view(training)
    assert f"{peek.after:+.6f}" in html
    assert html.count("<tr>") == 17


@pytest.mark.usefixtures("often")
def test_pause_holds_the_run_and_stop_keeps_the_model():
    async def go():
        training, seen = Training(Trainings(), {**TINY, "steps": 100_000}), []
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                n = len(training.history.steps)
                if n and not seen:
                    training.pause()
                    seen.append(n)
                elif training.paused and not training.over:
                    seen.append(n)
                    training.stop()
        return training, seen

    training, seen = run_async(go())
    assert seen[0] == seen[-1] == len(training.history.steps)
    assert load_model(training.finished.source).cfg == training.plan.cfg
    training.finished.drop()


def test_a_run_that_is_stopped_before_its_first_step_says_so():
    """It said "Paused."."""

    async def go():
        training = Training(Trainings(), TINY)
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                training.stop()
        return training

    training = run_async(go())
    assert training.history.steps == []
    assert views.progress_view(training) == say("Stopped; the model is kept.", "hint")
    training.finished.drop()


def test_a_run_that_begins_with_a_single_step_is_not_paused_before_it():
    """ "Paused." stood there for a moment, as if the press had done nothing."""

    async def go():
        training = Training(Trainings(), TINY, paused=True)
        before, after = [], []
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                steps = training.history.steps
                (after if steps else before).append("Paused." in views.progress_view(training))
                if after:
                    training.stop()
        training.finished.drop()
        return before, after

    before, after = run_async(go())
    assert before
    assert not any(before)
    assert after[0]


def test_two_train_at_once_and_the_third_sees_its_place():
    async def go():
        trainings = Trainings()
        first = [Training(trainings, TINY, paused=True) for _ in range(MOST_TRAINING)]
        updates = [training.updates() for training in first]
        for each, training in zip(updates, first, strict=True):
            while training.history.peek is None:
                await anext(each)
        third = Training(trainings, {**TINY, "steps": 2})
        waiting = third.updates()
        await anext(waiting)
        place = third.stage
        fourth = Training(trainings, TINY)
        fourth.stop()
        async for _ in fourth.updates():
            pass
        assert fourth.finished is None
        assert views.progress_view(fourth) == say("Stopped before it began.", "hint")
        await updates[0].aclose()  # its page was closed
        async for _ in waiting:
            pass
        await updates[1].aclose()
        return place, third, trainings

    place, third, trainings = run_async(go())
    assert place == "Two others train now: you are number 1 in the line …"
    assert len(third.history.steps) == 2
    assert trainings.line == []
    third.finished.drop()


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_weights(diverge_at):
    diverge_at(9)
    training = trained(width=128, context=32, batch=8, layers=2, heads=4, rate=10)
    note = training.history.note
    assert note.startswith("The loss is not finite at step 9: it stopped, and the")
    assert math.isfinite(training.history.evaluated[-1][1].nats_per_token)
    assert f'<p class="note">{note}</p><progress' in views.progress_view(training)
    losses = [step.loss for step in training.history.steps]
    assert max(losses) > 100
    assert ">100</text>" in views.loss_view(training)  # above 50 the axis had no numbers
    weights = load_model(training.finished.source).state_dict().values()
    assert all(bool(weight.isfinite().all()) for weight in weights)
    # The zip's program went on to where the run broke, and gave other weights than the zip's.
    with zipfile.ZipFile(training.finished.archive) as archive:
        program = archive.read("trained-gpt/train.py").decode()
        steps = archive.read("trained-gpt/steps.csv").decode()
    kept = int(re.search(r"weights of step ([\d,]+) are kept", note)[1].replace(",", ""))
    assert f"for event in {'run.events()' if kept else '()'}:" in program
    assert f"event.step == {kept}:" in program
    assert len(steps.splitlines()) == 1 + kept
    training.finished.drop()


def test_a_small_step_says_nothing_of_the_time_of_others(monkeypatch):
    """One visitor's run of width 8 told all others that theirs takes 71 s a step."""
    monkeypatch.setattr(pace, "flops", 30e9)
    tiny = {"width": 8, "context": 16, "layers": 1, "heads": 1, "batch": 1}
    with_steps(plan({**TINY, **tiny}), 0.01)
    assert pace.flops == 30e9
    with_steps(plan({**TINY, **DEFAULTS}), 0.01)
    assert pace.flops != 30e9


def test_a_run_s_own_steps_take_the_place_of_the_time_that_was_measured_before_it(monkeypatch):
    """A first measurement beside other programs told all who came later that a step takes 1 s."""
    monkeypatch.setattr(plans, "TELLING_FLOPS", 0)
    monkeypatch.setattr(pace, "flops", 30e9)

    async def busy(training, found):
        return 1.0

    monkeypatch.setattr(Training, "_seconds_of_a_step", busy)
    training = trained(steps=0)
    training.finished.drop()
    assert len(training.history.steps) == 60
    took = [b.seconds - a.seconds for a, b in pairwise(training.history.steps)]
    assert training.plan.work / pace.flops == pytest.approx(statistics.median(took))


def test_the_time_of_one_size_tells_that_of_the_others(monkeypatch):
    """After a run of Small, Large was said to take 40 % longer than it did; and Small after Large
    to take 30 % less.
    """
    monkeypatch.setattr(pace, "flops", pace.flops)
    rates = {"small": 21_564, "medium": 9_969, "large": 7_071}  # tokens/s: train_tab.txt
    values = {**DEFAULTS, "pasted": "", "file": None}
    found = {size: plan({**values, **SIZES[size][1]}) for size in SIZES}
    took = {size: found[size].step_tokens / rate for size, rate in rates.items()}
    for ran in SIZES:
        plans.set_pace(found[ran], took[ran])
        for size in SIZES:
            assert found[size].seconds == pytest.approx(took[size], rel=0.12)


def test_a_step_that_is_measured_twice_is_one_row_and_one_point():
    training = Training(Trainings(), TINY, paused=True)

    async def go():
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                if training.history.steps:
                    training.stop()

    run_async(go())
    steps = [evaluated.step for _, evaluated in training.history.evaluated]
    assert len(steps) == len(set(steps))
    training.finished.drop()


def test_a_run_that_diverges_in_its_trial_steps_ends_and_the_next_can_train(diverge_at):
    """A StopIteration cannot be raised into a future: the run never ended, and nobody trained."""
    trainings = Trainings()
    diverge_at(3)

    async def go(steps):
        return await asyncio.wait_for(driven(Training(trainings, {**TINY, "steps": steps})), 60)

    spoilt, second = run_async(go(steps=0)), run_async(go(steps=2))  # 0: what the budget buys
    assert spoilt.history.note.startswith("The loss is not finite at step 3: it stopped")
    assert trainings.line == []
    assert len(second.history.steps) == 2
    for training in (spoilt, second):
        training.finished.drop()


def test_a_job_of_a_run_that_ends_an_iterator_is_an_error_like_any_other():
    """asyncio waited for ever, with the lane locked."""

    async def go():
        await asyncio.wait_for(Training(Trainings(), TINY)._on_cores(lambda: next(iter(()))), 10)

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        run_async(go())


def test_the_line_of_a_model_that_diverged_is_the_last_good_one():
    """While the model was kept, each of its tokens had a probability of "nan %"."""
    learner = Learner(plan(TINY), History())
    learner.look()
    good = learner.history.line
    learner._run.model.tok_emb.weight.data.fill_(math.nan)
    learner.look()
    assert learner.done
    assert learner.history.line == good


@pytest.mark.parametrize("steps", [2, 9])
def test_weights_that_the_newest_update_has_spoilt_are_not_what_is_kept(steps, monkeypatch):
    """At the last step, or at Stop: "the model's logits are not finite", and no model was kept."""
    update = Run._update
    training = Training(Trainings(), {**TINY, "steps": steps})

    def spoils(run, *given):
        stepped = update(run, *given)
        if run.step == 2:
            run.model.tok_emb.weight.data.fill_(math.nan)
            training.stop()
        return stepped

    monkeypatch.setattr(Run, "_update", spoils)
    run_async(driven(training))
    assert training.history.note.startswith("The loss is not finite at step 2: it stopped")
    weights = load_model(training.finished.source).state_dict().values()
    assert all(bool(weight.isfinite().all()) for weight in weights)
    training.finished.drop()


def test_a_curve_is_thinned_to_points_that_are_each_there_once():
    """The newest held-out loss stood twice in the table."""
    for n in (0, 1, 2, 240, 241, 1000):
        some = thinned([(i, 0.0) for i in range(n)])
        assert len({x for x, _ in some}) == len(some) <= 242
        assert [x for x, _ in some[-1:]] == [n - 1] * bool(n)


def test_the_same_seed_twice_is_the_same_run_and_other_settings_are_compared_step_by_step():
    first = trained(steps=6)
    twin = Training(Trainings(), {**TINY, "steps": 6}, former=first)
    run_async(driven(twin))
    assert "differs from the run before by 0 at most" in views.loss_sentence(twin)
    assert 'class="before"' in views.loss_view(twin)
    other = Training(Trainings(), {**TINY, "steps": 6}, former=twin, experiment=EXPERIMENTS[1])
    run_async(driven(other))
    assert "the run before" not in views.loss_sentence(other)
    assert "Learning rate too high. Look for this:" in views.progress_view(other)
    for training in (first, twin, other):
        training.finished.drop()


def test_the_model_before_stays_at_hand_until_another_is_made(done):
    """While a second run went on, or was refused, “Write with it” said that there was no model."""
    trainings = Trainings()
    trainings.of["me"] = done
    trainings.start("me", {**TINY, "width": None}, None, paused=False)
    second = trainings.going("me")
    assert trainings.made("me") is done
    with pytest.raises(ValueError, match="Width is empty"):
        run_async(driven(second))
    assert trainings.going("me") is None
    assert trainings.made("me") is done
    trainings.start("me", TINY, None, paused=False)
    assert trainings.going("me").former is done
    assert trainings.made("you") is None


def test_while_a_run_goes_on_the_page_says_whose_model_the_buttons_mean(handlers, done):
    """An experiment's curve stood above buttons of the run before, and nothing told them apart."""
    layout, trainings = handlers.layout, handlers.trainings
    data = {box: box.value for box in (*layout.inputs, layout.axis)}
    begun = run_async(handlers.start()(data, REQUEST))
    assert begun[layout.whose] == ""  # they are off
    trainings.of["me"] = done
    begun = run_async(handlers.start(EXPERIMENTS[1])(data, REQUEST))
    assert "with the model of the run before" in begun[layout.whose]
    trainings.of["me"].over = True
    assert run_async(handlers.finish(REQUEST))[layout.whose] == ""


def test_a_model_that_writes_parts_of_characters_is_opened_in_the_other_tabs(handlers):
    """Its text has a character for them that its vocabulary lacks: “Write with it”, “Look inside”
    and “Early and late” of a short training on such a text were an error.
    """
    visitor = Visitor()
    text = "Der Bär läuft über die Brücke, süße Töne, 漢字 und „Grüße“.\n" * 60
    mine = trained(steps=3, text="own", pasted=text)
    handlers.trainings.of["me"] = mine
    use = handlers.use("internals", gr.Textbox(), {})
    run_async(use({handlers.shared.visitor: visitor}, REQUEST))
    mine.finished.drop()
    written = mine.history.sample.text
    assert "\N{REPLACEMENT CHARACTER}" in written
    assert mine.plan.corpus.tokenizer.decode(visitor.visit.ids) == written


def test_a_step_after_a_finished_run_says_what_it_replaces_until_it_begins(handlers, done):
    """The line was there for a moment: what follows a click showed the finished run again."""
    layout, trainings = handlers.layout, handlers.trainings
    trainings.of["me"], done.warned = done, False
    data = {box: box.value for box in (*layout.inputs, layout.axis)}
    told = run_async(handlers.start(paused=True)(data, REQUEST))[layout.progress]
    assert "takes the place of the one that is finished" in told
    assert run_async(handlers.finish(REQUEST))[layout.progress] == told
    done.warned = False


def test_a_page_that_waits_in_line_is_told_its_place_once(handlers, monkeypatch):
    """Each of those that waited was sent the same four times a second."""
    layout, trainings, shared = handlers.layout, handlers.trainings, handlers.shared
    waits = []
    trainings.line += [Training(Trainings(), TINY)] * MOST_TRAINING
    waiting = trainings.start("me", TINY)

    async def sleep(training, seconds):
        waits.append(seconds)
        if len(waits) == 5:
            training.stop()

    async def told():
        updates = handlers.drive({shared.visitor: Visitor()}, REQUEST)
        return [shown[layout.progress] async for shown in updates]

    monkeypatch.setattr(Training, "_sleep", sleep)
    line = "Two others train now: you are number 1 in the line …"
    assert run_async(told()) == [say(text, "hint") for text in (line, "Stopped before it began.")]
    assert waiting.over


def test_a_run_that_is_stopped_before_its_first_step_is_told_to_be_kept(handlers):
    """ "Press Train: the loss falls" stood above the buttons of its model, or the news of the run
    before; and “Steps 0 and 0” compared it with itself.
    """
    layout, stopped = handlers.layout, handlers.trainings.start("me", TINY)
    stopped.stop()
    run_async(driven(stopped))
    ended = run_async(handlers.finish(REQUEST))
    stopped.finished.drop()
    assert ended[layout.progress] == say("Stopped; the model is kept.", "hint")
    assert ended[layout.write]["interactive"]
    assert not ended[layout.early]["interactive"]


def test_a_refused_run_leaves_the_curve_of_the_one_before(handlers, done):
    """The next choice of a setting put the baselines alone in its place, and choosing what it is
    drawn over emptied it.
    """
    layout, trainings, shared = handlers.layout, handlers.trainings, handlers.shared
    assert run_async(handlers.redraw("tokens", REQUEST)) == gr.skip()
    trainings.of["me"] = done
    refused = trainings.start("me", {**TINY, "width": None})
    with pytest.raises(ValueError, match="Width is empty"):
        run_async(driven(refused))
    data = {box: TINY.get(name) for name, box in layout.controls.items()}
    data |= {layout.file: None, shared.visitor: Visitor()}
    looked = run_async(handlers.look(data, REQUEST))
    assert layout.estimate in looked
    assert layout.loss not in looked
    by_tokens = run_async(handlers.redraw("tokens", REQUEST))
    assert "tokens read</text>" in by_tokens
    done.axis = "seconds"
    assert views.loss_view(done) != by_tokens


def test_a_link_has_what_is_chosen_now_while_a_run_goes_on(handlers):
    """A setting that was changed meanwhile was not in the link: the run put its own back."""
    layout, shared, visitor = handlers.layout, handlers.shared, Visitor()
    training = handlers.trainings.start("me", TINY)
    chosen = {box: TINY[name] for name, box in layout.controls.items()}
    chosen |= {layout.settings["width"]: 32, shared.visitor: visitor}

    async def another_width_is_chosen():
        async for _ in handlers.drive({shared.visitor: visitor}, REQUEST):
            if training.plan and not training.looked_away:
                await handlers.look(chosen, REQUEST)

    run_async(another_width_is_chosen())
    training.finished.drop()
    assert visitor.training["width"] == 32


def test_a_page_that_was_turned_away_may_ask_again():
    """Where the line was full, its run was never over: each Train after did nothing, for ever."""
    trainings = Trainings()
    trainings.line += [Training(Trainings(), TINY)] * (MOST_TRAINING + MOST_WAITING)
    trainings.start("me", TINY, None, paused=False)
    with pytest.raises(ValueError, match=f"{MOST_WAITING} others wait to train: try again"):
        run_async(driven(trainings.going("me")))
    assert trainings.going("me") is None


def test_without_positions_each_step_shuffles_their_embeddings():
    """At a learning rate of 0 nothing else moves them."""

    def rows(positions):
        """The embeddings before the first step and after each of two."""
        found = plan({**TINY, "steps": 3, "positions": positions, "rate": 0.0})
        run = Run(found.cfg, found.options, found.corpus)
        events = run.events()
        yield run.model.pos_emb.weight.tolist()
        for _ in range(2):
            next(events)
            yield run.model.pos_emb.weight.tolist()

    start, once, twice = rows(positions=False)
    assert start != once != twice != start
    assert sorted(start) == sorted(once) == sorted(twice)
    assert list(rows(positions=True)) == [start] * 3


@pytest.mark.usefixtures("often")
def test_a_link_trains_it_again_with_the_same_steps():
    """Steps that a budget bought here are counted: another machine's would buy others."""

    def three_steps(values):
        training = Training(Trainings(), values)
        run_async(driven(training, lambda t: len(t.history.steps) > 2))
        return training

    first = three_steps({**TINY, "text": "own", "pasted": "One line & another. " * 9, "steps": 0,
                         "budget": 60, "positions": False})  # fmt: skip
    place = Place(tab="train", training=first.plan.repeated)
    address, missing = link_of(place, "http://localhost/")
    assert missing.startswith("The link leaves out what was trained: ")
    opened, wrong = place_of(dict(parse_qsl(urlsplit(address).query)), None)
    assert (opened, wrong) == (place, ())
    again = three_steps({**DEFAULTS, "pasted": "", "file": None, **opened.training})
    assert again.plan.options == first.plan.options
    assert again.plan.options.steps < NEVER
    pairs = list(zip(first.history.steps, again.history.steps, strict=False))
    assert len(pairs) > 2
    assert all(one.loss == other.loss for one, other in pairs)


def test_the_steps_of_any_budget_can_stand_in_a_link():
    """Of the smallest model 300 seconds buy more than the 100,000 that the box allowed."""
    smallest = {"width": 8, "layers": 1, "heads": 1, "batch": 1, "context": 16}
    bought = with_steps(plan({**TINY, **smallest, "steps": 0, "budget": 300}), 0.001).repeated
    assert bought["steps"] == 300_000
    assert plan({**TINY, **bought}).options.steps == 300_000


def test_an_early_checkpoint_is_kept_and_compared_with_the_last(done):
    source = done.finished.source
    registry = Registry(budget_bytes=2**28)
    lab = Lab(registry).using(source)
    visit = lab.read(source, "The capital of")
    html = comparison_html(lab, visit, EARLIER, "", -1)
    at = re.search(r"KL\(at the end ‖ at step (\d+)\)", html)[1]
    assert done.finished.compared == f"Steps {at} and {done.plan.options.steps}"
    early, late = (load_model(name) for name in (source + EARLY, source))
    assert not torch.equal(early.tok_emb.weight, late.tok_emb.weight)
    of_early, of_late = (evaluate(model, done.plan.corpus.held_out) for model in (early, late))
    assert of_early.nats_per_token > of_late.nats_per_token
    book = Focus("storyteller", (1, 2), 1)
    with pytest.raises(ValueError, match="only a model of the Train tab has an early one"):
        comparison_html(lab, book, EARLIER, "", -1)


def test_a_run_that_is_stopped_early_is_compared_with_its_beginning():
    """Stopped between two looks, it offered to compare step 36 with step 36."""

    async def go():
        training = Training(Trainings(), {**TINY, "steps": 40}, paused=True)
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                if len(training.history.steps) == 4:  # a twelfth of them has been done
                    training.stop()
                elif training.rests:
                    training.one_step()
        return training

    training = run_async(go())
    assert re.fullmatch(r"Steps [0-3] and 4", training.finished.compared)
    training.finished.drop()


def test_a_vocabulary_of_characters_has_no_merges_to_show(done):
    """It said that 0 merges leave 4 tokens, rank 1 of 0 being the most frequent pair."""
    source = done.finished.source
    lab = Lab(Registry(budget_bytes=2**28)).using(source)
    shown = tokens_html(lab, lab.read(source, "The capital"), "")
    assert "“·capital” is 8 bytes, each a token: this vocabulary has no merges." in shown
    assert "rank 1 of" not in shown


def test_no_model_is_better_than_the_floor():
    """One that has learnt all there is to learn: its loss is the floor, but for chance."""
    grammar = Grammar({"document": {"<word> <word>": 3, "<word>": 1}, "word": ["a", "b", "c"]})
    (learnt, _), (held_out, nats) = (make_text(grammar, 8000, seed) for seed in (1, 2))
    corpus = make_corpus(split_documents(learnt), split_documents(held_out), "characters")
    found = plan({**TINY, "steps": 150, "batch": 8})
    cfg = replace(found.cfg, vocab_size=corpus.tokenizer.vocab_size)
    run = Run(cfg, replace(found.options, prompt="a"), corpus)
    *_, evaluated, _ = run.events()
    floor = nats / len(corpus.held_out)
    assert 0.99 * floor < evaluated.nats_per_token < 1.1 * floor


@pytest.mark.usefixtures("often")
def test_a_page_that_was_closed_ends_its_training_and_leaves_nothing():
    """Its model was written and kept for an hour."""

    async def go():
        trainings = Trainings()
        training = Training(trainings, {**TINY, "steps": 100_000})
        async with aclosing(training.updates()) as updates:
            async for _ in updates:
                if training.history.steps:
                    training.stop(left=True)
        return training, trainings

    training, trainings = run_async(go())
    assert training.over
    assert training.finished is None
    assert trainings.line == []


def test_a_model_is_dropped_after_an_hour(monkeypatch):
    monkeypatch.setattr(trainings_module, "KEPT_SECONDS", 0.05)

    async def go():
        training = await driven(Training(Trainings(), {**TINY, "steps": 2}))
        source = training.finished.source
        while is_kept(source):
            await asyncio.sleep(0.02)
        return training.finished

    finished = run_async(go())
    assert not finished.archive.parent.exists()
    assert not is_kept(finished.source + EARLY)


def test_additions_count_right_sums_of_pairs_that_were_held_out():
    training = trained(steps=2, text="additions")
    answers = training.history.answers
    assert len(answers) == 102
    assert sum(views.is_right(*pair) for pair in answers) <= 10
    questions = [question for question, _ in answers]
    assert not any(f"\n{question}" in training.plan.text.text for question in questions)
    assert "sums that it has never read" in views.sample_view(training)
    training.finished.drop()


def test_every_size_and_every_experiment_can_be_trained():
    for size in SIZES:
        for experiment in EXPERIMENTS:
            values = {
                **DEFAULTS,
                **SIZES[size][1],
                **experiment.changes,
                "pasted": "",
                "file": None,
            }
            assert "parameters" in views.estimate_view(plan(values))


def test_a_bar_shows_what_the_budget_buys(monkeypatch):
    """A pace of 10,000 tokens a second: noise at first, syllables to 30 s, words for the rest."""
    monkeypatch.setitem(MARKS, "small", (12_000, 300_000))
    found = plan({**DEFAULTS, "pasted": "", "file": None})
    a_step = found.options.batch_size * found.cfg.context_length
    monkeypatch.setattr(pace, "flops", found.work / (a_step / 10_000))
    html = views.estimate_view(found)
    assert re.findall(r"flex-grow:([\d.]+)", html) == ["1.200", "28.800", "30.000"]
    assert "600,000 tokens, 1.5 times through the text" in html
    assert "after about 1 s, words from about 30 s on" in html
    monkeypatch.setattr(pace, "flops", pace.flops / 3)
    html = views.estimate_view(found)
    assert re.findall(r"flex-grow:([\d.]+)", html) == ["3.600", "56.400", "0.000"]
    assert "words not in this time" in html


def test_before_a_run_the_curve_s_baselines_are_there_with_their_numbers():
    """The tab's largest place was empty until Train was pressed."""
    found = plan({**DEFAULTS, "pasted": "", "file": None})
    html = views.promise_view(found)
    for name, loss in found.baselines.items():
        assert f"{name}: {significant(loss)}</text>" in html
    even, frequency, floor = map(significant, found.baselines.values())
    assert f"begins at {even} nats a token" in html
    assert f"and no order, has {frequency}. No model gets below {floor} but by chance." in html


MANY_CHARACTERS = {
    **TINY, "text": "own", "pasted": "".join(map(chr, range(0x4E00, 0x9FA6))), "characters": 0,
    "width": 8, "heads": 1, "context": 512,
}  # fmt: skip


def test_a_step_s_logits_are_counted_in_memory_and_time():
    """Weights alone were: a step of 1.2 GFLOP over 49,374 tokens took 1.5 s, not 0.04."""
    found = plan({**MANY_CHARACTERS, "batch": 1, "context": 256})
    logits = 256 * (len(found.corpus.ids.unique()) + 1)
    assert found.flops > 1000 * logits
    assert f"; {mib_and_mb(12 * logits)} for the logits" in views.estimate_view(found)
    with pytest.raises(ValueError, match=r"logits take 4[0-9]{2} MiB .* and 256 MiB are allowed"):
        plan({**MANY_CHARACTERS, "batch": 4})
    with pytest.raises(ValueError, match=r"logits take 6\.[0-9]{2} GiB a step and 256 MiB are"):
        plan({**MANY_CHARACTERS, "batch": 64})  # it was said in MiB


def test_a_byte_pair_encoding_splits_the_text_into_so_many_tokens():
    found = plan({**TINY, "vocabulary": "pairs", "pairs": 200})
    assert found.cfg.vocab_size == 200
    html = views.split_view(found)
    assert "a vocabulary of 200 tokens" in html
    assert html.count('tabindex="-1"') == 160  # one Tab stop, which the script gives the first


TOO_LONG = "a line of text\n" * 150_000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": "own", "pasted": " \n "}, "your text is empty"),
        ({"text": "own", "pasted": None}, "your text is empty"),
        ({"text": "own", "pasted": "too short"}, "tokens to learn from and a context of 16 needs"),
        ({"text": "own", "pasted": TOO_LONG}, "your text has 2.2 MB: use at most 2 MiB"),
        ({"text": "own", "file": b"caf\xe9 " * 99}, "no UTF-8 text .byte 0xE9 at position 3"),
        ({"text": "own", "file": "wide".encode("utf-16")}, "no UTF-8 text .byte 0xFF"),
        ({"text": "own", "file": b"text\0binary"}, "no UTF-8 text .it has NUL"),
        ({"text": "own", "file": b""}, "your text is empty"),
        ({"text": "own", "file": "gone"}, "no longer here .No such file"),
        ({"text": "../etc"}, "Text is '../etc': use stories"),
        ({"width": None}, "Width is empty: use a whole number"),
        ({"width": 17}, "^Width 17 is not divisible by 2 heads: use 16 or 18"),
        ({"rate": math.nan}, "Learning rate is nan: use a number from 0 to 10"),
        ({"vocabulary": "pairs", "pairs": 5}, "a vocabulary of 5 tokens"),
        ({"vocabulary": "gpt2", "width": 512}, "25,941,000 parameters|parameters and 8,000,000"),
        ({"width": 512, "layers": 2, "context": 512, "batch": 64}, "GFLOP and 25 are allowed"),
        (
            {"text": "own", "pasted": "".join(map(chr, range(2**16, 2**17))), "characters": 0},
            "the text has 65,536 different characters: use at most 50,257, or byte pairs.",
        ),
        ({"characters": 20}, "the text has .. tokens to learn from"),
    ],
)
def test_what_cannot_be_trained_is_one_line(changed, message, tmp_path):
    if isinstance(changed.get("file"), bytes):
        path = tmp_path / "mine.txt"
        path.write_bytes(changed["file"])
        changed = {**changed, "file": str(path)}
    with pytest.raises(ValueError, match=message) as caught:
        plan({**TINY, **changed})
    assert "\n" not in str(caught.value)


def test_a_text_in_the_format_of_train_s_files_is_continued_from_its_first_words():
    """The prompt was the first line, "<|endoftext|>", of which characters have no token."""
    text = "\n<|endoftext|>\n \n<|endoftext|>\n\n" + "Once there was a fox.\n" * 40
    found = plan({**TINY, "text": "own", "pasted": text, "characters": 0})
    assert found.text.prompt == "Once there was a fox."


def test_a_file_of_windows_is_read_as_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"One line.\r\nAnother.\r\n" * 40)
    found = plan({**TINY, "text": "own", "file": str(path), "characters": 0})
    assert found.text.text.startswith("One line.\nAnother.\n")
    assert found.text.held_out == "One line.\nAnother.\n" * 3 + "One line.\nAnother."  # a tenth
    assert found.text.prompt == "One line."
    assert found.text.floor(found.corpus) is None


def test_a_floor_is_known_for_each_text_that_is_made():
    floors = {}
    for name in ("stories", "additions", "capitals"):
        text = made_text(name)
        floors[name] = text.floor(corpus_of(text, "characters"))
    assert floors["stories"] == pytest.approx(0.1130, rel=0.02)
    assert floors["additions"] == pytest.approx(math.log(8100) / 9.7, rel=0.02)
    assert 0 < floors["capitals"] < 0.2
