"""Training: the schedule, the groups, a killed run, two processes, the defined held-out loss."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, tiny_model

from gpt import GPTConfig, GPTModel
from gpt.checkpoints import load_checkpoint
from gpt.training import trainer as training
from gpt.training.evaluation import evaluate
from gpt.training.options import TrainOptions, add_arguments

ROOT = Path(__file__).resolve().parent.parent
SMALL = GPTConfig(
    vocab_size=50257, context_length=16, emb_dim=24, n_heads=2, n_layers=2, tie_weights=True
)
SENTENCE = "the king and the fox went to the old house by the sea and said to the queen come"
WORDS = SENTENCE.split()


@pytest.fixture
def text(tmp_path):
    """A file of 400 sentences that a tiny model can learn, in 4 texts."""
    generator = torch.Generator().manual_seed(0)
    sentences = [
        " ".join(WORDS[int(torch.randint(len(WORDS), (), generator=generator))] for _ in range(6))
        for _ in range(400)
    ]
    blocks = ["\n".join(sentences[i : i + 100]) for i in range(0, 400, 100)]
    path = tmp_path / "tales.txt"
    path.write_text("\n<|endoftext|>\n".join(blocks))
    return str(path)


def options(text, out, **changes):
    base = TrainOptions(
        text=(text,), out=str(out), steps=12, batch_size=4, micro_batch=4, warmup_steps=3,
        precision="float32", checkpoint_every=5, validate_every=100,
    )  # fmt: skip
    return replace(base, **changes)


def losses(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(text, tmp_path):
    run = training.train(
        SMALL, options(text, tmp_path / "run", steps=60, peak_rate=1e-2, validation=text)
    )
    assert losses(run.out)[0]["loss"] < math.log(50257)
    held_out = [line["validation"] for line in losses(run.out) if "validation" in line]
    assert held_out[-1] < 5
    model = load_checkpoint(run.out / "model")
    assert model.cfg == SMALL
    assert model.tok_emb.weight is model.out_head.weight
    assert evaluate(model, run.validation).nats_per_token == pytest.approx(held_out[-1], abs=2e-2)


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(text, tmp_path, monkeypatch):
    whole = training.train(SMALL, options(text, tmp_path / "whole"))
    update = training.Run.update

    def killed_after_seven(run, *args):
        if run.step == 7:
            raise KeyboardInterrupt
        return update(run, *args)

    monkeypatch.setattr(training.Run, "update", killed_after_seven)
    with pytest.raises(KeyboardInterrupt):
        training.train(SMALL, options(text, tmp_path / "killed"))
    monkeypatch.undo()
    resumed = training.train(SMALL, options(text, tmp_path / "killed"))
    for (name, mine), theirs in zip(
        resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_a_checkpoint_of_other_settings_is_refused(text, tmp_path):
    training.train(SMALL, options(text, tmp_path / "run"))
    with pytest.raises(ValueError, match=r"was made with peak_rate 0.001, not 0.1"):
        training.train(SMALL, options(text, tmp_path / "run", peak_rate=0.1))


def test_a_checkpoint_of_another_text_or_a_damaged_one_is_refused(text, tmp_path):
    training.train(SMALL, options(text, tmp_path / "run"))
    other = tmp_path / "other.txt"
    other.write_text(Path(text).read_text().replace("king", "queen"))
    with pytest.raises(ValueError, match="was made with corpus"):
        training.train(SMALL, options(str(other), tmp_path / "run"))
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged: remove it"):
        training.train(SMALL, options(text, tmp_path / "run"))


def test_a_vocabulary_too_small_for_the_text_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match="the text has token id 50,256 and vocab_size is 100"):
        training.train(replace(SMALL, vocab_size=100), options(text, tmp_path / "run"))


def test_accumulated_micro_batches_give_the_step_of_one_batch(text, tmp_path):
    once = training.train(replace(SMALL, drop_rate=0.0), options(text, tmp_path / "once", steps=3))
    parts = training.train(
        replace(SMALL, drop_rate=0.0), options(text, tmp_path / "parts", steps=3, micro_batch=1)
    )
    for mine, theirs in zip(once.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_two_processes_give_the_loss_of_one(text, tmp_path):
    """torchrun with gloo on the CPU; no dropout, since each process draws its own."""
    flags = [
        "--text", text, "--steps", "8", "--batch-size", "4", "--precision", "float32",
        "--context-length", "16", "--emb-dim", "24", "--n-heads", "2", "--n-layers", "2",
        "--drop-rate", "0", "--warmup-steps", "2",
    ]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
    found = {}
    for n in (1, 2):
        out = tmp_path / f"by{n}"
        subprocess.run(
            [*torchrun, str(n), "--master-port", str(29_600 + os.getpid() % 300 + n),
             "-m", "gpt", "train", *flags, "--out", str(out)],
            cwd=ROOT, check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        found[n] = losses(out)[-1]["loss"]
    assert found[1] == pytest.approx(found[2], abs=1e-3)


def test_the_rate_warms_up_and_falls_as_a_cosine_to_zero():
    choices = TrainOptions(steps=100, warmup_steps=10, peak_rate=1.0)
    rates = [training.learning_rate(step, choices) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_only_matrices_decay():
    optimizer = training.make_optimizer(tiny_model(), TrainOptions())
    decayed, kept = optimizer.param_groups
    assert decayed["weight_decay"] > 0 == kept["weight_decay"]
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in kept["params"])


def test_gpt2s_initialisation_is_a_choice_that_leaves_the_models_own_alone():
    torch.manual_seed(0)
    cfg = GPTConfig(**{**TINY, "emb_dim": 120, "n_heads": 3, "tie_weights": True})
    model = GPTModel(cfg)
    own = model.trf_blocks[0].att.W_query.weight.std().item()
    assert own == pytest.approx(1 / math.sqrt(3 * 120), rel=0.1)
    training.initialise_like_gpt2(model)
    block = model.trf_blocks[0]
    assert block.att.W_query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for projection in (block.att.out_proj, block.ff.layers[2]):
        assert projection.weight.std().item() == pytest.approx(0.02 / math.sqrt(4), rel=0.1)
        assert not projection.bias.any()
    assert model.tok_emb.weight is model.out_head.weight


@pytest.mark.parametrize("n_ids", [2, 33, 34, 100])
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
    assert result.perplexity == pytest.approx(math.exp(result.nats_per_token))


def test_every_option_has_a_flag_with_its_default():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--text", "a.txt", "--no-attention-dropout", "--peak-rate", "0.5"])
    assert args.text == ["a.txt"]
    assert args.peak_rate == 0.5
    assert args.steps == TrainOptions().steps
    assert args.tie_weights is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 0}, "steps is 0"), ({"precision": "int4"}, "precision is 'int4': use bfloat16 or")],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainOptions(**changes)
