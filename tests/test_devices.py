"""The memory that the C library keeps for the next tensors, each case in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
START = """
import resource, torch
from gpt.devices import keep_freed_memory
if not keep_freed_memory():
    raise SystemExit("no glibc")
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096
"""


def run(code: str) -> float:
    command = [sys.executable, "-c", START + code]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "no glibc" in made.stderr:
        pytest.skip("the C library here is not glibc")
    assert made.returncode == 0, made.stderr
    return float(made.stdout)


PROMPTS = """
from gpt import GPTConfig, GPTModel
from gpt.cache import KVCache
from gpt.precision import convert
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
    assert run(PROMPTS) < 20_000


def test_the_memory_of_a_large_tensor_goes_back_to_the_system() -> None:
    code = "large = torch.ones(50_000_000); held = resident(); del large\n"
    assert run(f"{code}print((held - resident()) / 200e6)") > 0.9
