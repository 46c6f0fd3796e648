"""Many visitors at once: the same tokens in any company, turns for all, errors that stay alone."""

import asyncio
import errno
import gc
import io
import itertools
import random
import sys
import threading
import weakref
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from weakref import WeakValueDictionary

import pytest
import torch
from own_loop import run_async, running, steps_of
from tiny_models import IDS, TINY, tiny_model

from gpt import GPTConfig, SamplingOptions, generate_text_simple
from gpt.cache import KVCache
from gpt.engine import FastModel
from gpt.generate import generate
from gpt.serving import scheduler as module
from gpt.serving.all_cores import on_all_cores
from gpt.serving.scheduler import Scheduler, scheduler_for

GREEDY = SamplingOptions(max_new_tokens=8, temperature=0)


@pytest.fixture
def by_hand(monkeypatch):
    """Turns are taken by the test, not by the thread, and by a clock that goes on by one at each
    look, so that a block takes as long as a step: every order is the test's own.
    """
    monkeypatch.setattr(module, "take_turns", lambda taker: None)
    ticks = itertools.count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))


def finish(*schedulers):
    """Turns of all, one after the other, until nobody has any work."""
    while any(scheduler.turn() for scheduler in schedulers):
        pass


def limited(model, **limits):
    """A scheduler of `model` with other limits than its own."""
    scheduler = Scheduler(model)
    vars(scheduler).update(limits)
    return scheduler


def alone(model, ids, options, stop_id=None, chunk=4, **more):
    scheduler = limited(model, prefill_chunk=chunk)
    run = scheduler.submit(ids, options, stop_id, text_of=str, **more)
    finish(scheduler)
    return steps_of(run)


def ids_of(steps):
    return [step.token_id for step in steps]


def random_request(rng):
    """Ids, options and a stop token of any kind; some prompts outgrow the context of 32."""
    ids = [rng.randrange(97) for _ in range(rng.choice([1, 2, 5, 13, 31, 32, 33, 50]))]
    options = SamplingOptions(
        max_new_tokens=rng.randrange(1, 12),
        temperature=rng.choice([0, 0.7, 1.5]),
        top_k=rng.choice([None, 5]),
        top_p=rng.choice([1.0, 0.8]),
        min_p=rng.choice([0.0, 0.1]),
        seed=rng.randrange(1000),
        steering=rng.choice([(), ((2, 50),)]),
        stop=rng.choice(["", "7"]),
    )
    return ids, options, rng.choice([None, rng.randrange(97)])


@pytest.mark.parametrize(
    "precisions", [("plain", "int8"), ("float16", "float32"), ("bfloat16", "plain")]
)
def test_a_visitors_steps_are_the_same_alone_and_in_any_company(precisions, by_hand):
    """Two models, arrivals at any time, some closed before they are done: every step is the same,
    its probabilities to the last bit.
    """
    rng = random.Random(str(precisions))
    models = [
        tiny_model(seed=i) if name == "plain" else FastModel(tiny_model(seed=i), name)
        for i, name in enumerate(precisions)
    ]
    schedulers = [limited(model, max_rows=rng.randrange(1, 6), prefill_chunk=4) for model in models]
    runs = []
    for _ in range(12):
        which, request = rng.randrange(2), random_request(rng)
        runs.append((which, request, schedulers[which].submit(*request, text_of=str)))
        for _ in range(rng.randrange(6)):
            rng.choice(schedulers).turn()
        if rng.random() < 0.2:
            rng.choice(runs)[2].close()
    closed = [run for *_, run in runs if run._closed]
    finish(*schedulers)
    for which, request, run in runs:
        if run not in closed:
            assert steps_of(run) == alone(models[which], *request)
    assert [running(s) + s.waiting for s in schedulers] == [0, 0]


@pytest.mark.parametrize("length", [1, 5, 30, 32, 40])
def test_greedy_is_the_books_loop_within_and_past_the_context(length, by_hand):
    model = tiny_model()
    fast = FastModel(model, "float32")
    prompt = torch.randint(97, (1, length), generator=torch.Generator().manual_seed(length))
    expected = generate_text_simple(model, prompt, 8, context_size=TINY.context_length)
    assert ids_of(alone(model, prompt, GREEDY)) == expected[0, length:].tolist()
    assert ids_of(alone(fast, prompt, GREEDY)) == expected[0, length:].tolist()


