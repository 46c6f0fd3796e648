"""The trace: complete, true to the pass, able to ask what if, and silent when it is absent."""

from __future__ import annotations

import linecache

import pytest
import torch
from tiny_models import IDS, VARIANTS, tiny_model

from gpt.trace import Trace, inside


def traced(model, ids=IDS, **options):
    trace = Trace(**options)
    with torch.no_grad():
        logits = model(torch.tensor([ids]), trace=trace)
    return trace, logits


@pytest.mark.parametrize("cfg", VARIANTS)
def test_a_trace_leaves_the_logits_unchanged(cfg):
    model = tiny_model(cfg)
    _, logits = traced(model)
    with torch.no_grad():
        plain = model(torch.tensor([IDS]))
    assert (logits - plain).abs().max() < 1e-5
    assert torch.equal(logits.argmax(-1), plain.argmax(-1))


@pytest.mark.parametrize("cfg", VARIANTS)
def test_attention_rows_sum_to_one_and_never_look_ahead(cfg):
    trace, _ = traced(tiny_model(cfg))
    for layer in range(cfg.n_layers):
        attention = trace[f"trf_blocks.{layer}.att.attention"]
        assert torch.allclose(attention.sum(-1), torch.ones(()), atol=1e-6)
        assert attention.triu(diagonal=1).eq(0).all()
        assert attention.tril().count_nonzero() > 0


@pytest.mark.parametrize("cfg", VARIANTS)
def test_each_block_adds_attention_and_feed_forward_to_the_stream(cfg):
    trace, _ = traced(tiny_model(cfg))
    before = trace["tok_emb"] + trace["pos_emb"]
    for layer in range(cfg.n_layers):
        block = inside(trace, f"trf_blocks.{layer}")
        assert torch.equal(block["resid_in"], before)
        middle = block["resid_in"] + block["att_out"]
        assert torch.equal(block["resid_mid"], middle)
        assert torch.equal(block["resid_out"], middle + block["ff_out"])
        before = block["resid_out"]


def test_each_entry_names_the_line_that_computed_it():
    trace, _ = traced(tiny_model())
    for entry in trace.entries.values():
        assert entry.file == ("gpt/attention.py" if ".att." in entry.name else "gpt/model.py")
        line = linecache.getline(entry.file, entry.line)
        assert f'"{entry.name.rsplit(".", 1)[-1]}"' in line


def test_an_edit_replaces_the_value_from_there_on():
    model = tiny_model()
    base, plain = traced(model)
    name = "trf_blocks.1.ff_out"
    trace, logits = traced(model, edits={name: torch.zeros_like})
    assert trace[name].count_nonzero() == 0
    assert torch.equal(trace["trf_blocks.1.resid_out"], base["trf_blocks.1.resid_mid"])
    assert torch.equal(trace["trf_blocks.0.resid_out"], base["trf_blocks.0.resid_out"])
    assert not torch.allclose(logits, plain)


def test_an_edit_that_changes_nothing_changes_nothing():
    model = tiny_model()
    _, plain = traced(model)
    _, logits = traced(model, edits={"trf_blocks.0.att.heads": lambda x: x.clone()})
    assert torch.equal(logits, plain)


def test_a_trace_that_keeps_nothing_records_nothing():
    trace, _ = traced(tiny_model(), keep=False)
    assert trace.entries == {}


def test_two_traces_do_not_mix():
    model = tiny_model()
    first, _ = traced(model, [1, 2, 3])
    kept = first["logits"].clone()
    second, _ = traced(model, [4, 5, 6, 7])
    assert torch.equal(first["logits"], kept)
    assert second["logits"].shape[1] == 4
