"""A replayed decoding step gives, to the bit, what the forward pass gives, where it may serve."""

import copy
import gc
import pickle
import weakref
from dataclasses import replace

import pytest
import torch
from tiny_models import IDS, TINY, VARIANTS, tiny_model

from gpt import SamplingOptions
from gpt.cache import KVCache
from gpt.checkpoints.sources import random_source
from gpt.checkpoints.writing import save_model
from gpt.engine import convert, replay, weight_bytes
from gpt.engine.choice import packed_int8_is_faster
from gpt.engine.packed import FoldedInt8Linear
from gpt.engine.replay import record_step
from gpt.generate import generate
from gpt.serving.registry import Registry
from gpt.trace import Trace

RECORDABLE = ["float32", "float16", "int8"]  # torch records no call of oneDNN's packed bfloat16


def stepwise(model, ids, capacity=TINY.context_length):
    """Logits (t, vocab) of `ids`, the first two read together and the others one by one."""
    cache = KVCache(model.cfg.n_layers, capacity)
    with torch.no_grad():
        parts = [model(torch.tensor([ids[:2]]), cache)]
        parts += [model(torch.tensor([[i]]), cache, last_only=True) for i in ids[2:]]
    assert cache.length == len(ids)
    return torch.cat(parts, dim=1)[0]


@pytest.fixture(autouse=True)
def recordings(monkeypatch):
    """Enough for these tests; a process may make 16."""
    monkeypatch.setattr(replay, "_left", 100)
    monkeypatch.setattr(replay, "_unrecordable", set())


def refusing(*_):
    raise AssertionError("the recording was used")


@pytest.mark.parametrize("precision", RECORDABLE)
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_a_replayed_step_gives_the_bits_of_the_forward_pass(cfg, precision):
    ids = [i % cfg.vocab_size for i in range(0, 7 * cfg.context_length, 7)]  # a full context
    expected = stepwise(convert(tiny_model(cfg), precision), ids)
    model = record_step(convert(tiny_model(cfg), precision))
    assert model.replay is not None
    assert torch.equal(stepwise(model, ids), expected)
    assert torch.equal(stepwise(model, ids, capacity=200), expected)  # buffers of another size


def test_a_precision_that_torch_cannot_record_decodes_all_the_same():
    expected = stepwise(convert(tiny_model(), "bfloat16"), IDS)
    assert torch.equal(stepwise(record_step(convert(tiny_model(), "bfloat16")), IDS), expected)


def test_two_generations_that_take_turns_do_not_touch_each_other():
    model = record_step(convert(tiny_model(), "float32"))
    options = SamplingOptions(max_new_tokens=20, seed=3)
    alone = [[s.token_id for s in generate(model, ids, options)] for ids in (IDS, IDS[::-1])]
    pair = [generate(model, ids, options) for ids in (IDS, IDS[::-1])]
    together = [[next(steps).token_id for steps in pair] for _ in range(20)]
    assert [list(tokens) for tokens in zip(*together, strict=True)] == alone


def test_what_is_no_single_token_after_others_takes_the_forward_pass():
    model = record_step(tiny_model())
    recording, model.replay = model.replay, refusing
    one, cache = torch.tensor([[5]]), KVCache(TINY.n_layers, 8)
    with torch.no_grad():
        model(one)
        model(one, cache)  # the first token: it allocates the buffers
        model(torch.tensor([IDS[:3]]), cache)
        model(one, cache, trace=Trace())
        batch = KVCache(TINY.n_layers, 8)
        for _ in range(2):
            model(torch.tensor([[5], [6]]), batch)
    model(one, cache)  # with gradients
    with torch.no_grad():
        model.train()(one, cache)
        model.eval()
    with torch.no_grad(), pytest.raises(AssertionError, match="the recording was used"):
        model(one, cache)
    assert recording is not None


def test_a_replay_refuses_what_the_forward_pass_refuses():
    model = record_step(tiny_model())
    cache = KVCache(TINY.n_layers, 2)
    with torch.no_grad():
        for _ in range(2):
            model(torch.tensor([[5]]), cache)
        with pytest.raises(ValueError, match="the cache holds 2 positions"):
            model(torch.tensor([[5]]), cache)
        whole = KVCache(TINY.n_layers, 40)
        model(torch.zeros(1, TINY.context_length, dtype=torch.long), whole)
        with pytest.raises(ValueError, match="exceed the context"):
            model(torch.tensor([[5]]), whole)
        short = KVCache(TINY.n_layers, 8)
        model(torch.tensor([[5]]), short)
        with pytest.raises(ValueError, match="outside the vocabulary"):
            model(torch.tensor([[97]]), short)
    assert (cache.length, whole.length, short.length) == (2, TINY.context_length, 1)