def test_a_seed_gives_the_tokens_that_generate_gives(by_hand):
    options = SamplingOptions(max_new_tokens=20, temperature=1.2, top_p=0.9, seed=4)
    steps = alone(tiny_model(), [1, 2, 3], options)
    assert ids_of(steps) == ids_of(generate(tiny_model(), [1, 2, 3], options))
    assert [step.stop for step in steps] == [None] * 19 + ["max_new_tokens"]


def test_a_long_prompt_is_read_a_block_a_turn_while_others_write(by_hand):
    """llama.cpp's server freezes the others meanwhile; here the whole of a chunk delayed a token,
    four times as long as usual for GPT-2 small.
    """
    scheduler = limited(tiny_model(), prefill_chunk=16)
    writer = scheduler.submit([1], SamplingOptions(max_new_tokens=30, seed=0))
    finish_reading(scheduler, writer)
    reader = scheduler.submit(list(range(30)), GREEDY)
    for _ in range(4):  # two chunks of two blocks, and then the head
        scheduler.turn()
        assert reader.take() == []
        assert len(writer.take()) == 1
    scheduler.turn()
    assert len(reader.take()) == 1


def test_reading_goes_on_for_about_the_time_of_a_step(by_hand):
    """Prompts of several visitors in one turn, if they are short beside a step of many."""
    scheduler = Scheduler(tiny_model())
    writer = scheduler.submit([1], SamplingOptions(max_new_tokens=30, seed=0))
    finish_reading(scheduler, writer)
    readers = [scheduler.submit([1, 2, 3], GREEDY) for _ in range(3)]
    scheduler._step_seconds = 6  # of two blocks and a head each
    scheduler.turn()
    assert [len(reader.take()) for reader in readers] == [1, 1, 0]


def finish_reading(scheduler, run):
    while not run.take():
        scheduler.turn()


def test_rows_past_the_context_do_not_starve_the_rest(by_hand):
    """Three that read 32 tokens for each new one; a newcomer has its turn after those of three."""
    scheduler = Scheduler(tiny_model())
    sliding = [scheduler.submit([i] * 40, GREEDY) for i in range(3)]
    for _ in range(9):  # two blocks and the head, each
        scheduler.turn()
    assert [len(run.take()) for run in sliding] == [1, 1, 1]
    writer = scheduler.submit([1, 2], GREEDY)
    for _ in range(4 * 3):
        scheduler.turn()
    assert len(writer.take()) == 1
    for _ in range(3):
        scheduler.turn()
        assert len(writer.take()) == 1
    finish(scheduler)
    assert [run.over and run.take()[-1].stop is not None for run in sliding] == [True] * 3


def test_a_prompt_of_several_chunks_gives_what_one_pass_gives(by_hand):
    """Greedy is the book's loop, in float32; int8 by its own `generate`."""
    cfg = GPTConfig(vocab_size=97, context_length=512, emb_dim=24, n_heads=3, n_layers=2)
    model = tiny_model(cfg)
    prompt = torch.randint(97, (1, 300), generator=torch.Generator().manual_seed(0))
    expected = generate_text_simple(model, prompt, 8, context_size=512)[0, 300:].tolist()
    assert ids_of(alone(FastModel(model, "float32"), prompt, GREEDY, chunk=128)) == expected
    fast = FastModel(model, "int8")
    found = alone(fast, prompt, GREEDY, chunk=128)
    assert ids_of(found) == ids_of(generate(fast, prompt, GREEDY))


def test_closing_frees_the_row_before_the_next_step(by_hand):
    scheduler = limited(tiny_model(), max_rows=1)
    first, second, third = (scheduler.submit([1, 2], GREEDY) for _ in range(3))
    scheduler.turn()
    assert (running(scheduler), scheduler.waiting) == (1, 2)
    assert [run.place for run in (first, second, third)] == [0, 1, 2]
    second.close()
    assert (running(scheduler), scheduler.waiting) == (1, 1)
    scheduler.turn()
    assert third.place == 1
    first.close()
    assert (running(scheduler), scheduler.waiting) == (0, 1)
    for _ in range(3):
        scheduler.turn()
    assert len(third.take()) == 1
    assert (third.place, third.started is not None) == (0, True)
    assert steps_of(first) == []


