"""The compiled decode step: bits that do not depend on company, and parts that were replaced."""

import copy
import gc
import random
import threading
import weakref
from dataclasses import replace

import pytest
import torch
from tiny_models import IDS, TINY, tiny_model
from torch import nn

from gpt import GPTConfig, SamplingOptions
from gpt.engine import PRECISIONS, FastModel, decode_step
from gpt.engine.decode_step import gelu_by_rows
from gpt.generate import generate

SHAPES = [
    GPTConfig(vocab_size=131, context_length=40, emb_dim=15, n_heads=3, n_layers=1),
    GPTConfig(300, 40, 64, n_heads=2, n_layers=3, tie_weights=True, qkv_bias=True),
]
PROMPT = torch.tensor([IDS])
GREEDY = SamplingOptions(max_new_tokens=12, temperature=0)


@pytest.fixture(autouse=True)
def two_threads():
    """torch shares large tensors among threads and rounds elsewhere in each: here it may."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def cache_with(model, ids, capacity):
    cache = model.new_cache(capacity)
    with torch.inference_mode():
        model(torch.tensor([ids]), cache, last_only=True)
    return cache


def ids_of(model, prompt=IDS, options=GREEDY):
    return [step.token_id for step in generate(model, prompt, options)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", SHAPES, ids=lambda cfg: f"{cfg.emb_dim} wide")
def test_rows_of_any_lengths_get_the_bits_that_each_gets_alone(cfg, precision):
    """One visitor's text may not depend on who else is there."""
    draw = random.Random(f"{cfg} {precision}")
    model = FastModel(tiny_model(cfg), precision)
    for rows in (1, 2, 13):
        together, alone, uncompiled = [], [], []
        for _ in range(rows):
            prompt = [draw.randrange(cfg.vocab_size) for _ in range(draw.randint(1, 30))]
            for caches in (together, alone, uncompiled):
                # Where heads begin at multiples of 64 bytes, whatever the capacity.
                capacity = draw.randint(33, 40) if cfg.head_dim % 16 == 0 else 40
                caches.append(cache_with(model, prompt, capacity))
        for _ in range(2):
            ids = [draw.randrange(cfg.vocab_size) for _ in range(rows)]
            found = model.decode_rows(ids, together)
            assert found.shape == (rows, cfg.vocab_size)
            with torch.inference_mode():
                for i in range(rows):
                    one = torch.tensor([[ids[i]]])
                    assert torch.equal(found[i : i + 1], model(one, alone[i])[0])
                    plain = super(FastModel, model).forward(one, uncompiled[i])[0]
                    torch.testing.assert_close(found[i : i + 1], plain, rtol=0, atol=1e-4)
        for one, other in zip(together, alone, strict=True):
            assert one.length == other.length
            for a, b in zip(one.layers, other.layers, strict=True):
                held = [layer.buffer[:, :, :, : layer.length] for layer in (a, b)]
                assert torch.equal(*held)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_compiled_and_asked_for_by_nobody(precision):
    """`load_model(source, precision="int8")` was slow until `record_step` was called, too."""
    model = FastModel(tiny_model(), precision)
    model.new_cache(4)
    assert isinstance(model._decoder.step, torch.jit.ScriptModule)


def test_no_number_of_models_makes_the_next_one_slow():
    """The seventeenth model of a process was never recorded, without a word."""
    for seed in range(18):
        model = FastModel(tiny_model(replace(TINY, n_layers=1), seed), "float32")
        model.new_cache(2)
        assert isinstance(model._decoder.step, torch.jit.ScriptModule)


def test_a_model_is_let_go_with_the_last_reference_to_it():
    gc.collect()
    gc.disable()
    try:
        model = FastModel(tiny_model(), "float32")
        ids_of(model)
        weight = weakref.ref(model.final_norm.scale)
        del model
        assert weight() is None
    finally:
        gc.enable()


def test_elements_are_rounded_alike_wherever_a_row_begins():
    torch.manual_seed(0)
    for width in (20, 96, 3072):
        x = torch.randn(23, width)
        alone = torch.cat([torch.nn.functional.gelu(row, approximate="tanh") for row in x.split(1)])
        assert torch.equal(gelu_by_rows(x), alone)


def test_a_new_head_is_followed():
    """`model.out_head = ...`, the book's chapter 6, went on with the old head, silently."""
    model = FastModel(tiny_model(), "float32")
    before = ids_of(model)
    torch.manual_seed(9)
    model.out_head = nn.Linear(TINY.emb_dim, TINY.vocab_size, bias=False)
    source = tiny_model()
    source.out_head.weight = nn.Parameter(model.out_head.weight.detach().clone())
    assert ids_of(model) == ids_of(source) != before


def test_weights_that_were_assigned_are_followed():
    model = FastModel(tiny_model(), "float32")
    ids_of(model)
    model.load_state_dict(tiny_model(seed=3).state_dict(), assign=True)
    assert ids_of(model) == ids_of(tiny_model(seed=3))


