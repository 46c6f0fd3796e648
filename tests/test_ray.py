"""Two replicas on Ray Serve on this machine, and the page of it. Runs where RAY_TESTS is set.

Ray starts ten processes and gives them a limited time: on two cores that had seven times their
work, starting took 30 to 90 s, and at least once it failed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from own_loop import steps_of

from gpt import PRESETS, SamplingOptions, load_model, tokenizer_of
from gpt.checkpoints.sources import random_source
from gpt.serving.scheduler import scheduler_for

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif("RAY_TESTS" not in os.environ, reason="RAY_TESTS is not set")

# In a process of its own, as the page is: Ray belongs to a process for good.
VISITOR = """
    import asyncio, os, sys, torch
    from gpt import PRESETS, SamplingOptions, load_model, tokenizer_of
    from gpt.serving.cluster import ClusterRow, connect
    from gpt.serving.scheduler import scheduler_for
    from test_ray import writing

    KEY = ("storyteller", "cpu", "int8")
    tokenizer = tokenizer_of("storyteller")
    ids, end = tokenizer.encode("Once upon a time"), tokenizer.end_of_text_id
    handle = connect(sys.argv[1])
    requests = 0

    class Counting(ClusterRow):
        async def _read_at_one_replica(self):
            global requests
            requests += 1
            await super()._read_at_one_replica()

    async def write(seed, kill):
        # Whether the steps are those of this machine, and how many requests they took.
        global requests
        requests = 0
        options = SamplingOptions(max_new_tokens=240, temperature=0.8, seed=seed)
        steps = []
        async for step in Counting(handle, KEY, ids, options):
            steps.append(step)
            if kill and len(pids := writing()) == 1:
                os.kill(pids[0], 9)
                kill = False
        here = [step async for step in scheduler_for(model).submit(ids, options)]
        return steps == here, requests

    torch.set_num_threads(1)  # as the replicas: another number moves the last digits
    model = load_model("storyteller", precision="int8")
    print(*asyncio.run(write(1, kill=False)))
    for seed in range(2, 20):
        same, requests = asyncio.run(write(seed, kill=True))
        if requests > 1 or not same:  # else it had written all before it was seen
            break
    print(same, requests > 1)
"""


def living():
    """The replicas' processes and what each does: Ray names a process by that."""
    lines = subprocess.check_output(["ps", "-eo", "pid,args"], text=True).splitlines()
    named = dict(line.split(None, 1) for line in lines)
    return {pid: does for pid, does in named.items() if does.startswith("ray::ServeReplica:gpt:")}


def writing():
    return [int(pid) for pid, does in living().items() if "handle_request" in does]


def computing():
    """Whether a replica used a core for most of the last half second."""

    def hundredths():
        stats = {pid: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1] for pid in living()}
        return {pid: sum(map(int, stat.split()[11:13])) for pid, stat in stats.items()}

    before = hundredths()
    time.sleep(0.5)
    return any(after - before.get(pid, after) > 25 for pid, after in hundredths().items())


def within(seconds, holds):
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not (true := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return true


@contextmanager
def started(*command, env):
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=-1, text=True, preexec_fn=heard
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.fixture(scope="module")
def replicas():
    """Two, their address, and the environment of whoever joins their cluster."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        # A socket's path in it has at most 107 bytes: pytest's own folders are too long.
        env = {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        command = ("-m", "gpt", "serve", "--replicas", "2", "--cores", "1")
        with started(*command, env=env) as serving:
            ready = serving.stdout.readline()
            assert "ready" in ready
            yield serving, ready.split()[-1], env


@pytest.fixture(scope="module")
def page(replicas):
    """A client of `app.py --cluster`."""
    _, address, env = replicas
    url, port = "http://127.0.0.1:7893/", "7893"
    with started("app.py", "--cluster", address, "--port", port, env=env):
        for _ in range(120):
            with suppress(OSError), urllib.request.urlopen(url):
                break
            time.sleep(0.5)
        yield Client(url, verbose=False)


def test_ray_goes_on_at_another_replica_when_the_one_that_writes_is_killed(replicas):
    """The same steps as on one machine, before and after."""
    _, address, env = replicas
    visit = [sys.executable, "-c", textwrap.dedent(VISITOR), address]
    visited = subprocess.run(visit, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert visited.stdout.splitlines() == ["True 1", "True True"], visited.stderr


def test_the_page_shows_what_a_replica_writes(page):
    settings = {"max_new_tokens": 40, "temperature": 1.0, "top_k": 40, "top_p": 1.0, "seed": 3}
    prompt = "Once upon a time"
    text, _ = page.predict(prompt, precision="int8", api_name="/generate", **settings)
    tokenizer, torch_threads = tokenizer_of("storyteller"), torch.get_num_threads()
    torch.set_num_threads(1)  # as the replicas
    row = scheduler_for(load_model("storyteller", precision="int8")).submit(
        tokenizer.encode(prompt), SamplingOptions(**settings), tokenizer.end_of_text_id
    )
    assert text == tokenizer.decode([step.token_id for step in steps_of(row)])
    torch.set_num_threads(torch_threads)


def test_a_run_of_the_page_that_is_stopped_frees_its_replica(page):
    assert within(60, lambda: len(living()) == 2 and not computing())  # one was killed
    slow = random_source(PRESETS["gpt2-small"], 1)  # untrained: no end comes for ten seconds
    job = page.submit("Once upon a time", 500, model=slow, api_name="/generate")
    assert within(60, lambda: job.outputs() and job.outputs()[-1][0])
    assert computing()
    job.cancel()
    assert within(3, lambda: not computing())


def test_a_model_is_asked_for_where_it_is_held(page):
    """By Serve's multiplexing: else each of six runs would go to either of two replicas."""
    at = set()
    for seed in range(6):
        settings = {"max_new_tokens": 60, "seed": seed, "precision": "float32"}
        job = page.submit("Once upon a time", api_name="/generate", **settings)
        assert within(60, lambda job=job: at.update(writing()) or job.done())
        assert job.exception() is None
    assert len(at) == 1


def test_a_cluster_that_has_gone_is_one_line_on_the_page(replicas, page):
    """Ctrl-C ends the replicas and all of Ray; the page stays."""
    serving, *_ = replicas
    serving.send_signal(signal.SIGINT)
    assert serving.wait(60) == 130
    with pytest.raises(AppError, match=r"^the cluster does not answer: try again in a minute\.$"):
        page.predict("Once upon a time", api_name="/generate")