def test_who_waits_for_the_end_hears_of_it_at_once_and_of_no_token_before():
    """The page showed the last tokens at its next update: a run of 0.5 s took 0.06 s longer."""

    async def follow():
        run = Scheduler(tiny_model()).submit([1, 2], SamplingOptions(60, temperature=0))
        await run.ended(0.001)
        early = run.over
        await run.ended(600)
        return early, run.over, len(run.take())

    assert run_async(asyncio.wait_for(follow(), 60)) == (False, True, 60)


def test_who_waits_for_the_end_is_woken_by_stop():
    async def follow():
        run = Scheduler(tiny_model()).submit([1, 2], SamplingOptions(1_000_000, temperature=0))
        asyncio.get_running_loop().call_later(0.05, run.close)
        await run.ended(600)
        return run.over

    assert run_async(asyncio.wait_for(follow(), 60))


def test_a_run_whose_loop_has_ended_while_it_waited_for_the_end_writes_no_more(by_hand):
    scheduler = Scheduler(tiny_model())
    run = scheduler.submit([1, 2], SamplingOptions(1_000_000, temperature=0))

    waiting = []

    async def wait_and_leave():
        waiting.append(asyncio.ensure_future(run.ended(600)))
        await asyncio.sleep(0)

    def visit():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait_and_leave())
        loop.close()

    thread = threading.Thread(target=visit)
    thread.start()
    thread.join()
    for _ in range(3):
        scheduler.turn()
    assert running(scheduler) == 0


def test_a_row_that_has_ended_keeps_its_end_when_a_turn_fails(by_hand, monkeypatch):
    """Its reader got every step, and then the error of a turn that it no longer needed."""
    scheduler = Scheduler(tiny_model())
    run = scheduler.submit([1, 2], SamplingOptions(2, temperature=0))
    while not run.over:
        scheduler.turn()
    monkeypatch.setattr(module._log, "disabled", True)
    monkeypatch.setattr(scheduler, "_let_in", lambda: sys.exit("killed"))
    assert not scheduler.turn()
    assert len(steps_of(run)) == 2


def test_nothing_comes_after_a_run_was_closed(by_hand):
    """A step that was computed meanwhile still came."""
    scheduler = Scheduler(tiny_model())
    run = scheduler.submit([1, 2], GREEDY)
    step = alone(scheduler.model, [1, 2], GREEDY)[0]
    run.close()
    run.put(step)
    assert run.take() == []
    assert steps_of(run) == []


def test_who_does_not_fit_the_memory_waits_and_who_fits_nowhere_runs_alone(by_hand):
    per_position = 2 * TINY.n_layers * TINY.emb_dim * 4
    scheduler = limited(tiny_model(), cache_bytes=20 * per_position)
    small = [scheduler.submit([1, 2, 3], GREEDY) for _ in range(3)]  # 10 positions each
    large = scheduler.submit([1] * 25, GREEDY)  # 32
    scheduler.turn()
    assert [run.place for run in (*small, large)] == [0, 0, 1, 2]
    finish(scheduler)
    assert [len(run.take()) for run in (*small, large)] == [8] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_counted_with_the_bytes_that_its_cache_takes(by_hand, dtype):
    """It was twice as much where keys and values have 16 bits: half as many rows ran at once."""
    scheduler = Scheduler(tiny_model().to(dtype))
    row = scheduler.submit([1, 2, 3], GREEDY)
    while not row.take():
        scheduler.turn()
    assert row.n_bytes == row.cache.n_bytes


