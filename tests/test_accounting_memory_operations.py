"""Computed bytes and operations against tensors, the real cache and torch's FLOP counter."""

from __future__ import annotations

import random
import weakref
from dataclasses import replace

import pytest
import torch
from random_configs import random_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gpt.accounting import memory, operations
from gpt.accounting.machines import DEVICES
from gpt.accounting.meta_model import model_without_values
from gpt.cache import KVCache
from gpt.config import GPTConfig
from gpt.model import GPTModel
from gpt.training.optimizer import mean_loss

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SMALL_AS_RELEASED = GPTConfig(qkv_bias=True, tie_weights=True)


def random_case(seed: int) -> tuple[GPTConfig, int, int, int]:
    """A configuration, a batch, and how many tokens are cached and new."""
    draw = random.Random(f"case {seed}")  # not the numbers that the configuration is drawn with
    cfg = random_config(seed, (1, 5_000), (2, 64), (1, 6), (1, 40), (1, 4))
    past = draw.randint(0, cfg.context_length - 1)
    new = draw.randint(1, cfg.context_length - past)
    return cfg, draw.randint(1, 4), past, new


def on_meta(cfg: GPTConfig, dtype: torch.dtype = torch.float32) -> GPTModel:
    return model_without_values(cfg).to(dtype)


def counted_flops(model: GPTModel, batch: int, past: int, new: int, last_only: bool) -> int:
    cache = KVCache(model.cfg.n_layers, model.cfg.context_length)
    with torch.no_grad(), torch.device("meta"):
        if past:
            model(torch.zeros(batch, past, dtype=torch.long), cache)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(batch, new, dtype=torch.long), cache, last_only=last_only)
    return counter.get_total_flops()


@pytest.mark.parametrize("seed", range(4))
def test_forward_operations_are_exactly_what_the_counter_sees(seed: int) -> None:
    cfg, batch, past, new = random_case(seed)
    last_only = seed % 2 == 0
    counted = counted_flops(on_meta(cfg), batch, past, new, last_only)
    assert operations.forward(cfg, batch, new, past, last_only).total == counted


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_forward_and_backward_are_exactly_what_the_counter_sees(seed: int, training: bool) -> None:
    cfg, batch, _, new = random_case(seed)
    model = on_meta(cfg).train(training)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, new, dtype=torch.long)).sum().backward()
    assert 3 * operations.forward(cfg, batch, new).total == counter.get_total_flops()


@pytest.mark.parametrize("tied", [False, True])
def test_bytes_read_by_a_pass_leave_out_the_rows_that_are_looked_up(tied: bool) -> None:
    cfg = GPTConfig(97, 32, 24, 4, 2, tie_weights=tied)
    model = on_meta(cfg)
    looked_up = {id(model.tok_emb.weight), id(model.pos_emb.weight)} - {id(model.out_head.weight)}
    read = sum(p.nbytes for p in model.parameters() if id(p) not in looked_up)
    assert memory.read_per_pass(cfg, "float32") == read


def test_small_at_1024_tokens_takes_291_6_gflop_and_72_mib_of_cache() -> None:
    assert round(operations.forward(SMALL_AS_RELEASED, 1, 1024).total / 1e9, 1) == 291.6
    assert memory.kv_cache(SMALL_AS_RELEASED, 1, 1024, "float16").value == 72 * 2**20


def test_the_book_s_float32_weights_are_621_83_mib() -> None:
    assert round(memory.weights(GPTConfig(), "float32").value / 2**20, 2) == 621.83


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, each storage counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, list[int]] = {}  # storage -> tensors on it, bytes
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        before = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        result = func(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(result)):
            key = _storage(tensor)
            if key in before and key not in self.held:
                continue  # a view of a weight or of the input
            self.held.setdefault(key, [0, tensor.untyped_storage().nbytes()])[0] += 1
            weakref.finalize(tensor, self._drop, key)
        self.peak = max(self.peak, sum(n_bytes for _, n_bytes in self.held.values()))
        return result

    def _drop(self, key: int) -> None:
        self.held[key][0] -= 1
        if self.held[key][0] == 0:
            del self.held[key]


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(
    ("batch", "tokens", "width", "vocab_size"),
    [(2, 32, 24, 97), (1, 64, 96, 13), (3, 2, 24, 5_000)],
)
def test_inference_activations_are_the_tensors_that_a_forward_pass_holds_at_its_peak(
    batch: int, tokens: int, width: int, vocab_size: int, n_layers: int
) -> None:
    """The first formula forgot the tensors of the block that wait during the feed-forward."""
    cfg = GPTConfig(vocab_size, 64, width, 4, n_layers)
    model = GPTModel(cfg).eval()
    ids = torch.zeros(batch, tokens, dtype=torch.long)
    with torch.no_grad(), LiveBytes() as live:
        model(ids, last_only=True)
    computed = memory.forward_activations(cfg, batch, tokens)
    assert computed.value == live.peak


def test_training_activations_in_bfloat16_follow_korthikanti_per_layer() -> None:
    cfg = GPTConfig(97, 64, 24, 4, 3)
    around = 5 * 2 * 32 * 24 + 4 * 2 * 32 * 97
    layer = 2 * 32 * 24 * (34 + 5 * 4 * 32 / 24)  # s b h (34 + 5 a s / h), their letters
    assert memory.kept_in_bfloat16(cfg, 2, 32).value == pytest.approx(3 * layer + around)
    kept = 3 * 2 * 2 * 32 * 24
    recomputed = memory.kept_in_bfloat16(cfg, 2, 32, recompute=True).value
    assert recomputed == pytest.approx(kept + layer + around)


class KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """Bytes of what autograd saves within it, each storage once, the parameters left out."""

    def __init__(self, model: GPTModel) -> None:
        self.parameters = {_storage(p) for p in model.parameters()}
        self.held: dict[int, torch.Tensor] = {}
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in self.parameters:
            self.held[_storage(tensor)] = tensor
        return tensor

    @property
    def total(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self.held.values())


def kept_by_a_step(cfg: GPTConfig, batch: int, tokens: int, precision: str) -> int:
    """What a step of gpt/training keeps; "throughout" is the model in bfloat16, with dropout of
    the attention weights.
    """
    model = GPTModel(cfg).train()
    if precision == "throughout":
        model.to(torch.bfloat16)
    else:
        for block in model.trf_blocks:
            block.att.dropout.p = 0.0  # as gpt/training has it, unless asked otherwise
    ids = torch.zeros(batch, tokens, dtype=torch.long)
    kept = KeptBytes(model)
    with kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(ids)
        if precision == "throughout":
            logits = logits.float()
        mean_loss(logits, ids.clone(), torch.zeros(()))
    return kept.total


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("seed", range(3))
def test_what_the_packages_own_training_keeps_is_what_the_formula_says(
    seed: int, precision: str
) -> None:
    """The one estimate shown was of bfloat16 throughout, half to two thirds of what is kept."""
    cfg = replace(random_config(seed, (2, 3_000), (300, 300), (1, 4), (1, 40), (1, 4)),
                  drop_rate=(0.0, 0.1)[seed % 2])  # fmt: skip
    batch, tokens = 1 + seed % 3, 20 + 50 * seed
    kept = kept_by_a_step(cfg, batch, tokens, precision)
    assert kept == memory.kept_by_training(cfg, batch, tokens, precision).value


def test_the_estimate_for_bfloat16_throughout_is_near_what_that_keeps() -> None:
    cfg = GPTConfig(500, 64, 64, 4, 3)
    estimate = memory.kept_in_bfloat16(cfg, 4, 64).value
    assert 0.88 < estimate / kept_by_a_step(cfg, 4, 64, "throughout") < 0.95


@pytest.mark.parametrize(
    ("optimiser", "each"), [("adamw-mixed", 16), ("adamw-float32", 16), ("sgd-float32", 8)]
)
def test_training_state_is_so_many_bytes_a_parameter(optimiser: str, each: int) -> None:
    assert memory.training_state(GPTConfig(), optimiser).value == each * 163_009_536


def test_adamw_in_float32_holds_what_the_real_optimiser_holds() -> None:
    model = GPTModel(GPTConfig(97, 32, 24, 4, 2))
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimiser.step()
    held = sum(p.nbytes + p.grad.nbytes for p in model.parameters())
    for state in optimiser.state.values():
        held += state["exp_avg"].nbytes + state["exp_avg_sq"].nbytes
    assert memory.training_state(model.cfg, "adamw-float32").value == held


def test_decoding_is_bound_by_bandwidth_and_a_long_prompt_by_arithmetic() -> None:
    t4 = DEVICES["t4"]
    decode = operations.roofline(SMALL_AS_RELEASED, 1, 1, 1024, "float16", t4)
    assert decode.bound == "bandwidth"
    matrices = 12 * 12 * 768 * 768 + 50257 * 768
    others = 124_439_808 - matrices - 1024 * 768  # norms and biases, float32
    read = 2 * matrices + 4 * others + 36 * 2**20  # on a GPU keys and values have 16 bits too
    assert decode.seconds == pytest.approx(read / 320e9)
    prompt = operations.roofline(SMALL_AS_RELEASED, 1, 1024, 1024, "float16", t4)
    assert prompt.bound == "arithmetic"
    assert prompt.seconds == pytest.approx(
        operations.forward(SMALL_AS_RELEASED, 1, 1024, last_only=True).total / 65e12
    )


def test_training_days_follow_from_three_forward_passes_a_token() -> None:
    h100 = DEVICES["h100"]
    flops = 3 * operations.forward(GPTConfig(), 1, 1024).total / 1024 * 3e9
    days = operations.training_days(GPTConfig(), 3e9, 0.4, h100)
    assert days == pytest.approx(flops / (0.4 * 989.5e12) / 86_400)


def test_the_rules_of_thumb_are_off_by_what_they_leave_out() -> None:
    rules = operations.rules_of_thumb(SMALL_AS_RELEASED, 1, 1024)
    rule, counted = next(rest for name, *rest in rules if name == "forward, 2 N (all parameters)")
    assert rule == 2 * 124_439_808 * 1024
    assert rule / counted == pytest.approx(254_852_726_784 / 291_648_307_200, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memory.weights(GPTConfig(), "float8"), "precision is 'float8': use float32"),
        (lambda: memory.read_per_pass(GPTConfig(), "float8"), "precision is 'float8'"),
        (lambda: memory.kv_cache(GPTConfig(), 1, 1, "float8"), "precision is 'float8'"),
        (lambda: memory.kept_by_training(GPTConfig(), 1, 1, "int8"), "use float32, bfloat16"),
        (lambda: memory.training_state(GPTConfig(), "lion"), "optimiser is 'lion': use adamw-"),
        (
            lambda: operations.training_days(GPTConfig(), 1e9, 40, DEVICES["t4"]),
            "utilisation is 40:",
        ),
        (
            lambda: operations.training_days(GPTConfig(), 1e9, 0, DEVICES["t4"]),
            "above 0 and at most",
        ),
    ],
)
def test_an_unknown_choice_names_the_allowed_ones(call, message: str) -> None:
    """A share of 40 was 40 times the peak, and an unknown precision had float32's cache."""
    with pytest.raises(ValueError, match=message):
        call()