def test_weights_that_were_changed_in_place_are_the_recordings_own():
    model = FastModel(tiny_model(), "float32")
    ids_of(model)
    model.load_state_dict(tiny_model(seed=3).state_dict())
    assert ids_of(model) == ids_of(tiny_model(seed=3))


def test_hooks_see_every_pass_and_their_end_is_seen():
    """A forward hook saw 1 of 10 passes."""
    model, seen = FastModel(tiny_model(), "int8"), []
    expected = ids_of(model)
    hook = model.trf_blocks[0].att.register_forward_hook(lambda *_: seen.append(1))
    assert ids_of(model) == expected
    assert len(seen) == GREEDY.max_new_tokens
    hook.remove()
    ids_of(model)
    assert len(seen) == GREEDY.max_new_tokens
    assert model._decoder.step is not None


def test_a_block_of_another_kind_is_called_as_it_is():
    class Shifted(type(tiny_model().trf_blocks[0])):
        def forward(self, *arguments):
            return super().forward(*arguments) + 1

    model = FastModel(tiny_model(), "float32")
    ids_of(model)
    block = model.trf_blocks[0]
    block.__class__ = Shifted
    model.trf_blocks[0] = block
    model.final_norm = copy.deepcopy(model.final_norm)
    model.new_cache(3)
    assert model._decoder.step is None
    cache = cache_with(model, IDS, 9)
    assert model.decode_rows([5, 6], [cache, cache_with(model, IDS[:3], 9)]).shape == (2, 97)


def test_a_query_layer_of_ones_own_is_followed():
    model = FastModel(tiny_model(), "int8")
    before = ids_of(model)
    model.trf_blocks[0].att.W_query = nn.Linear(24, 24, bias=False)
    changed = ids_of(model)
    with torch.inference_mode():
        found = model(torch.tensor([[*IDS, *changed]]))[0]
    assert found.argmax(-1)[len(IDS) - 1 : -1].tolist() == changed != before


def test_gradients_and_training_go_through_the_modules():
    model = FastModel(tiny_model(), "float32")
    with torch.no_grad():
        cache = model.new_cache(9)
        model(PROMPT, cache)
    assert model(torch.tensor([[5]]), cache).requires_grad
    model.train()
    with torch.no_grad():
        assert model._steps(cache) is False


def test_a_copy_of_a_model_decodes_with_weights_of_its_own():
    model = FastModel(tiny_model(), "float32")
    expected = ids_of(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.out_head.weight.neg_()
    assert ids_of(other) != expected
    assert ids_of(model) == expected


def test_a_model_that_is_compiled_waits_for_no_other_that_compiles():
    """While somebody's model loaded, everybody's next row waited for a second of compiling."""
    model = FastModel(tiny_model(), "int8")
    model.new_cache(2)
    beginning = threading.Thread(target=model.new_cache, args=(2,), daemon=True)
    with decode_step._compiling:
        beginning.start()
        beginning.join(10)
        assert not beginning.is_alive()


def test_a_step_that_torch_cannot_compile_is_taken_in_python(monkeypatch):
    """One failure switched recordings off for every later model with the same layers."""

    def failing(*_, **__):
        raise RuntimeError("no TorchScript here")

    expected = ids_of(FastModel(tiny_model(), "int8"))
    monkeypatch.setattr(torch.jit, "script", failing)
    model = FastModel(tiny_model(), "int8")
    assert ids_of(model) == expected
    assert not isinstance(model._decoder.step, torch.jit.ScriptModule)
    monkeypatch.undo()
    later = FastModel(tiny_model(), "int8")
    later.new_cache(2)
    assert isinstance(later._decoder.step, torch.jit.ScriptModule)


@pytest.mark.parametrize(
    ("ids", "held", "capacity", "message"),
    [
        ([97], 3, 9, "token id 97 is outside the vocabulary: use 0 to 96"),
        ([5], 32, 40, "33 tokens exceed the context of 32"),
        ([5], 3, 3, "the cache holds 3 positions and was asked for 4"),
        ([5, 6], 3, 9, "2 ids and 1 caches: use one cache for each id"),
        ([], 3, 9, "0 ids and 1 caches"),
    ],
)
def test_what_forward_refuses_is_refused_before_a_cache_is_changed(ids, held, capacity, message):
    model = FastModel(tiny_model(), "int8")
    cache = cache_with(model, [1] * held, capacity)
    with pytest.raises(ValueError, match=message):
        model.decode_rows(ids, [cache])
    assert cache.length == held


def test_a_first_token_among_others_is_read_as_alone():
    model = FastModel(tiny_model(), "int8")
    caches = [model.new_cache(5), cache_with(model, IDS, 20)]
    found = model.decode_rows([7, 8], caches)
    with torch.inference_mode():
        first = model(torch.tensor([[7]]), model.new_cache(5))[0]
    assert torch.equal(found[:1], first)
    assert [cache.length for cache in caches] == [1, len(IDS) + 1]