def test_a_row_whose_logits_are_not_finite_ends_alone(by_hand):
    model = tiny_model()
    options = SamplingOptions(max_new_tokens=5, seed=1)
    expected = alone(model, [1, 2], options)
    with torch.no_grad():
        model.tok_emb.weight[96] = float("nan")
    scheduler = Scheduler(model)
    good, bad = scheduler.submit([1, 2], options), scheduler.submit([96, 2], options)
    finish(scheduler)
    with pytest.raises(ValueError, match="logits are not finite"):
        run_async(anext(bad))
    assert steps_of(bad) == []
    assert steps_of(good) == expected


def test_a_row_whose_text_cannot_be_told_ends_alone(by_hand):
    """All rows of the step ended with it."""
    model, options = tiny_model(), SamplingOptions(max_new_tokens=5, seed=1)
    expected = alone(model, [1, 2], options)
    scheduler = Scheduler(model)
    good = scheduler.submit([1, 2], options)
    texts = ["a"]  # the second token's is missing: then both rows are in one step
    bad = scheduler.submit([3, 2], replace(options, stop="x"), text_of=lambda _: texts.pop())
    finish(scheduler)
    run_async(anext(bad))
    with pytest.raises(IndexError):
        run_async(anext(bad))
    assert steps_of(good) == expected


def test_a_bug_of_the_model_reaches_the_one_who_reads(by_hand):
    model = tiny_model()
    model.tok_emb.register_forward_pre_hook(lambda _, given: 1 / 0 if 7 in given[0] else None)
    scheduler = Scheduler(model)
    good = scheduler.submit([1, 2], GREEDY)
    bad = scheduler.submit([7, 7], GREEDY)
    finish(scheduler)
    with pytest.raises(ZeroDivisionError):
        run_async(anext(bad))
    assert len(good.take()) == 8


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_bug_of_the_choice_ends_the_rows_of_one_model_and_not_the_thread(by_hand, tokens):
    """An exception between logits and tokens ended every run of every model."""
    scheduler = Scheduler(tiny_model())
    run = scheduler.submit([1, 2], GREEDY)
    if tokens:
        finish_reading(scheduler, run)
    run.n_candidates = "ten"
    finish(scheduler)
    assert not run.take()
    with pytest.raises((TypeError, RuntimeError)):
        run_async(anext(run))


def test_the_next_visitor_is_served_if_no_thread_could_begin(monkeypatch):
    """The scheduler believed that it had turns: everybody after that one waited for ever."""
    taken = []

    def begin(taker):
        if not taken:
            taken.append(taker)
            raise RuntimeError("can't start new thread")
        taken.append(taker)

    monkeypatch.setattr(module, "take_turns", begin)
    scheduler = Scheduler(tiny_model())
    with pytest.raises(RuntimeError, match="new thread"):
        scheduler.submit([1, 2], GREEDY)
    assert scheduler.waiting == 0
    scheduler.submit([1, 2], GREEDY)
    assert len(taken) == 2


def test_an_impossible_prompt_is_refused_at_the_call():
    with pytest.raises(ValueError, match="outside the vocabulary"):
        Scheduler(tiny_model()).submit([97], GREEDY)


def test_a_model_has_one_scheduler_that_goes_with_its_last_run():
    model = tiny_model()
    scheduler = scheduler_for(model)
    assert scheduler_for(model) is scheduler
    run = scheduler.submit([1], SamplingOptions(max_new_tokens=1, temperature=0), known=[])
    assert len(steps_of(run)) == 1
    gone = weakref.ref(model)
    on_engine(lambda: None)  # the thread has let go of its last turn
    del model, scheduler
    gc.collect()
    assert gone() is None


def test_what_a_model_does_once_is_done_before_its_turns(by_hand):
    """Compiling the step of GPT-2 small took 0.9 s of a turn, and all others waited."""
    model = FastModel(tiny_model(), "int8")
    scheduler = Scheduler(model)
    compiled = model._decoder.step
    assert compiled is not None
    run = scheduler.submit([1, 2], GREEDY)
    finish(scheduler)
    assert len(steps_of(run)) == 8
    assert model._decoder.step is compiled


def on_engine(work):
    """`work()` on the thread that takes the turns."""
    from gpt.serving import all_cores

    return all_cores.job_of(work).result(60)


