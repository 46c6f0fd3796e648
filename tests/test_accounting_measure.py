"""The measurement on tiny models: it agrees with what is computed and leaves nothing behind."""

from __future__ import annotations

import gc

import pytest
import torch

from gpt.accounting import memory, operations, timing
from gpt.accounting.meta_model import model_without_values
from gpt.accounting.timing import (
    build_bytes,
    count_on_meta,
    measure,
    needed_bytes,
    prompt_and_steps,
)
from gpt.config import GPTConfig
from gpt.model import GPTModel

TINY = GPTConfig(97, 48, 24, 4, 2)


def stages_of(cfg: GPTConfig, tokens: int, monkeypatch: pytest.MonkeyPatch | None = None):
    if monkeypatch is not None:
        readings = iter((1_000, 5_000))
        monkeypatch.setattr(timing, "resident_bytes", lambda: next(readings))
    return measure(cfg, tokens)


def models_alive() -> int:
    gc.collect()
    return sum(type(thing) is GPTModel for thing in gc.get_objects())


@pytest.mark.parametrize("tied", [False, True])
def test_measured_bytes_and_operations_equal_the_computed_ones(
    tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = GPTConfig(97, 48, 24, 4, 2, tie_weights=tied)
    _, steps = prompt_and_steps(cfg, 12)
    *_, found = stages_of(cfg, 12, monkeypatch)
    assert found.parameter_bytes == memory.weights(cfg, "float32").value
    assert found.cache_bytes == memory.kv_cache(cfg, 1, 12 + steps, "float32").value
    assert found.prefill_flops == operations.forward(cfg, 1, 12, last_only=True).total
    past = 12 + steps - 1
    assert found.decode_flops == operations.forward(cfg, 1, 1, past, last_only=True).total
    assert found.resident_growth_bytes == 4_000
    assert len(found.decode_seconds) == steps
    assert min(found.decode_seconds) > 0
    assert found.prefill_seconds > 0


def test_a_prompt_is_read_a_block_at_a_time() -> None:
    """A prompt of 1,000 tokens in one job held up everybody's texts for more than a second."""
    jobs: list[object] = []

    def run(work, *args):  # type: ignore[no-untyped-def]
        jobs.append(args[0])
        return work(*args)

    list(measure(TINY, 8, run))
    assert sum(job is next for job in jobs) == TINY.n_layers + 1


def test_progress_grows_and_the_result_comes_last() -> None:
    *stages, found = stages_of(TINY, 8)
    shares = [share for share, _ in stages]
    assert shares == sorted(shares)
    assert shares[-1] < 1
    assert found.decode_seconds


def test_a_cancelled_measurement_leaves_no_model_behind() -> None:
    before = models_alive()
    running = stages_of(TINY, 8)
    while not next(running)[1].startswith("decoding"):
        pass
    assert models_alive() == before + 1
    running.close()
    del running
    assert models_alive() == before


def test_a_finished_measurement_leaves_no_model_behind() -> None:
    before = models_alive()
    running = stages_of(TINY, 8)
    for _ in running:
        pass
    assert models_alive() == before


def test_no_inference_mode_is_held_between_stages() -> None:
    for _ in stages_of(TINY, 8):
        assert not torch.is_inference_mode_enabled()
        assert torch.empty(1).device.type == "cpu"


@pytest.mark.parametrize("context_length", [2, 3, 31, 64, 65, 5_000])
def test_the_plan_fits_the_context(context_length: int) -> None:
    cfg = GPTConfig(97, context_length, 24, 4, 2)
    prompt_tokens, steps = prompt_and_steps(cfg, 2_000)
    assert 1 <= prompt_tokens <= 2_000
    assert 1 <= steps <= 32
    assert prompt_tokens + steps <= context_length


def test_a_context_of_one_token_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="no room for a prompt and a new token: use at least 2"):
        prompt_and_steps(GPTConfig(97, 1, 24, 4, 2), 1)


def test_needed_bytes_are_the_sum_of_weights_cache_and_activations() -> None:
    parts = [
        memory.weights(TINY).value,
        memory.kv_cache(TINY, 1, 8 + 24).value,  # as many steps as half of the context
        memory.forward_activations(TINY, 1, 8).value,
    ]
    assert needed_bytes(TINY, 8) == sum(parts)


@pytest.mark.parametrize("tied", [False, True])
def test_build_bytes_are_those_of_every_tensor_the_constructor_fills(
    tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tied model's first embedding is let go of only after its head is there too."""
    cfg = GPTConfig(9_700, 48, 24, 4, 2, tie_weights=tied)
    filled: list[torch.nn.Parameter] = []
    new = torch.nn.Module.register_parameter

    def note(module: torch.nn.Module, name: str, value: torch.nn.Parameter | None) -> None:
        if value is not None and not any(value is other for other in filled):
            filled.append(value)
        new(module, name, value)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", note)
    GPTModel(cfg)
    assert build_bytes(cfg) == sum(parameter.nbytes for parameter in filled)


def test_a_measurement_draws_nothing_from_the_global_generator() -> None:
    """A visitor's random model, drawn from the global generator meanwhile, would be another."""
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    for _ in stages_of(TINY, 8):
        pass
    assert torch.equal(torch.rand(3), wanted)


def test_a_model_without_values_has_the_shapes_of_the_model() -> None:
    wanted = {name: p.shape for name, p in GPTModel(TINY).named_parameters()}
    bare = model_without_values(TINY)
    assert {name: p.shape for name, p in bare.named_parameters()} == wanted
    assert all(p.is_meta for p in bare.parameters())
    assert not bare.training


def test_the_meta_device_counts_the_same_parameters_and_allocates_none() -> None:
    count, seconds = count_on_meta(TINY)
    assert count == sum(p.numel() for p in GPTModel(TINY).parameters())
    assert seconds > 0
