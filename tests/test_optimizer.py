"""What a step does with gradients, how weights start, and the loss that anybody gets again."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, tiny_model

from gpt import GPTConfig, GPTModel
from gpt.sampling import perplexity_text
from gpt.training.evaluation import evaluate, unigram_nats
from gpt.training.optimizer import (
    Muon,
    initialise_like_gpt2,
    learning_rate,
    make_optimizers,
    mean_loss,
    orthogonal,
)
from gpt.training.options import TrainOptions


def test_the_rate_warms_up_and_falls_as_a_cosine_to_zero():
    choices = TrainOptions(steps=100, warmup_steps=10, peak_rate=1.0)
    rates = [learning_rate(step, choices) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradient_are_those_of_cross_entropy(kind: torch.dtype) -> None:
    """The gradient is written over the logits, 256 rows at a time: here two and a half of those."""
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 320, 50, dtype=kind), torch.randint(50, (2, 320))
    log_counts = torch.rand(50)
    leaf = logits.clone().requires_grad_()
    expected = F.cross_entropy((leaf + log_counts).float().flatten(0, 1), targets.flatten())
    (gradient,) = torch.autograd.grad(3 * expected, leaf)
    own = logits.clone().requires_grad_()
    loss = mean_loss(own, targets, log_counts)
    (found,) = torch.autograd.grad(3 * loss, own)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, gradient)
    assert found.data_ptr() == own.data_ptr()


def test_logits_that_cannot_be_written_over_are_refused() -> None:
    """Their gradient went into a copy, and the logits themselves were taken for it."""
    logits = torch.randn(2, 50, 80, requires_grad=True).transpose(1, 2)
    with pytest.raises(RuntimeError, match="view"):
        mean_loss(logits, torch.randint(50, (2, 80)), torch.zeros(50))


def test_only_matrices_decay():
    (optimizer,) = make_optimizers(tiny_model(), TrainOptions())
    decayed, kept = optimizer.param_groups
    assert decayed["weight_decay"] > 0 == kept["weight_decay"]
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in kept["params"])


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = tiny_model()
    muon, adamw = make_optimizers(model, TrainOptions(optimizer="muon"))
    blocks = {p for p in model.trf_blocks.parameters() if p.dim() == 2}
    rest = set(model.parameters()) - blocks
    assert {p for group in muon.param_groups for p in group["params"]} == blocks
    assert {p for group in adamw.param_groups for p in group["params"]} == rest


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="it came with torch 2.9")
def test_muon_is_torchs_in_float32(monkeypatch):
    """torch's multiplies in bfloat16, which took 780 ms for a matrix of 256 x 1024 without such
    arithmetic, and 26 in float32.
    """
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 8), (8, 32), (32, 8))]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in ours]
    muon = Muon(ours, lr=0.1, weight_decay=0.5)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        muon.step()
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8)])
def test_an_orthogonal_update_is_as_large_in_all_directions(shape):
    update = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    assert update.shape == shape
    assert 0.6 < torch.linalg.svdvals(update).min() < torch.linalg.svdvals(update).max() < 1.25


def test_gpt2s_initialisation_is_a_choice_that_leaves_the_models_own_alone():
    torch.manual_seed(0)
    cfg = GPTConfig(**{**TINY, "emb_dim": 120, "n_heads": 3, "tie_weights": True})
    model = GPTModel(cfg)
    own = model.trf_blocks[0].att.W_query.weight.std().item()
    assert own == pytest.approx(1 / math.sqrt(3 * 120), rel=0.1)
    initialise_like_gpt2(model)
    block = model.trf_blocks[0]
    assert block.att.W_query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for projection in (block.att.out_proj, block.ff.layers[2]):
        assert projection.weight.std().item() == pytest.approx(0.02 / math.sqrt(4), rel=0.1)
        assert not projection.bias.any()
    assert model.tok_emb.weight is model.out_head.weight


@pytest.mark.parametrize("n_ids", [2, 33, 70])
def test_held_out_loss_counts_each_target_once(n_ids):
    """Windows of 32 targets, the last one short, against one position at a time."""
    model = tiny_model()
    ids = torch.randint(97, (n_ids,))
    expected = 0.0
    with torch.no_grad():
        for target in range(1, n_ids):
            start = (target - 1) // 32 * 32
            logits = model(ids[None, start:target])[0, -1]
            expected += float(F.cross_entropy(logits[None], ids[target : target + 1]))
    result = evaluate(model, ids)
    assert result.n_targets == n_ids - 1
    assert result.nats_per_token == pytest.approx(expected / (n_ids - 1), abs=1e-5)


def test_the_unigram_entropy_is_that_of_the_frequencies():
    assert unigram_nats(torch.tensor([4, 4, 7, 9])) == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize(
    ("nats", "written"),
    [(4.07, "58.56"), (0.0, "1.00"), (20.0, "4.85e+08"), (709.5, "e^709.5"), (1139.8, "e^1,139.8")],
)
def test_a_perplexity_that_no_float_holds_is_a_power_of_e(nats, written):
    """`train --evaluate` ended in an OverflowError above 709 nats a token."""
    assert perplexity_text(nats) == written