def test_a_weight_that_changes_in_place_changes_the_replay():
    model = record_step(convert(tiny_model(), "float32"))
    before = stepwise(model, IDS)
    with torch.no_grad():
        model.final_norm.shift.add_(1.0)
    recording, model.replay = model.replay, None
    expected = stepwise(model, IDS)
    model.replay = recording
    assert torch.equal(stepwise(model, IDS), expected)
    assert not torch.equal(before, expected)


def test_converting_forgets_the_recording():
    model = convert(record_step(tiny_model()), "int8")
    assert model.replay is None


def test_a_context_of_one_token_has_no_step_to_record():
    model = record_step(tiny_model(replace(TINY, context_length=1)))
    assert model.replay is None
    assert len(list(generate(model, IDS, SamplingOptions(max_new_tokens=3, seed=0)))) == 3


def test_copies_and_pickles_do_not_replay_the_original():
    """A copy's weights may change, and the recording would go on with the original's."""
    model = record_step(tiny_model())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.replay is None
        assert torch.equal(stepwise(other, IDS), stepwise(model, IDS))
    assert model.replay is not None


def test_no_process_records_without_end(monkeypatch):
    """torch keeps each graph for good: models that come and go would fill the memory."""
    monkeypatch.setattr(replay, "_left", 2)
    made = [record_step(tiny_model()).replay is not None for _ in range(4)]
    assert made == [True, True, False, False]


def test_what_cannot_be_recorded_is_tried_once(monkeypatch):
    """Each bfloat16 model took one of the recordings, and a failure leaves a megabyte behind."""
    tried = []

    def fail(*_, **__):
        tried.append(1)
        raise RuntimeError("opaque tensors cannot be recorded")

    with monkeypatch.context() as failing:
        failing.setattr(torch.jit, "trace", fail)
        for _ in range(3):
            assert record_step(convert(tiny_model(), "bfloat16")).replay is None
    assert len(tried) == 1
    assert replay._left == 99
    assert record_step(convert(tiny_model(), "int8")).replay is not None


def test_the_registry_frees_a_recorded_model_and_records_no_drawn_one(tmp_path):
    path = save_model(tiny_model(), tmp_path / "a")
    registry = Registry(budget_bytes=weight_bytes(TINY, "float32"), paths=[str(path)])
    with registry.borrow(str(path)) as model:
        assert model.replay is not None
        weight = weakref.ref(model.final_norm.scale)
    del model
    gc.disable()
    try:
        with registry.borrow(random_source(TINY, 1)) as drawn:
            assert weight() is None
            assert drawn.replay is None
    finally:
        gc.enable()


@pytest.mark.parametrize("tied", [True, False])
def test_a_folded_head_serves_a_model_and_is_recorded(tied):
    cfg = replace(TINY, emb_dim=256, n_heads=4, tie_weights=tied)
    expected = stepwise(convert(tiny_model(cfg), "int8"), IDS)
    model = record_step(convert(tiny_model(cfg), "int8"))
    if packed_int8_is_faster():
        assert type(model.out_head) is FoldedInt8Linear
    assert model.replay is not None
    assert torch.equal(stepwise(model, IDS), expected)
    exact = stepwise(tiny_model(cfg), IDS)
    assert (expected - exact).abs().max() / exact.std() < 0.1


def test_a_model_that_cannot_be_recorded_stays_as_it_is(monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("no TorchScript here")

    monkeypatch.setattr(replay.torch.jit, "trace", failing)
    model = record_step(tiny_model())
    assert model.replay is None
    steps = list(generate(model, IDS, SamplingOptions(max_new_tokens=3, temperature=0)))
    assert len(steps) == 3


def test_a_model_in_training_mode_is_not_recorded_and_stays_in_it():
    model = tiny_model().train()
    assert record_step(model).replay is None
    assert model.training


def test_nothing_of_the_recording_is_listed_with_the_model():
    names = [name for name, _ in tiny_model().named_parameters()]
    assert [name for name, _ in record_step(tiny_model()).named_parameters()] == names
    assert record_step(tiny_model()).state_dict().keys() == tiny_model().state_dict().keys()
