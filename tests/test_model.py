"""The book's modules: its numbers, its weights, causality, batches, refusals."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from random_configs import tiny
from tiny_models import TINY, tiny_model

from gpt import (
    GELU,
    GPT_CONFIG_124M,
    FeedForward,
    GPTModel,
    LayerNorm,
    MultiHeadAttention,
    TransformerBlock,
)
from gpt.cache import KVCache
from gpt.trace import Trace


def test_gelu_is_the_tanh_form(book):
    y = GELU()(torch.tensor(book["gelu"]["x"]))
    torch.testing.assert_close(y, torch.tensor(book["gelu"]["y"]), atol=2e-6, rtol=0)


def test_layer_norm_uses_the_biased_variance_with_eps_inside_the_root(book):
    golden = book["layer_norm"]
    y = LayerNorm(6)(torch.tensor(golden["input"]))
    torch.testing.assert_close(y, torch.tensor(golden["output"]), atol=1e-4, rtol=0)


def test_every_module_takes_the_dict_and_keeps_the_books_shapes():
    x = torch.randn(2, 4, 768)
    assert FeedForward(GPT_CONFIG_124M)(x).shape == (2, 4, 768)
    assert TransformerBlock(GPT_CONFIG_124M)(x).shape == (2, 4, 768)
    attention = MultiHeadAttention(
        d_in=3, d_out=4, context_length=6, dropout=0.0, num_heads=2, qkv_bias=True
    )
    assert attention(torch.randn(2, 6, 3)).shape == (2, 6, 4)


def test_a_book_state_dict_loads_by_name_and_its_masks_are_dropped():
    source, target = tiny_model(seed=1), tiny_model(seed=2)
    state = source.state_dict()
    for i in range(TINY.n_layers):
        state[f"trf_blocks.{i}.att.mask"] = torch.ones(32, 32).triu(1)
    target.load_state_dict(state)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(source(ids), target(ids))
    assert not list(target.buffers())


def test_tied_weights_are_one_tensor_with_the_heads_draw():
    torch.manual_seed(5)
    untied = GPTModel(TINY)
    torch.manual_seed(5)
    tied = GPTModel({**TINY, "tie_weights": True})
    assert tied.tok_emb.weight is tied.out_head.weight
    assert torch.equal(tied.out_head.weight, untied.out_head.weight)


@pytest.mark.parametrize("seed", range(4))
def test_a_future_token_changes_no_earlier_logit(seed):
    cfg = tiny(seed)
    torch.manual_seed(seed)
    model = GPTModel(cfg).eval()
    ids = torch.randint(cfg.vocab_size, (2, cfg.context_length))
    cut = random.Random(seed).randrange(1, cfg.context_length)
    changed = ids.clone()
    changed[:, cut:] = (changed[:, cut:] + 1) % cfg.vocab_size
    with torch.no_grad():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :cut], after[:, :cut], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, cut:], after[:, cut:], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_gives_what_its_rows_give_alone(seed):
    cfg = tiny(seed)
    torch.manual_seed(seed)
    model = GPTModel(cfg).eval()
    ids = torch.randint(cfg.vocab_size, (3, cfg.context_length))
    with torch.no_grad():
        together = model(ids)
        alone = torch.cat([model(row[None]) for row in ids])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_any_chunking_through_the_cache_gives_the_logits_of_one_pass(seed):
    cfg = tiny(seed)
    torch.manual_seed(seed)
    model = GPTModel(cfg).eval()
    ids = torch.randint(cfg.vocab_size, (2, cfg.context_length))
    chunks = torch.randint(1, 5, (cfg.context_length,)).cumsum(0).tolist()
    cuts = [0, *[cut for cut in chunks if cut < cfg.context_length], cfg.context_length]
    cache = KVCache(cfg.n_layers, cfg.context_length)
    with torch.no_grad():
        parts = [model(ids[:, a:b], cache=cache) for a, b in pairwise(cuts)]
        whole = model(ids)
        cache = KVCache(cfg.n_layers, cfg.context_length)
        ends = [model(ids[:, a:b], cache=cache, last_only=True) for a, b in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
    last_of_each = whole[:, [cut - 1 for cut in cuts[1:]]]
    torch.testing.assert_close(torch.cat(ends, dim=1), last_of_each, atol=1e-5, rtol=1e-5)


def test_last_only_gives_the_last_position_alone():
    model = tiny_model()
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with torch.no_grad():
        whole, last = model(ids), model(ids, last_only=True)
    torch.testing.assert_close(last, whole[:, -1:], atol=1e-6, rtol=0)


def test_the_fused_kernel_and_the_recorded_steps_agree():
    model = tiny_model(replace(TINY, qkv_bias=True))
    ids = torch.randint(97, (2, 16))
    with torch.no_grad():
        plain, traced = model(ids), model(ids, trace=Trace())
    torch.testing.assert_close(plain, traced, atol=1e-5, rtol=0)


def test_dropout_is_on_in_training_only():
    torch.manual_seed(0)
    model = GPTModel({**TINY, "drop_rate": 0.5})
    ids = torch.tensor([[1, 2, 3]])
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 33, dtype=torch.long), "33 tokens exceed the context of 32: use at most"),
        (torch.zeros(1, 0, dtype=torch.long), "not empty"),
        (torch.zeros(3, dtype=torch.long), r"use \(batch, tokens\)"),
        (torch.tensor([[1, 97]]), "token id 97 is outside the vocabulary: use 0 to 96."),
        (torch.tensor([[-1, 5]]), "token id -1 is outside the vocabulary: use 0 to 96."),
    ],
)
def test_impossible_ids_are_refused_in_one_line(ids, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(ids)


def test_attention_alone_refuses_what_exceeds_its_context():
    attention = MultiHeadAttention(8, 8, context_length=4, dropout=0.0, num_heads=2)
    with pytest.raises(ValueError, match="5 tokens exceed the context of 4"):
        attention(torch.randn(1, 5, 8))
    with pytest.raises(ValueError, match="emb_dim 9 is not divisible by 2 heads: use 8 or 10"):
        MultiHeadAttention(8, 9, context_length=4, dropout=0.0, num_heads=2)


def test_a_full_cache_refuses_more():
    model = tiny_model()
    cache = KVCache(2, capacity=3)
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]), cache=cache)
        with pytest.raises(ValueError, match="the cache holds 3 positions and was asked for 4"):
            model(torch.tensor([[4]]), cache=cache)
