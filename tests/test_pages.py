"""Which freed memory stays ours, and how large pages are; most cases in a process of their own."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import TINY

from gpt import GPTModel
from gpt.engine import convert, pages

ROOT = Path(__file__).resolve().parent.parent
KEEP = """
from gpt.engine.pages import keep_freed_memory
if not keep_freed_memory():
    raise SystemExit("skip: the C library here is not glibc, or a MALLOC_ variable is set")
"""
COLLAPSE = """
from gpt.engine.pages import use_huge_pages
def private(n_bytes):
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
try:
    probe = private(2**23)
    probe.write(bytes(range(256)) * 2**15)
    probe.madvise(25)  # MADV_COLLAPSE
    open("/proc/self/pagemap").close()
except (AttributeError, OSError):
    raise SystemExit("skip: the system here makes no huge pages on request")
def huge():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHuge"))
"""
START = """
import mmap, resource, torch
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096
"""


def run(code: str) -> float:
    command = [sys.executable, "-c", START + code]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if made.stderr.startswith("skip: "):
        pytest.skip(made.stderr.removeprefix("skip: ").strip())
    assert made.returncode == 0, made.stderr
    return float(made.stdout)


PROMPTS = """
from gpt import GPTConfig, GPTModel
from gpt.cache import KVCache
from gpt.engine import convert
model = convert(GPTModel(GPTConfig(vocab_size=1000, n_layers=3)).eval(), "int8")
ids = torch.zeros(1, 512, dtype=torch.long)
def prompts(n):
    for _ in range(n):
        with torch.inference_mode():
            model(ids, KVCache(3, 513), last_only=True)
prompts(4)
before = faults()
prompts(10)
print(faults() - before)
"""


def test_the_tensors_of_a_second_prompt_lie_where_those_of_the_first_lay() -> None:
    """Some 8,000 pages a prompt were given back and made anew, a tenth of its time."""
    assert run(KEEP + PROMPTS) < 20_000


def test_the_memory_of_a_large_tensor_goes_back_to_the_system() -> None:
    code = "large = torch.ones(50_000_000); held = resident(); del large\n"
    assert run(f"{KEEP}{code}print((held - resident()) / 200e6)") > 0.9


MOVED = """
values = torch.arange(2**24)  # 128 MiB
use_huge_pages()
assert torch.equal(values, torch.arange(2**24))
print(huge() / values.nbytes)
"""


def test_what_is_in_memory_lies_in_huge_pages_and_has_its_values_still() -> None:
    assert run(COLLAPSE + MOVED) > 0.9


NOT_IN_USE = """
area = private(2**27)
area.madvise(mmap.MADV_NOHUGEPAGE)  # until it is made, a page at a time
for start in range(0, len(area), step * mmap.PAGESIZE):
    {use}
area.madvise(mmap.MADV_HUGEPAGE)
def own():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous"))
before = own()
assert use_huge_pages() > 0
print((own() - before) / len(area))
"""


@pytest.mark.parametrize(
    ("step", "use"), [(2, "area[start] = 1"), (1, "area[start]")], ids=["every other", "read only"]
)
def test_memory_that_is_not_in_use_is_not_filled_for_it(step: int, use: str) -> None:
    """Linux itself makes a huge page wherever one page is, and of zeros that were only read."""
    assert run(f"{COLLAPSE}step = {step}\n{NOT_IN_USE.format(use=use)}") < 0.1


def test_whoever_set_how_glibc_keeps_memory_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """README's advice for training was overruled by what the command line set."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "8000000000")
    assert not pages.keep_freed_memory()


@pytest.mark.parametrize("missing", ["_HUGE_PAGE", "_AREAS", "_PAGES"])
def test_a_system_that_does_not_tell_its_pages_is_left_as_it_is(monkeypatch, tmp_path, missing):
    monkeypatch.setattr(pages, "_HUGE_PAGE", tmp_path / "size")
    (tmp_path / "size").write_text("2097152\n")
    monkeypatch.setattr(pages, missing, tmp_path / "nothing")
    assert pages.use_huge_pages() == 0


@pytest.mark.parametrize(("large", "times"), [(0, 1), (2**40, 0)])
def test_only_a_model_that_no_cache_holds_is_moved(monkeypatch, large, times):
    calls = []
    module = importlib.import_module("gpt.engine.convert")
    monkeypatch.setattr(module, "use_huge_pages", lambda: calls.append(1))
    monkeypatch.setattr(module, "_LARGE_MODEL", large)
    convert(GPTModel(TINY).eval(), "int8")
    assert len(calls) == times
