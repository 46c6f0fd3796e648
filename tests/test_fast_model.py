"""A FastModel: near float32 in every precision, readable by every reading, the source untouched."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tiny_models import IDS, TINY, VARIANTS, tiny_model

from gpt import SamplingOptions, generate_text_simple
from gpt.engine import DTYPES, PRECISIONS, FastModel, fast_model, named_weights
from gpt.engine.fast_model import check_agrees_with_cpu
from gpt.engine.layers import Int8Embedding, quantize
from gpt.generate import generate
from gpt.internals.ledger import read_ledger
from gpt.internals.traced_pass import read_prompt

LOSSY = [name for name in PRECISIONS if name != "float32"]
TOLERANCE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.05, "int8": 0.15}
PROMPT = torch.tensor([IDS])


@torch.no_grad()
def logits_of(model, ids=PROMPT, **options):
    return model(ids, **options)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_stay_close_to_float32s_for_a_batch_and_through_the_cache(precision):
    ids = torch.tensor([IDS, IDS[::-1]])
    for cfg in VARIANTS[1:3]:  # tied, and with biases
        expected = logits_of(tiny_model(cfg), ids)
        model = FastModel(tiny_model(cfg), precision)
        found = logits_of(model, ids)
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() / expected.std() < TOLERANCE[precision]
        assert precision == "float32" or not torch.equal(found, expected)
        cache = model.new_cache(len(IDS))
        stepwise = torch.cat(
            [logits_of(model, PROMPT[:, i : i + 1], cache=cache) for i in range(7)], 1
        )
        assert (stepwise - expected[:1]).abs().max() / expected.std() < TOLERANCE[precision]


def test_float32_decodes_the_same_tokens_as_the_book():
    greedy = SamplingOptions(max_new_tokens=20, temperature=0)
    simple = generate_text_simple(tiny_model(), PROMPT, 20, context_size=TINY.context_length)
    steps = [step.token_id for step in generate(FastModel(tiny_model(), "float32"), IDS, greedy)]
    assert steps == simple[0, len(IDS) :].tolist()


@pytest.mark.parametrize("precision", LOSSY)
def test_the_stream_the_norms_and_the_cache_are_float32(precision):
    model = FastModel(tiny_model(), precision)
    cache = model.new_cache(len(IDS))
    logits_of(model, cache=cache)
    assert cache.layers[0].buffer.dtype == torch.float32
    assert model.pos_emb.weight.dtype == torch.float32
    assert {p.dtype for n, p in model.named_parameters() if "norm" in n} == {torch.float32}
    assert model.tok_emb(PROMPT).dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_model_that_is_wrapped_stays_as_it_is_and_shares_no_memory(precision):
    """A converted model was the source itself, its layers replaced: nothing could read it."""
    source = tiny_model()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    fast = FastModel(source, precision)
    assert all(torch.equal(before[name], value) for name, value in source.state_dict().items())
    held = {p.data_ptr() for p in source.parameters()}
    assert not held & {p.data_ptr() for p in fast.parameters()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_layer_shows_its_weight_under_the_books_name(precision):
    """`read_ledger` of an int8 model failed: its packed head had no attribute 'weight'."""
    for cfg in VARIANTS:
        source, fast = tiny_model(cfg), FastModel(tiny_model(cfg), precision)
        for name, value in source.named_parameters():
            module, _, own = name.rpartition(".")
            found = getattr(fast.get_submodule(module), own)
            assert found.shape == value.shape, name
            assert (found.float() - value).abs().max() <= 0.02 * value.abs().max(), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_ledger_of_every_precision_adds_up(precision):
    model = FastModel(tiny_model(VARIANTS[2]), precision)
    run = read_prompt(model, IDS)
    total = sum(term.value for term in read_ledger(model, run, position=-1, token_id=5))
    close = 0.15 if precision in LOSSY else 1e-4
    assert total == pytest.approx(run.logits[-1, 5].item(), abs=close)


def test_weights_of_any_floating_type_are_taken():
    """A file may hold float16, which is memory-mapped and never made float32 as a whole."""
    expected = logits_of(FastModel(tiny_model().half().float(), "int8"))
    assert torch.equal(logits_of(FastModel(tiny_model().half(), "int8")), expected)


def test_tensors_are_let_go_one_after_the_other():
    source = tiny_model(replace(TINY, tie_weights=True))
    tensors, told = dict(source.named_parameters()), []
    FastModel(source, "int8", tensors=tensors, progress=lambda done, _: told.append(done))
    assert not tensors
    assert all(a <= b for a, b in pairwise(told))
    assert told[-1] == 1
    assert len(set(told)) > 10


def test_the_head_is_made_while_nothing_else_is_there_and_int8_rows_exist_once(monkeypatch):
    """Loaded in int8, GPT-2 small's shape took 1.68 times its weights, now 1.15."""
    made, make = [], fast_model._Layers.made
    monkeypatch.setattr(
        fast_model._Layers, "made", lambda *given: made.append(given[1]) or make(*given)
    )
    FastModel(tiny_model(), "int8")
    assert (made[0], made[-1]) == ("out_head", "tok_emb")
    rows, scale = quantize(torch.randn(5, 4))
    assert Int8Embedding(rows, scale).rows.data_ptr() == rows.data_ptr()


