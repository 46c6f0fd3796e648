"""One thread has all cores; the others have one, and no team of OpenMP threads."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from gpt.serving.all_cores import each_on_all_cores, on_all_cores

ROOT = Path(__file__).resolve().parent.parent


def in_a_process(code):
    """What `code` prints in a process of its own, where the thread may be started."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "CPU_CORES": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_until_it_is_started_the_caller_computes():
    assert on_all_cores(threading.get_ident) == threading.get_ident()
    assert list(each_on_all_cores(iter([1, 2, 3]))) == [1, 2, 3]


def test_one_thread_has_all_cores_and_every_other_one():
    """In the page a token took 1.6 times as long: each visitor's thread had a team of its own."""
    found = in_a_process("""
        import threading, torch
        from gpt.engine.machine import usable_cores
        from gpt.serving import all_cores

        all_cores.start()
        all_cores.start()  # a second time changes nothing
        found = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            thread.start()
            thread.join()
        there = all_cores.on_all_cores(torch.get_num_threads)
        print(there == usable_cores(), torch.get_num_threads(), *found)
        print(len({all_cores.on_all_cores(threading.get_ident) for _ in range(5)}))
    """)
    assert found == ["True", "1", "1", "1", "1"]


def test_between_two_items_others_have_their_turn():
    """A visitor who asks while another's step runs comes before that one's next step."""
    order = in_a_process("""
        import threading, time
        from gpt.serving import all_cores

        all_cores.start()
        order, running, asked = [], threading.Event(), threading.Event()

        def steps():
            running.set()
            asked.wait(10)
            time.sleep(0.2)  # until the other stands in the queue
            for i in range(3):
                order.append(f"a{i}")
                yield i

        def visitor():
            running.wait(10)
            asked.set()
            all_cores.on_all_cores(order.append, "b")

        other = threading.Thread(target=visitor)
        other.start()
        list(all_cores.each_on_all_cores(steps()))
        other.join()
        print(*order)
    """)
    assert order == ["a0", "b", "a1", "a2"]


def test_the_page_generates_and_traces_on_that_thread():
    found = in_a_process("""
        import threading
        from gpt import SamplingOptions, Tokenizer
        from gpt.model import GPTModel
        from gpt.serving.registry import Registry
        from gpt.serving import all_cores
        from gpt.ui.generation.tab import stream
        from gpt.ui.internals.lab import Lab

        all_cores.start()
        names, forward = set(), GPTModel.forward

        def watched(self, *args, **kwargs):
            names.add(threading.current_thread().name.rpartition("_")[0])
            return forward(self, *args, **kwargs)

        GPTModel.forward = watched
        registry, tokenizer = Registry(), Tokenizer()
        options = SamplingOptions(max_new_tokens=3)
        list(stream(registry, tokenizer, "Once", options, "cpu", "storyteller"))
        print(*names)
        names.clear()
        Lab(registry, tokenizer).read("storyteller", "Once")
        print(*names)
    """)
    assert found == ["all-cores", "all-cores"]


def test_what_it_raises_reaches_the_caller_and_the_next_computation_runs():
    found = in_a_process("""
        from gpt.serving import all_cores

        all_cores.start()

        def refuse():
            raise ValueError("no such token")
            yield

        tries = (
            lambda: all_cores.on_all_cores(int, "x"),
            lambda: next(all_cores.each_on_all_cores(refuse())),
        )
        for attempt in tries:
            try:
                attempt()
            except ValueError as error:
                print(type(error).__name__)
        print(all_cores.on_all_cores(sum, [1, 2]))
        print(all_cores.on_all_cores(lambda: all_cores.on_all_cores(sum, [3, 4])))
    """)
    assert found == ["ValueError", "ValueError", "3", "7"]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_process_computes_by_itself():
    """ZeroGPU forks for every run; the thread stays behind and would be waited for in vain."""
    found = in_a_process("""
        import os, sys
        from gpt.serving import all_cores

        all_cores.start()
        child = os.fork()
        if child == 0:
            print(all_cores.on_all_cores(sum, [20, 22]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """)
    assert found == ["42"]
