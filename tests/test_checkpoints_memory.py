"""How much memory is free: the machine, its control groups, its GPU."""

from pathlib import Path

import pytest
import torch

from gpt.checkpoints import free_bytes
from gpt.checkpoints import free_memory as memory


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A pretended /proc and /sys/fs/cgroup: a function that writes a file into it."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    return write


def test_free_memory_is_what_the_machine_has_available(machine):
    assert free_bytes() == 8000 * 1024


def test_a_containers_limit_counts_without_its_page_cache(machine):
    machine("proc/self/cgroup", "0::/box/inner\n")
    machine("cgroup/box/memory.max", "3000000\n")
    machine("cgroup/box/memory.current", "2500000\n")
    machine("cgroup/box/memory.stat", "anon 9\ninactive_file 400000\n")
    machine("cgroup/box/inner/memory.max", "max\n")
    machine("cgroup/box/inner/memory.current", "1000\n")
    assert free_bytes() == 900_000


def test_memory_that_torch_keeps_on_a_gpu_is_free_for_the_next_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 200)
    assert free_bytes("cuda") == 1500


def test_a_system_that_does_not_say_is_not_guessed_at(monkeypatch):
    monkeypatch.setattr(memory, "_PROC", Path("/nowhere"))
    assert free_bytes() is None