def test_float32_can_be_trained_and_the_others_cannot():
    model = FastModel(tiny_model(), "float32").train()
    F.cross_entropy(model(PROMPT).flatten(0, 1), torch.tensor(IDS)).backward()
    assert all(p.grad is not None for p in model.parameters())
    for precision in LOSSY:
        assert not any(p.requires_grad for p in FastModel(tiny_model(), precision).parameters())


def test_float32_saves_and_loads_a_state_dict_with_the_books_masks():
    model, source = FastModel(tiny_model(seed=1), "float32"), tiny_model(seed=2)
    state = source.state_dict()
    state["trf_blocks.0.att.mask"] = torch.ones(32, 32).triu(1)
    model.load_state_dict(state)
    torch.testing.assert_close(logits_of(model), logits_of(source))
    assert model.state_dict().keys() == source.state_dict().keys()


def test_a_packed_model_does_not_lose_its_weights_silently():
    """Its state_dict once held the norms alone."""
    for precision in ("float16", "int8"):
        with pytest.raises(ValueError, match="has no state_dict: load it in float32"):
            FastModel(tiny_model(), precision).state_dict()


def test_making_one_leaves_the_global_generator_alone():
    for precision in PRECISIONS:
        model = tiny_model()
        before = torch.random.get_rng_state()
        FastModel(model, precision).new_cache(3)
        assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_weights_come_back_under_the_names_they_had(precision):
    dtype = DTYPES[precision]
    for cfg in VARIANTS:
        expected = {name: value.to(dtype) for name, value in tiny_model(cfg).named_parameters()}
        found = {n: v.to(dtype) for n, v in named_weights(FastModel(tiny_model(cfg), precision))}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_int8_weights_cannot_be_turned_back():
    with pytest.raises(ValueError, match="int8 weights cannot be turned back"):
        list(named_weights(FastModel(tiny_model(), "int8")))


def test_a_packed_model_is_packed_again_or_refused_in_one_line():
    """It was a KeyError of int8, and layers without values of float16."""
    model = FastModel(tiny_model(), "float16")
    ids = torch.tensor([IDS])
    assert torch.equal(FastModel(model, "float16")(ids), model(ids))
    with pytest.raises(ValueError, match="int8 weights"):
        FastModel(FastModel(tiny_model(), "int8"), "float32")


def test_unknown_precisions_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="use float32, float16, bfloat16, int8"):
        FastModel(tiny_model(), "int3")
    with pytest.raises(ValueError, match="int8 runs on the CPU, not on cuda: use float16"):
        FastModel(tiny_model(), "int8", "cuda")


def test_a_device_that_computes_something_else_is_found_out(monkeypatch):
    check_agrees_with_cpu("cpu", "bfloat16")
    whole = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, **k: whole(x, **k) + (x.dtype != torch.float32))
    check_agrees_with_cpu.cache_clear()
    with pytest.raises(ValueError, match="cpu computes something else than the CPU"):
        check_agrees_with_cpu("cpu", "float16")
    check_agrees_with_cpu.cache_clear()
