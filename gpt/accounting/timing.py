"""Builds and times a configuration on this machine, for comparison with the computed figures."""

import functools
import os
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt.accounting import memory
from gpt.accounting.meta_model import model_without_values
from gpt.config import GPTConfig
from gpt.generate import read_in_blocks
from gpt.model import GPTModel

LIMIT_BYTES = 2 * 2**30  # weights, cache and activations in float32, so that all visitors fit
DECODE_STEPS = 32
_STATM = Path("/proc/self/statm")


@dataclass
class Measured:
    """Results of a measurement, noted as they come; times in seconds."""

    prefill_tokens: int
    prefill_flops: int
    decode_flops: int  # of the last step
    parameters: int = 0
    parameter_bytes: int = 0
    cache_bytes: int = 0
    resident_growth_bytes: int | None = None  # None where the system does not tell
    build_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: list[float] = field(default_factory=list)  # of each step

    @property
    def decode_median_seconds(self) -> float:
        return statistics.median_high(self.decode_seconds)


Stage = tuple[float, str]  # progress from 0 to 1, and what is being done


def prompt_and_steps(cfg: GPTConfig, most_tokens: int) -> tuple[int, int]:
    """Tokens of a prompt, `most_tokens` at most, and up to 32 decode steps that fit the context.

    Raises ValueError if the context has no room for a prompt and a step.
    """
    if cfg.context_length < 2:
        raise ValueError(
            "context_length 1 has no room for a prompt and a new token: use at least 2."
        )
    steps = min(DECODE_STEPS, cfg.context_length // 2)
    return min(most_tokens, cfg.context_length - steps), steps


def needed_bytes(cfg: GPTConfig, most_tokens: int) -> float:
    """Weights, cache and activations in float32 of a measurement; the last is an estimate."""
    prompt_tokens, steps = prompt_and_steps(cfg, most_tokens)
    return (
        memory.weights(cfg, "float32").value
        + memory.kv_cache(cfg, 1, prompt_tokens + steps, "float32").value
        + memory.forward_activations(cfg, 1, prompt_tokens).value
    )


def build_bytes(cfg: GPTConfig) -> int:
    """Bytes while `GPTModel(cfg)` draws its weights: a tied one has its own embedding first."""
    return memory.weight_bytes(replace(cfg, tie_weights=False), "float32")


def measure(
    cfg: GPTConfig, most_tokens: int, run: Callable[..., Any] = lambda work, *args: work(*args)
) -> Iterator[Stage | Measured]:
    """Stages of a measurement, at the end its result; close the iterator to cancel.

    Of a prompt and steps as `prompt_and_steps` says. `run(work, *args)` runs what is timed, on a
    thread of its choice. torch's global generator is left alone, and nothing outlives the iterator.
    """
    prompt_tokens, steps = prompt_and_steps(cfg, most_tokens)
    yield 0.02, "counting operations on the meta device"
    found = Measured(prompt_tokens, *_counted_flops(cfg, prompt_tokens, steps))
    before, start = resident_bytes(), time.perf_counter()
    model = yield from _built(cfg, run)
    found.build_seconds = time.perf_counter() - start
    found.parameters = sum(p.numel() for p in model.parameters())
    found.parameter_bytes = sum(p.nbytes for p in model.parameters())
    ids = [i % cfg.vocab_size for i in range(prompt_tokens)]
    yield 0.4, f"prefill of {prompt_tokens:,} tokens"
    forward = functools.partial(model, last_only=True)  # of ids and a cache
    run(_timed, forward, torch.tensor([[0]]))  # warm-up: threads and kernels
    cache = model.new_cache(prompt_tokens + steps)
    reading, logits = read_in_blocks(model, ids, cache), None
    while logits is None:  # a block at a time: others take turns on `run`
        logits, seconds = run(_timed, next, reading)
        found.prefill_seconds += seconds
    for step in range(steps):
        yield 0.6 + 0.4 * step / steps, f"decoding, step {step + 1} of {steps}"
        logits, seconds = run(_timed, forward, logits.view(1, 1, -1).argmax(-1), cache)
        found.decode_seconds.append(seconds)
    found.cache_bytes, after = cache.n_bytes, resident_bytes()
    if before is not None and after is not None:
        found.resident_growth_bytes = after - before
    yield found


def _built(cfg: GPTConfig, run: Callable[..., Any]) -> Generator[Stage, None, GPTModel]:
    """A model of random float32 weights, drawn one at a time: others take turns on `run`."""
    generator = torch.Generator().manual_seed(0)  # the global one belongs to other visitors' runs
    model = model_without_values(cfg).to_empty(device="cpu")  # memory that was never touched
    if cfg.tie_weights:  # to_empty gave each its own memory
        model.out_head.weight = model.tok_emb.weight
    parameters = list(model.parameters())
    for index, parameter in enumerate(parameters):
        share = 0.05 + 0.35 * index / len(parameters)
        yield share, "building the model: random weights in float32"
        run(torch.nn.init.uniform_, parameter, -0.02, 0.02, generator)
    return model


def resident_bytes() -> int | None:
    """Resident memory of this process; None where the system does not tell (Linux does)."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def count_on_meta(cfg: GPTConfig) -> tuple[int, float]:
    """Parameters of the real module, built on the meta device, and the seconds it took."""
    start = time.perf_counter()
    model = model_without_values(cfg)
    return sum(p.numel() for p in model.parameters()), time.perf_counter() - start


@torch.inference_mode()  # within the step: the server moves generators between threads
def _timed(work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What `work(*args)` gives, and the seconds it took."""
    start = time.perf_counter()
    return work(*args), time.perf_counter() - start


def _counted_flops(cfg: GPTConfig, prompt_tokens: int, steps: int) -> tuple[int, int]:
    """FLOPs of the prompt and of the last step by torch's counter, without a byte of weights.

    On the meta device, since the counter does not see the fused CPU kernel of attention.
    """
    model = model_without_values(cfg)
    with torch.device("meta"), torch.inference_mode():
        cache = model.new_cache(prompt_tokens + steps)
        counted = []
        for tokens in filter(None, (prompt_tokens, steps - 1, 1)):
            with FlopCounterMode(display=False) as counter:
                model(torch.zeros(1, tokens, dtype=torch.long), cache, last_only=True)
            counted.append(counter.get_total_flops())
    return counted[0], counted[-1]
