"""One thread has all cores; the others have one, and no team of OpenMP threads."""

import importlib.util
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from tiny_models import tiny_model

from gpt.internals.traced_pass import read_prompt

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cores():
    """The module with a thread of its own for one test, idle at its end; the number of cores that
    it has does not matter.
    """
    spec = importlib.util.find_spec("gpt.serving.all_cores")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_until_it_is_started_the_caller_computes(cores):
    assert cores.on_all_cores(threading.get_ident) == threading.get_ident()
    assert list(cores.each_on_all_cores(iter([1, 2, 3]))) == [1, 2, 3]


CODE = """
import threading
from gpt.engine.machine import usable_cores
from gpt.serving import all_cores
import torch  # after gpt, which says how long OpenMP's threads spin

all_cores.start()
all_cores.start()  # a second time changes nothing
found = []
for _ in range(2):
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
there = all_cores.on_all_cores(torch.get_num_threads)
print(there == usable_cores(), torch.get_num_threads(), *found)
print(len({all_cores.on_all_cores(threading.get_ident) for _ in range(5)}), flush=True)
"""


def test_one_thread_has_all_cores_and_every_other_one():
    """In the page a token took 1.6 times as long: each visitor's thread had a team of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "CPU_CORES": "2", "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["True", "1", "1", "1", "1"], done.stderr
    # Beside a program that kept one of two cores busy thirty texts took two minutes.
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr or sys.platform != "linux"


class Turns:
    """Takes as many turns as it is told and notes each."""

    def __init__(self, name, count, noted):
        self.name, self.left, self.noted = name, count, noted

    def turn(self):
        self.left -= 1
        self.noted.append(self.name)
        return self.left > 0


def test_between_two_items_others_have_their_turn(cores):
    """A visitor who asks while another's step runs comes before that one's next step."""
    cores._started.set()
    order, running, stands = [], threading.Event(), threading.Event()

    def steps():
        running.set()
        stands.wait(60)
        for i in range(3):
            order.append(f"a{i}")
            yield i

    first = threading.Thread(target=lambda: list(cores.each_on_all_cores(steps())))
    first.start()
    running.wait(60)
    second = cores.job_of(lambda: order.append("b"))
    stands.set()
    second.result(60)
    first.join(60)
    assert order == ["a0", "b", "a1", "a2"]


def test_between_two_jobs_everybody_who_writes_has_a_turn(cores):
    """Passes of Internals that many ask for at once delay a token by one of them, not by all."""
    order, stand = [], threading.Event()
    cores.job_of(lambda: stand.wait(60))
    cores.take_turns(Turns("x", 3, order).turn)
    cores.take_turns(Turns("y", 2, order).turn)
    jobs = [cores.job_of(lambda: order.append("job")) for _ in range(4)]
    stand.set()
    for job in jobs:
        job.result(60)
    assert order == ["x", "y", "job", "x", "y", "job", "x", "job", "job"]


def test_within_a_long_pass_everybody_who_writes_has_a_turn_after_each_block(cores):
    """A pass of Internals over 128 tokens of GPT-2 medium held up all texts for a second."""
    order, stand, model = [], threading.Event(), tiny_model()
    cores.job_of(lambda: stand.wait(60))
    cores.take_turns(Turns("x", 5, order).turn)
    read = partial(read_prompt, model, [1, 2], cores.give_way)
    passed = cores.job_of(lambda: (read(), order.append("pass"))[0])
    stand.set()
    assert passed.result(60).logits.equal(read().logits)
    assert order[:4] == ["x", *["x"] * model.cfg.n_layers, "pass"]


def test_an_idle_thread_does_not_wake(cores):
    cores.job_of(lambda: None).result(60)
    status = Path(f"/proc/self/task/{cores._thread.native_id}/status")
    asleep = None
    for _ in range(50):  # it lies down first; a machine that serves others may disturb it, too
        if asleep == (asleep := [x for x in status.read_text().splitlines() if "_switches" in x]):
            return
        time.sleep(0.3)
    pytest.fail("it woke in each of 49 times 0.3 s")


def test_what_a_job_raises_reaches_its_caller_and_the_next_one_runs(cores):
    cores._started.set()

    def refuse():
        raise ValueError("no such token")
        yield

    with pytest.raises(ValueError, match="invalid literal"):
        cores.on_all_cores(int, "x")
    with pytest.raises(ValueError, match="no such token"):
        next(cores.each_on_all_cores(refuse()))
    assert cores.on_all_cores(lambda: cores.on_all_cores(sum, [3, 4])) == 7


def test_whoever_computes_for_long_can_ask_whether_texts_are_written(cores):
    class Writer:
        goes_on = True

        def turn(self):
            return self.goes_on

    assert not cores.texts_are_written()
    writer = Writer()
    cores.take_turns(writer.turn)
    assert cores.texts_are_written()
    writer.goes_on = False
    for _ in range(200):
        if not cores.texts_are_written():
            return
        time.sleep(0.01)
    raise AssertionError("the writer has no turn left and still counts")
