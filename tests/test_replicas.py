"""Replicas: the text of one machine, whichever of them dies.

Replica and page's side are in one process here; the messages pass through the hands of the test
instead of Ray's. With Ray itself: test_ray.py.
"""

import asyncio
import re
import sys
import threading
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from types import ModuleType

import pytest
from own_loop import run_async, running, steps_of
from tiny_models import TINY, TinyRegistry, tiny_model

import app
from gpt import SamplingOptions
from gpt.__main__ import main
from gpt.generate import generate
from gpt.serving import cluster, replicas
from gpt.serving.cluster import ClusterRow
from gpt.serving.replicas import Replica
from gpt.serving.scheduler import Scheduler, scheduler_for
from gpt.ui.generation.continuation import Draft
from gpt.ui.generation.runs import Runs, Writing
from gpt.ui.generation.settings import DEFAULTS, sampling_options
from gpt.ui.generation.wish import wish

IDS = [5, 17, 3]
OPTIONS = SamplingOptions(max_new_tokens=40, seed=3)
KEY = ("storyteller", "cpu", "float32")


class ActorDied(Exception):
    pass


class NoReplica(Exception):
    """As Serve's errors, which are none of Ray's."""


class Full(NoReplica):
    pass


class TaskError(ValueError):
    """As Ray's: of the class of its cause, with a traceback for a message."""

    def __init__(self, cause):
        super().__init__("a traceback of many lines\n" * 9)
        self.cause = cause


@pytest.fixture(autouse=True)
def ray_of_the_test(monkeypatch):
    names = ("ray", "ray.exceptions", "ray.serve", "ray.serve.exceptions")
    modules = {name: ModuleType(name) for name in names}
    modules["ray.exceptions"].RayActorError = ActorDied
    modules["ray.exceptions"].RayError = (ActorDied, TaskError)
    modules["ray.serve.exceptions"].RayServeException = NoReplica
    modules["ray.serve.exceptions"].BackPressureError = Full
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(replicas, "SEND_SECONDS", 0)
    monkeypatch.setattr(cluster, "RETRY_SECONDS", 0)
    # A replica's process gets all cores; the tests' own process stays as it is.
    monkeypatch.setattr(replicas.all_cores, "start", lambda: None)


class Response:
    def __init__(self, messages, n_messages):
        self._messages, self._left = messages, n_messages

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._left == 0:
            self.cancel()
            raise ActorDied
        if self._left is not None:
            self._left -= 1
        try:
            return await anext(self._messages)
        except ValueError as error:
            raise TaskError(error) from error

    def cancel(self):
        self._closing = asyncio.ensure_future(self._messages.aclose())


class Handle:
    """Sends each request to the next of `replicas`: pairs of one and when it dies, in messages."""

    def __init__(self, *replicas):
        self.replicas = list(replicas)
        self.write = self

    def options(self, **_):
        """Of Ray's only one thread may be the first to ask: two at once were an error."""
        asyncio.get_running_loop()
        return self

    def remote(self, *request):
        replica, n_messages = self.replicas.pop(0)
        return Response(replica.write(*request), n_messages)


def replica(seed=0, model=None):
    return Replica(TinyRegistry({"storyteller": model or tiny_model(seed=seed)}))


def alone():
    return steps_of(Scheduler(tiny_model()).submit(IDS, OPTIONS))


def test_a_replica_writes_the_steps_of_one_machine():
    """The same tokens, probabilities, candidates and seeds; its context of 32 is outgrown."""
    assert steps_of(ClusterRow(Handle((replica(), None)), KEY, IDS, OPTIONS)) == alone()


@pytest.mark.parametrize("deaths", [(0,), (1,), (3, 0, 0), (2, 5, 9)])
def test_whenever_replicas_die_the_text_is_the_one_it_would_have_been(deaths):
    handle = Handle(*((replica(), n_messages) for n_messages in deaths), (replica(), None))
    assert steps_of(ClusterRow(handle, KEY, IDS, OPTIONS)) == alone()
    assert not handle.replicas  # every one had its part


