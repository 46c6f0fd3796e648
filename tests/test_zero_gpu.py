"""Runs on a GPU borrowed by a decorator that forks a process for each, as ZeroGPU does.

No GPU is needed: what runs in the forked process computes on the CPU here. Once the process is of
this file, once of the package `spaces` itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import gradio as gr
import pytest
import torch
from own_loop import run_async
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt import SamplingOptions
from gpt.checkpoints import sources
from gpt.engine import decode_step
from gpt.generate import generate
from gpt.ui.generation import borrowed_gpu, settings, wish
from gpt.ui.generation import runs as runs_module
from gpt.ui.generation.continuation import Draft
from gpt.ui.generation.runs import Runs, Writing
from gpt.ui.parts.errors import BUG

# The part of `spaces` for torch needs a CUDA build; the tests stand in for it.
sys.modules["spaces.zero.torch"] = ModuleType("spaces.zero.torch")
from spaces.zero import wrappers  # noqa: E402
from spaces.zero.api import ScheduleResponse  # noqa: E402

WIDE = replace(TINY, vocab_size=50257, context_length=64, emb_dim=6)
VALUES = {**settings.DEFAULTS, "max_new_tokens": 8, "seed": 3}
VISITOR = contextvars.ContextVar("visitor")  # as gradio's request, whose quota spaces asks for
FORK = multiprocessing.get_context("fork")


def lend(handler):
    """As `spaces.GPU`: a process forked for each run, which passes on only gr.Error whole."""

    def borrowed(*args):
        lend.begun.append(args[0])
        lend.visitor = VISITOR.get("nobody")
        results = FORK.SimpleQueue()

        def work():
            torch.set_num_threads(1)
            try:
                for item in handler(*args):
                    results.put(("item", item))
                results.put(("end", None))
            except Exception as error:
                known = error if isinstance(error, gr.Error) else type(error).__name__
                results.put(("error", known))

        process = FORK.Process(target=work, daemon=True)
        process.start()
        try:
            while (result := results.get())[0] == "item":
                yield result[1]
            if result[0] == "error":
                raise result[1] if isinstance(result[1], gr.Error) else gr.Error(repr(result[1]))
        finally:
            process.terminate()
            process.join()

    return borrowed


def lend_as_spaces(handler):
    """What `spaces.GPU` makes of a generator on a ZeroGPU machine, without its machines."""

    def in_the_process(*args):
        torch.set_num_threads(1)
        yield from handler(*args)

    def seconds(*args):
        lend.begun.append(args[0])
        return borrowed_gpu.gpu_seconds(*args)

    return wrappers.generator_function_wrapper(in_the_process, seconds, None)


@pytest.fixture
def zero_gpu(monkeypatch):
    """Stands in for the service that lends GPUs, and for the device in the forked process."""
    lent = ScheduleResponse(idle=False, nvidiaIndex=0, nvidiaUUID="none", allowToken="a token")
    nothing = lambda *_, **__: None  # noqa: E731

    def schedule(**asked):
        assert 10 <= asked["duration"].seconds <= 60
        lend.visitor = VISITOR.get("nobody")
        return lent

    service = {"allow": nothing, "release": nothing, "schedule": schedule}
    service["get_duration_seconds"] = lambda duration, _: duration.seconds
    device = {"unpatch": nothing, "init": nothing, "move": nothing, "enter_mode": nothing}
    monkeypatch.setattr(wrappers, "client", SimpleNamespace(**service))
    monkeypatch.setattr(wrappers, "torch", SimpleNamespace(size=lambda: 0, **device))
    yield
    for process in multiprocessing.active_children():
        process.terminate()


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """A machine that seems to have a CUDA device, whose models are tiny and on the CPU."""
    lend.begun = []
    model = tiny_model(WIDE)
    monkeypatch.setattr(wish, "usable_device", lambda device: (device, ""))
    monkeypatch.setattr(borrowed_gpu, "load_model", lambda source, device, precision: model)
    return model


@pytest.fixture(params=[lend, lend_as_spaces], ids=["a fork", "spaces"])
def runs(request, zero_gpu):
    models = {"storyteller": tiny_model(WIDE), "gpt2": tiny_model(WIDE)}
    return Runs(TinyRegistry(models), request.param)


def written(runs, prompt="Hello", values=VALUES, source="storyteller", precision="auto"):
    """The last state of a run on the borrowed GPU."""

    async def read():
        VISITOR.set("the visitor")
        chosen = {**values, "device": "cuda", "precision": precision}
        asked = wish.wish(runs.registry, prompt, chosen, source)
        run = Writing(Draft(asked), runs)
        await run.start(lambda: None)
        return run.written

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, read()).result(60)


def test_the_text_is_that_of_the_same_run_here(runs, cuda, tokenizer):
    options = settings.sampling_options(VALUES)
    expected = [step.token_id for step in generate(cuda, tokenizer.encode("Hello"), options)]
    result = written(runs)
    assert [step.token_id for step in result.steps] == expected
    assert "on cuda, float16" in result.statistics()
    assert (lend.begun, lend.visitor) == (["storyteller"], "the visitor")


def test_a_mistake_in_the_borrowed_process_is_its_own_line(runs, monkeypatch):
    """Every mistake on a borrowed GPU read 'ValueError'."""
    monkeypatch.setattr(borrowed_gpu, "load_model", lambda *_: sources.config_of("/nowhere"))
    with pytest.raises(gr.Error, match="/nowhere"):
        written(runs)


def test_a_bug_in_the_borrowed_process_says_so(runs, monkeypatch, capfd):
    monkeypatch.setattr(borrowed_gpu, "load_model", lambda *_: {}["model"])
    with pytest.raises(gr.Error) as raised:
        written(runs)
    assert raised.value.message == BUG
    capfd.readouterr()  # the log has its traceback


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"values": {**VALUES, "top_p": 3}}, "top_p is 3"),
        ({"precision": "int8"}, "int8 runs on the CPU"),
    ],
)
def test_a_mistake_costs_no_seconds_of_a_gpu(runs, asked, message):
    with pytest.raises(ValueError, match=message):
        written(runs, **asked)
    assert lend.begun == []


def test_a_model_is_downloaded_before_the_gpu_is_borrowed(runs, monkeypatch):
    def download(source, progress):
        assert lend.begun == []
        lend.begun.append(f"{source} downloaded")

    monkeypatch.setattr(runs_module, "download", download)
    assert len(written(runs, source="gpt2").steps) == 8
    assert lend.begun == ["gpt2 downloaded", "gpt2"]


def test_a_fork_while_this_process_draws_weights_or_compiles_does_not_wait(runs, monkeypatch):
    """A lock that was held at the fork stayed held in the child until the lease ended."""
    monkeypatch.setattr(borrowed_gpu, "load_model", drawn_on_the_cpu)
    with sources._generator_lock, decode_step._compiling:
        assert len(written(runs).steps) == 8


def test_a_closed_run_gives_the_gpu_back():
    given_back = threading.Event()

    def steps():
        try:
            while not given_back.wait(0.01):
                yield "a step"
        finally:
            given_back.set()

    run = borrowed_gpu.borrowed_run(steps())
    assert run_async(run.ready(60))
    run.close()
    assert given_back.wait(60)


def drawn_on_the_cpu(source, device, precision):
    return sources.load_model(sources.random_source(WIDE))


def test_gpu_seconds_go_by_the_size_of_the_job():
    """120 s were asked for six tokens as for 500: more than a visitor without an account has."""

    def seconds(source, tokens):
        options = SamplingOptions(max_new_tokens=tokens)
        return borrowed_gpu.gpu_seconds(source, "float16", [1], options, 0)

    assert 10 <= seconds("storyteller", 6) <= 12
    assert seconds("storyteller", 6) < seconds("storyteller", 500) < seconds("gpt2-xl", 500) <= 60