def test_threads_and_handlers_of_an_event_loop_are_served_at_once():
    """Sixteen of each, on the real thread, and every one gets what it gets alone."""
    model = tiny_model()
    options = [SamplingOptions(max_new_tokens=6, seed=i) for i in range(32)]
    expected = [ids_of(generate(model, [i, 2], options[i])) for i in range(32)]
    found = {}

    def visitor(i):
        found[i] = ids_of(steps_of(scheduler_for(model).submit([i, 2], options[i])))

    async def handler(i):
        steps = []
        with closing(scheduler_for(model).submit([i, 2], options[i])) as run:
            while not await run.ready(10):
                pass
            async for step in run:
                steps += [step, *run.take()]
        found[i] = ids_of(steps)

    async def handlers():
        await asyncio.gather(*(handler(i) for i in range(16, 32)))

    threads = [threading.Thread(target=visitor, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    run_async(handlers())
    for thread in threads:
        thread.join(60)
    assert [found[i] for i in range(32)] == expected


def test_nothing_is_ready_while_a_run_waits():
    async def wait():
        scheduler = limited(tiny_model(), max_rows=1)
        with closing(scheduler.submit([1], SamplingOptions(max_new_tokens=10**6, seed=0))) as first:
            second = scheduler.submit([1], GREEDY)
            assert await first.ready(60)
            assert not await second.ready(0.01)
            assert second.place == 1
        assert await second.ready(60)
        second.close()
        return [step async for step in second]

    assert run_async(wait()) == []


class Full(io.TextIOBase):
    """A file on a full disk."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("full", [False, True])
def test_a_turn_that_fails_tells_every_visitor_and_the_next_run_is_written(
    monkeypatch, capfd, full
):
    """Nobody may wait for ever; where the log's disk was full, the thread died of its line."""
    monkeypatch.setattr(module._log, "propagate", False)  # to stderr, as where nobody tests
    if full:
        monkeypatch.setattr(sys, "stderr", Full())
    scheduler = limited(tiny_model(), max_rows=1)
    real = Scheduler._let_in
    monkeypatch.setattr(Scheduler, "_let_in", lambda self: sys.exit("killed"))
    runs = [scheduler.submit([1], GREEDY) for _ in range(2)]
    for run in runs:
        with pytest.raises(
            ValueError, match=r"the engine stopped \(SystemExit\): run it once more"
        ):
            run_async(anext(run))
    monkeypatch.setattr(Scheduler, "_let_in", real)
    assert len(steps_of(scheduler.submit([1], GREEDY))) == 8
    assert full or "SystemExit: killed" in capfd.readouterr().err


def test_closing_from_another_thread_ends_a_visitor_who_waits(by_hand):
    run = Scheduler(tiny_model()).submit([1], GREEDY)
    found = []
    waiting = threading.Thread(target=lambda: found.append(steps_of(run)))
    waiting.start()
    run.close()
    waiting.join(60)
    assert found == [[]]
    assert on_all_cores(sum, [1, 2]) == 3


def test_a_soak_of_visitors_who_come_and_go_leaves_nothing_behind():
    """Thirty at a time on the real thread, some of whom leave: no error, every finished text as
    alone, no row and no cache left.
    """
    model, rng, before = tiny_model(), random.Random(0), caches_alive()
    requests = [random_request(rng) for _ in range(60)]
    leaves = [rng.choice([None, None, 0, 1, 3]) for _ in requests]  # after as many steps
    found = {}

    async def visitor(line):
        while line:
            i = line.pop()
            with closing(scheduler_for(model).submit(*requests[i], text_of=str)) as run:
                steps = []
                while leaves[i] is None or len(steps) < leaves[i]:
                    if (step := await anext(run, None)) is None:
                        break
                    steps.append(step)
            found[i] = steps

    async def everybody():
        line = list(range(len(requests)))
        await asyncio.gather(*(visitor(line) for _ in range(30)))

    run_async(everybody())
    for i, request in enumerate(requests):
        expected = list(generate(model, *request, text_of=str))
        assert ids_of(found[i]) == ids_of(expected[: leaves[i]])
    assert on_engine(lambda: len(module._schedulers)) == 0
    assert caches_alive() == before


def caches_alive():
    gc.collect()
    return sum(type(thing) is KVCache for thing in gc.get_objects())


@pytest.mark.parametrize(("precision", "temperature"), [("float32", 0), ("int8", 1.0)])
def test_a_text_that_goes_on_is_not_written_again(precision, temperature, by_hand, monkeypatch):
    """Next after a text of 120 tokens once wrote all 120 again before the new one. Whatever the
    text goes on with is, to the last bit, what one long run gives, past the context too.
    """
    model, reads, writes = FastModel(tiny_model(), precision), [], []
    for owner, name, calls in (
        (module, "read_in_blocks", reads),
        (Scheduler, "_decode", writes),
    ):
        original = getattr(owner, name)
        counted = lambda *of, to=calls, do=original, **more: (to.append(1), do(*of, **more))[1]  # noqa: E731
        monkeypatch.setattr(owner, name, counted)
    options = SamplingOptions(max_new_tokens=40, temperature=temperature, seed=3)
    expected = alone(model, IDS, options)
    known = []
    for length in (5, 6, 15, 27, 28, 34, 40):  # the context of 32 is full with the 26th
        scheduler = limited(model, prefill_chunk=4)
        del reads[:], writes[:]
        longer = replace(options, max_new_tokens=length)
        run = scheduler.submit(IDS, longer, known=[replace(step, stop=None) for step in known])
        finish(scheduler)
        steps = steps_of(run)
        assert [replace(step, stop=None) for step in steps[:-1]] == expected[: length - 1]
        assert replace(steps[-1], stop=None) == replace(expected[length - 1], stop=None)
        if known and length < 26:
            assert (len(reads), len(writes)) == (0, length - len(known))
        elif known:  # the window is read anew for each token, in chunks of 4
            assert len(reads) <= 8 * (length - len(known))
        known = steps
    del reads[:], writes[:]  # and from an earlier place, as where another token is used
    back, other = limited(model, prefill_chunk=4), replace(options, max_new_tokens=9)
    run = back.submit(IDS, replace(other, steering=((8, 50),)), known=expected[:8])
    finish(back)
    assert ids_of(steps_of(run)) == [*ids_of(expected[:8]), 50]
    assert (len(reads), len(writes)) == (0, 1)


def test_the_keys_and_values_of_all_models_together_fit_in_what_is_free(monkeypatch):
    """Each model's scheduler had a quarter, so that five could take more than there was.

    Texts that have ended were not counted.
    """
    monkeypatch.setattr(module, "free_bytes", lambda device: module.MOST_BYTES + 4096)
    monkeypatch.setattr(module, "_schedulers", WeakValueDictionary())
    models = [tiny_model(seed=seed) for seed in range(9)]
    schedulers = [scheduler_for(model) for model in models]
    assert [one.cache_bytes for one in schedulers[:2]] == [1024, 768]
    assert 0 < sum(one.cache_bytes for one in schedulers) < 4096


def test_a_text_that_has_ended_is_not_written_past_its_end(by_hand):
    """Next writes ten tokens ahead. Where the text ended among them, Continue wrote one more."""
    model, options = FastModel(tiny_model(), "float32"), SamplingOptions(12, seed=3)
    stop_id = alone(model, IDS, options)[6].token_id
    ended = alone(model, IDS, options, stop_id, known=[])
    assert ended[-1].stop == "stop_id"
    assert alone(model, IDS, replace(options, max_new_tokens=30), stop_id, known=ended) == ended


def test_who_waits_to_go_on_holds_no_keys_and_values(by_hand):
    """A class that pressed Next together held a full cache each, in line and beyond the budget."""
    model, options = FastModel(tiny_model(), "float32"), SamplingOptions(8, seed=3)
    known = alone(model, IDS, replace(options, max_new_tokens=4), known=[])
    known = [replace(step, stop=None) for step in known]
    before, scheduler = caches_alive(), limited(model, max_rows=2)
    runs = [scheduler.submit(IDS, options, known=known) for _ in range(9)]
    assert caches_alive() == before
    scheduler.turn()
    assert caches_alive() <= before + 2
    finish(scheduler)
    assert all(ids_of(steps_of(run)) == ids_of(alone(model, IDS, options)) for run in runs)