def test_closing_a_run_frees_its_row_at_the_replica():
    model = tiny_model()
    long = SamplingOptions(max_new_tokens=100_000, seed=3)

    async def write_and_close():
        row = ClusterRow(
            Handle((Replica(TinyRegistry({"storyteller": model})), None)), KEY, IDS, long
        )
        scheduler = scheduler_for(model)
        await anext(row)
        before = running(scheduler)
        row.close()
        for _ in range(1000):
            if running(scheduler) == 0:
                break
            await asyncio.sleep(0.01)
        return before, running(scheduler)

    assert run_async(write_and_close()) == (1, 0)


class Mute:
    async def write(self, *_):
        await asyncio.sleep(60)
        yield 0, []


@pytest.mark.parametrize("gone", [(Mute(), None), (replica(), 0)])
def test_a_cluster_that_is_gone_is_one_line(monkeypatch, gone):
    """Ray waits for ever for a replica that can take a request: a run does not."""
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "RETRY_SECONDS", 0.01)
    with pytest.raises(ValueError, match=r"^the cluster does not answer: try again in a minute\.$"):
        steps_of(ClusterRow(Handle(*[gone] * 100), KEY, IDS, OPTIONS))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NoReplica("DeploymentUnavailableError"), "the cluster does not answer: try again in a"),
        (Full(), "200 others are waiting to write: try again in a"),
    ],
)
def test_what_serve_refuses_is_one_line(error, line):
    """A full line read "the cluster does not answer", and no replica "a fault of the page"."""

    class Refusing(Handle):
        def remote(self, *_):
            raise error

    with pytest.raises(ValueError, match=f"^{line} minute\\.$"):
        steps_of(ClusterRow(Refusing(), KEY, IDS, OPTIONS))


def test_many_who_wait_for_a_model_keep_nobody_from_one_that_is_loaded():
    """Six waited in the threads that all of a replica shared, and a seventh was not begun."""
    loads, begun, loaded = threading.Event(), [], []

    class Slow(TinyRegistry):
        def borrow(self, source, *more):
            return super().borrow(source, *more) if source == "storyteller" else waiting()

    @contextmanager
    def waiting():
        begun.append(1)
        loads.wait(10)
        loaded.append(1)
        yield tiny_model()

    one = Replica(Slow({"storyteller": tiny_model()}))

    async def first(source):
        async with aclosing(one.write((source, *KEY[1:]), IDS, OPTIONS, None)) as messages:
            async for _, steps in messages:
                if steps:
                    return steps[0]

    async def everybody():
        others = [asyncio.ensure_future(first("book-124M")) for _ in range(40)]
        while len(begun) < 5:
            await asyncio.sleep(0.01)
        step, before = await first("storyteller"), len(loaded)
        loads.set()
        await asyncio.gather(*others)
        return step, before

    assert run_async(everybody()) == (alone()[0], 0)


def test_a_scheduler_is_made_where_the_model_is_borrowed(monkeypatch):
    """A new one compiles its model's decode step: for a second the replica answered nobody."""

    def scheduler_elsewhere(model):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return scheduler_for(model)

    monkeypatch.setattr(replicas, "scheduler_for", scheduler_elsewhere)
    assert steps_of(ClusterRow(Handle((replica(), None)), KEY, IDS, OPTIONS)) == alone()


def test_a_model_that_cannot_be_borrowed_is_not_announced(monkeypatch):
    """The routers were told that the replica holds it, and sent those who asked for it there."""

    async def announce(_, name):
        pytest.fail(f"{name} was announced")

    monkeypatch.setattr(Replica, "announce", announce)
    handle = Handle((Replica(TinyRegistry({})), None))
    with pytest.raises(KeyError):
        steps_of(ClusterRow(handle, KEY, IDS, OPTIONS))


def test_a_machine_that_writes_other_tokens_does_not_go_on_with_them():
    handle = Handle((replica(), 3), (replica(seed=1), None))
    with pytest.raises(ValueError, match=r"^the machine that wrote this is gone.*$"):
        steps_of(ClusterRow(handle, KEY, IDS, OPTIONS))


