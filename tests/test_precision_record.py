"""What a precision costs: measured against float32, recorded, and followed by the default."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, tiny_model

from gpt import export_model
from gpt.__main__ import main
from gpt.accounting.memory import weight_bytes
from gpt.checkpoints import precision_record as comparing
from gpt.checkpoints.precision_record import (
    default_precision,
    processor,
    quality_of,
    quickest_allowed,
    recorded,
    table,
    write_record,
)
from gpt.checkpoints.sources import random_source
from gpt.engine import PRECISIONS, FastModel
from gpt.engine.layers import kernel_of
from gpt.training.evaluation import evaluate

IDS = torch.arange(80) * 7 % 97
WIDE = replace(TINY, vocab_size=50257)
NARROW = replace(WIDE, emb_dim=8, n_heads=2, n_layers=1)
SOURCE = random_source(NARROW, 5)


def measured(kl, rate):
    return {"mean_kl_nats": kl, "tokens_per_second": rate}


def exact(seed=0):
    return FastModel(tiny_model(seed=seed), "float32")


def test_a_model_is_no_distance_from_itself_and_its_perplexity_is_evaluates():
    model = exact()
    quality = quality_of(model, model, IDS)
    nats = quality.pop("nats_per_token")
    assert nats == pytest.approx(evaluate(model, IDS).nats_per_token)
    assert quality.pop("perplexity") == pytest.approx(math.exp(nats))
    assert quality == {"mean_kl_nats": 0.0, "top1_agreement": 1.0, "n_tokens": 79}


def test_the_divergence_is_torchs_own():
    one, other = exact(), exact(seed=1)
    with torch.no_grad():
        p, q = (F.log_softmax(m(IDS[None, :30])[0], dim=-1) for m in (one, other))
    expected = F.kl_div(q, p, reduction="batchmean", log_target=True)
    quality = quality_of(one, other, IDS[:31])
    assert quality["mean_kl_nats"] == pytest.approx(float(expected), rel=1e-5)
    assert quality["top1_agreement"] == float((p.argmax(-1) == q.argmax(-1)).float().mean())


class Given:
    """A model of WIDE's vocabulary that always gives the same logits."""

    cfg = WIDE

    def __init__(self, logits):
        self.logits = logits

    def new_cache(self, n_positions):
        return None

    def decode_rows(self, tokens, caches):
        return self.logits.expand(len(tokens), -1)


def test_a_small_divergence_is_not_lost_in_float32s_rounding():
    """float16 is 6e-7 nats from float32; odds normalised in float32 were as much off."""
    noise = torch.randn(2, WIDE.vocab_size, generator=torch.Generator().manual_seed(0))
    one, other = noise[0], noise[0] + 1e-3 * noise[1]
    p, q = (F.log_softmax(logits.double(), dim=-1) for logits in (one, other))
    quality = quality_of(Given(one), Given(other), IDS[:31])
    assert quality["mean_kl_nats"] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-6)


def test_a_precision_costs_something_and_less_than_another_model():
    model = exact()
    int8 = quality_of(model, FastModel(tiny_model(), "int8"), IDS)["mean_kl_nats"]
    assert 0 < int8 < 0.01 < quality_of(model, exact(seed=1), IDS)["mean_kl_nats"]


def test_what_is_measured_are_the_steps_that_write_a_text(monkeypatch):
    """The record was of whole windows: kernels for many rows, and no KV cache."""
    model, told = exact(), []
    step = FastModel.decode_rows
    monkeypatch.setattr(
        FastModel, "decode_rows", lambda *given: told.append(len(given[1])) or step(*given)
    )
    quality_of(model, model, IDS)
    # 79 targets in windows of 32, 32 and 15: three rows for 15 tokens, then two.
    assert told == [3, 3] * 15 + [2, 2] * 17


def test_a_loss_above_709_nats_has_a_perplexity_in_words():
    """e^709 is the most that a float holds: OverflowError. 1,139.8 nats are e^1,139.8."""
    sure = Given(torch.zeros(WIDE.vocab_size).index_fill(0, torch.tensor([0]), 1139.8))
    found = quality_of(sure, sure, IDS[:31])
    assert math.isfinite(found["perplexity"])
    assert "e^1,139.8" in table({"float32": {**measured(0, 5), "weight_bytes": 1000, **found}})


def test_too_short_a_text_is_refused():
    with pytest.raises(ValueError, match="the text has 1 tokens: give at least 2"):
        quality_of(exact(), exact(), IDS[:1])


def test_the_default_is_the_fastest_that_costs_little():
    found = {"float32": measured(0, 10), "int8": measured(0.009, 30), "float16": measured(0, 20)}
    assert quickest_allowed(found) == "int8"
    assert quickest_allowed({**found, "int8": measured(0.01, 30)}) == "float16"
    assert quickest_allowed({"int8": measured(0.5, 30)}) == "float32"


def test_what_was_recorded_is_the_default_until_the_weights_change(tmp_path, monkeypatch):
    """A Hugging Face folder states no SHA-256: its record was believed whatever it held."""
    monkeypatch.setattr(comparing, "RECORD", tmp_path / "precision.json")
    model = export_model(tiny_model(), tmp_path / "model")
    assert default_precision(str(model)) == "float32"
    write_record(str(model), "tales.txt", {"int8": measured(0, 30)})
    write_record("gpt2", "tales.txt", {"float16": measured(0, 30)})
    assert default_precision(str(model)) == "int8"
    assert default_precision("gpt2") == "float16"
    assert default_precision("book-124M") == "float32"
    assert recorded(str(model))["precisions"]["int8"]["tokens_per_second"] == 30
    assert default_precision(str(model), "cuda") == "float16"
    assert default_precision(str(model), "mps") == "float32"
    export_model(tiny_model(seed=1), model)
    assert default_precision(str(model)) == "float32"


def test_the_end_of_a_document_is_one_token(tmp_path, monkeypatch):
    """It was read as the seven tokens of its spelling, which no model was trained on."""
    read = []
    monkeypatch.setattr(
        comparing, "measure_precisions", lambda _, ids, **__: read.append(ids.tolist()) or {}
    )
    text = tmp_path / "text.txt"
    text.write_text("king<|endoftext|>queen")
    main(["compare", SOURCE, "--text", str(text)])
    assert read == [[3364, 50256, 4188, 268]]


def test_the_command_measures_every_precision_and_records(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "SPEED_REPEATS", 1)
    monkeypatch.setattr(comparing, "SPEED_TOKENS", 4)
    monkeypatch.setattr(comparing, "RECORD", tmp_path / "precision.json")
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a king. <|endoftext|>" * 10)
    command = ["compare", SOURCE, "--text", str(text), "--tokens", "60", "--record"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == list(PRECISIONS)
    kept = json.loads((tmp_path / "precision.json").read_text())[SOURCE]
    assert kept["precisions"]["float32"]["mean_kl_nats"] == 0
    assert kept["precisions"]["int8"]["weight_bytes"] == weight_bytes(NARROW, "int8")
    assert kept["text"] == "text.txt"
    assert kept["machine"].startswith(processor())
    assert kept["kernels"] == {name: kernel_of(name) for name in PRECISIONS}
    assert kept["default"] in lines[-1]
