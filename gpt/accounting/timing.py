"""A configuration built and timed on this machine, for comparison with the computed figures."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt.accounting import memory
from gpt.accounting.meta_model import model_without_values
from gpt.config import GPTConfig
from gpt.generate import read_in_blocks

LIMIT_BYTES = 2 * 2**30  # weights, cache and activations in float32, so that all visitors fit
DECODE_STEPS = 32
MAX_PROMPT_TOKENS = 1024
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Measured:
    """Results of a measurement; times in seconds, `decode_seconds` for each step."""

    parameters: int
    parameter_bytes: int
    cache_bytes: int
    resident_growth_bytes: int | None  # None where the system does not tell
    build_seconds: float
    prefill_tokens: int
    prefill_flops: int
    prefill_seconds: float
    decode_flops: int  # of the last step
    decode_seconds: tuple[float, ...]

    @property
    def decode_median_seconds(self) -> float:
        return sorted(self.decode_seconds)[len(self.decode_seconds) // 2]


@dataclass(frozen=True)
class Stage:
    """Progress from 0 to 1, what is being done, and in the last stage the result."""

    share: float
    text: str
    measured: Measured | None = None


class Plan(NamedTuple):
    """How many prompt tokens and decode steps fit the context."""

    prompt_tokens: int
    steps: int


def plan(cfg: GPTConfig, context_tokens: int) -> Plan:
    """A prompt of at most `context_tokens` and up to 32 steps that fit the model's context.

    Raises ValueError if the context has no room for a prompt and a step.
    """
    if cfg.context_length < 2:
        raise ValueError(
            "context_length 1 has no room for a prompt and a new token: use at least 2."
        )
    steps = min(DECODE_STEPS, cfg.context_length // 2)
    prompt = min(context_tokens, cfg.context_length - steps, MAX_PROMPT_TOKENS)
    return Plan(max(prompt, 1), steps)


def needed_bytes(cfg: GPTConfig, prompt_tokens: int, steps: int = DECODE_STEPS) -> float:
    """Weights, cache and activations in float32 of one sequence; the last is an estimate."""
    return (
        memory.weights(cfg, "float32").value
        + memory.kv_cache(cfg, 1, prompt_tokens + steps, "float32").value
        + memory.forward_activations(cfg, 1, prompt_tokens).value
    )


def build_bytes(cfg: GPTConfig) -> float:
    """Bytes while `GPTModel(cfg)` draws its weights: a tied one has its own embedding first."""
    embedding = 4 * cfg.vocab_size * cfg.emb_dim if cfg.tie_weights else 0
    return memory.weights(cfg, "float32").value + embedding


def measure(
    cfg: GPTConfig,
    planned: Plan,
    run: Callable[..., Any] = lambda work, *args: work(*args),
) -> Iterator[Stage]:
    """Stages of a measurement, the last with its result; close the iterator to cancel.

    `run(work, *args)` runs what is timed, on a thread of its choice. torch's global generator is
    left alone, and nothing outlives the iterator.
    """
    yield Stage(0.02, "counting operations on the meta device")
    prefill_flops, decode_flops = _counted_flops(cfg, planned)
    before, start = resident_bytes(), time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    model = model_without_values(cfg).to_empty(device="cpu")  # memory that was never touched
    if cfg.tie_weights:  # to_empty gave each its own memory
        model.out_head.weight = model.tok_emb.weight
    parameters = list(model.parameters())
    for index, parameter in enumerate(parameters):  # one at a time: others take turns on `run`
        share = 0.05 + 0.35 * index / len(parameters)
        yield Stage(share, "building the model: random weights in float32")
        run(_draw, parameter, generator)
    build_seconds = time.perf_counter() - start
    ids = torch.arange(planned.prompt_tokens).remainder(cfg.vocab_size).unsqueeze(0)
    yield Stage(0.4, f"prefill of {planned.prompt_tokens:,} tokens")
    forward = functools.partial(model, last_only=True)  # of ids and a cache
    run(_timed, forward, ids[:, :1])  # warm-up: threads and kernels
    cache = model.new_cache(planned.prompt_tokens + planned.steps)
    reading, prefill_seconds, logits = read_in_blocks(model, ids[0].tolist(), cache), 0.0, None
    while logits is None:  # a block at a time: others take turns on `run`
        logits, seconds = run(_timed, next, reading)
        prefill_seconds += seconds
    decode_seconds: list[float] = []
    for step in range(planned.steps):
        share = 0.6 + 0.4 * step / planned.steps
        yield Stage(share, f"decoding, step {step + 1} of {planned.steps}")
        logits, seconds = run(_timed, forward, logits.view(1, 1, -1).argmax(-1), cache)
        decode_seconds.append(seconds)
    after = resident_bytes()
    result = Measured(
        parameters=sum(p.numel() for p in model.parameters()),
        parameter_bytes=sum(p.nbytes for p in model.parameters()),
        cache_bytes=cache.n_bytes,
        resident_growth_bytes=None if before is None or after is None else after - before,
        build_seconds=build_seconds,
        prefill_tokens=planned.prompt_tokens,
        prefill_flops=prefill_flops,
        prefill_seconds=prefill_seconds,
        decode_flops=decode_flops,
        decode_seconds=tuple(decode_seconds),
    )
    yield Stage(1.0, "done", result)


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


def _draw(parameter: torch.nn.Parameter, generator: torch.Generator) -> None:
    """Random numbers from a generator of its own: the global one gives other visitors' seeds."""
    with torch.no_grad():
        parameter.uniform_(-0.02, 0.02, generator=generator)


@torch.inference_mode()  # within the step: the server moves generators between threads
def _timed(work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What `work(*args)` gives, and the seconds it took."""
    start = time.perf_counter()
    return work(*args), time.perf_counter() - start


def _counted_flops(cfg: GPTConfig, planned: Plan) -> tuple[int, int]:
    """FLOPs of the prompt and of the last step by torch's counter, without a byte of weights.

    On the meta device, since the counter does not see the fused CPU kernel of attention.
    """
    model = model_without_values(cfg)
    with torch.device("meta"), torch.inference_mode():
        cache = model.new_cache(planned.prompt_tokens + planned.steps)
        prompt = torch.zeros(1, planned.prompt_tokens, dtype=torch.long)
        with FlopCounterMode(display=False) as prefill:
            model(prompt, cache, last_only=True)
        if planned.steps > 1:
            model(torch.zeros(1, planned.steps - 1, dtype=torch.long), cache, last_only=True)
        with FlopCounterMode(display=False) as decode:
            model(torch.zeros(1, 1, dtype=torch.long), cache, last_only=True)
    return prefill.get_total_flops(), decode.get_total_flops()