def test_a_replicas_refusal_reaches_the_visitor_as_its_one_line():
    with pytest.raises(ValueError, match=r"^token id 97 is outside the vocabulary: use 0 to 96\.$"):
        steps_of(ClusterRow(Handle((replica(), None)), KEY, [97], OPTIONS))


def test_the_page_shows_the_text_of_a_replica(tokenizer):
    registry = TinyRegistry({"storyteller": tiny_model(replace(TINY, vocab_size=50257))})
    values = {**DEFAULTS, "max_new_tokens": 12, "seed": 3}
    runs = Runs(registry, None, Handle((Replica(registry), 1), (Replica(registry), None)))

    async def last():
        asked = wish(registry, "Hello", {**values, "precision": "float32"}, "storyteller")
        run = Writing(Draft(asked), runs)
        await run.start(lambda: None)
        return run.written

    options = sampling_options(values)
    *steps, end = generate(registry.models["storyteller"], tokenizer.encode("Hello"), options)
    # The limit ends a run, and no text.
    assert run_async(last()).steps == [*steps, replace(end, stop=None)]


def test_who_waits_for_the_end_of_a_run_elsewhere_hears_of_it_at_once():
    async def follow():
        row = ClusterRow(Handle((replica(), None)), KEY, IDS, OPTIONS)
        await row.ready()
        await row.ended(600)
        return row.take()

    assert run_async(asyncio.wait_for(follow(), 60)) == alone()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_stop_that_comes_together_with_a_message_ends_the_reading(turns):
    """Python 3.11's asyncio.wait_for loses such a cancel: the replica wrote on to the end."""

    class Slow:
        messages, cancelled = asyncio.Queue(), False

        def __aiter__(self):
            return self

        async def __anext__(self):
            return await self.messages.get()

        def cancel(self):
            self.cancelled = True

    class One(Handle):
        def remote(self, *_):
            self.response = Slow()
            self.response.messages = asyncio.Queue()
            return self.response

    async def follow():
        handle = One()
        row = ClusterRow(handle, KEY, IDS, OPTIONS)
        assert not await row.ready(0.01)
        step = alone()[0]
        handle.response.messages.put_nowait((0, [step]))
        assert await row.ready(60)
        row.take()
        await asyncio.sleep(0.01)
        handle.response.messages.put_nowait((0, [step]))
        for _ in range(turns):
            await asyncio.sleep(0)
        row.close()
        handle.response.messages.put_nowait((0, [step]))
        await asyncio.sleep(0.05)
        return handle.response.cancelled

    assert run_async(follow())


def test_what_waits_is_told_with_its_place(monkeypatch):
    """And messages without steps come meanwhile: the cluster is not taken for one that is gone."""
    monkeypatch.setattr(replicas, "BEAT_SECONDS", 0.01)
    model = tiny_model()
    scheduler = scheduler_for(model)
    monkeypatch.setattr(scheduler, "max_rows", 1)

    async def second():
        row = ClusterRow(
            Handle((Replica(TinyRegistry({"storyteller": model})), None)), KEY, IDS, OPTIONS
        )
        with closing(scheduler.submit(IDS, SamplingOptions(max_new_tokens=1_000_000, seed=1))):
            while row.place != 1:
                assert not await row.ready(0.01)
        return [step async for step in row]

    assert run_async(second()) == alone()


@pytest.mark.parametrize("value", ["0", "2-1", "two", "-1", "1-", ""])
def test_an_impossible_number_of_replicas_is_one_line(capsys, value):
    assert main(["serve", f"--replicas={value}"]) == 2
    assert re.fullmatch(
        r"error: --replicas is .*: use a number such as 2, or 1-4\.\n", capsys.readouterr().err
    )


def test_without_ray_the_commands_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["serve"]) == 2
    with pytest.raises(SystemExit):
        app.main(["--cluster", "auto"])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f'{who}: replicas need Ray: pip install "ray[serve]"' for who in ("error", "app.py")
    ]
