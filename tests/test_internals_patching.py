"""Activation patching: equal streams recover nothing, and transformers' hooks agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import TINY, tiny_model

from gpt import export_model
from gpt.internals import interventions
from gpt.internals.interventions import patch_sweep, read_contrast

FIRST, SECOND = [5, 17, 3, 96, 40, 8], [5, 29, 3, 96, 41, 8]  # the answers are 40 and 41
TOKENS = 4  # both are read up to their answers


@pytest.fixture(scope="module")
def model():
    return tiny_model(replace(TINY, drop_rate=0.0, qkv_bias=True, tie_weights=True))


@pytest.fixture(scope="module")
def contrast(model):
    return read_contrast(model, FIRST, SECOND)


def test_others_have_a_turn_after_each_block_of_both_prompts(model):
    turns = []
    read_contrast(model, FIRST, SECOND, lambda: turns.append(True))
    assert len(turns) == 2 * model.cfg.n_layers


def test_prompts_end_before_their_answers(contrast):
    assert contrast.answers == (40, 41)
    assert contrast.first.ids == tuple(FIRST[:TOKENS])
    lead = contrast.first.logits[-1, 40] - contrast.first.logits[-1, 41]
    assert contrast.leads[0] == pytest.approx(lead.item(), abs=1e-5)


def test_a_stream_that_is_equal_in_both_prompts_recovers_nothing_where_it_is_patched(
    model, contrast
):
    """Before the difference, and in the first layer at every token that both prompts share."""
    swept = {layer: [] for layer in range(TINY.n_layers + 1)}
    for layer, row in patch_sweep(model, contrast):
        swept[layer] += row
    assert [row[0] for row in swept.values()] == pytest.approx([0] * 3, abs=1e-4)
    assert swept[0] == pytest.approx([0, 1, 0, 0], abs=1e-4)  # all of the difference is at 1
    assert swept[TINY.n_layers] == pytest.approx([0, 0, 0, 1], abs=1e-4)  # and is read at the end


def test_transformers_with_hooks_recovers_the_same(model, contrast, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    export_model(model, tmp_path / "theirs")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "theirs").eval()
    blocks = theirs.transformer.h
    e = TINY.emb_dim // TINY.n_heads

    def lead(ids, *hooks):
        handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
        with torch.no_grad():
            logits = theirs(torch.tensor([ids[:TOKENS]])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return (logits[40] - logits[41]).item()

    def keep(seen):
        return lambda module, args: seen.append(args[0].clone())

    def paste(source, at, columns):
        def hook(module, args):
            x = args[0].clone()
            x[:, at, columns] = source[:, at, columns]
            return (x, *args[1:])

        return hook

    there, here = lead(FIRST), lead(SECOND)
    for head in (None, 1):
        columns = slice(None) if head is None else slice(head * e, (head + 1) * e)
        for layer in range(TINY.n_layers):  # c_proj reads the heads side by side
            part = blocks[layer] if head is None else blocks[layer].attn.c_proj
            seen: list[torch.Tensor] = []
            lead(FIRST, (part, keep(seen)))
            expected = [
                (lead(SECOND, (part, paste(seen[0], at, columns))) - here) / (there - here)
                for at in range(TOKENS)
            ]
            found = [
                x for la, row in patch_sweep(model, contrast, head) for x in row if la == layer
            ]
            assert found == pytest.approx(expected, abs=1e-4)
            assert head is None or max(map(abs, found)) > 0.001  # something is there to compare


def test_a_sweep_in_small_batches_is_the_sweep_at_once(model, contrast, monkeypatch):
    whole = [x for _, row in patch_sweep(model, contrast, 2) for x in row]
    monkeypatch.setattr(interventions, "TOKENS_AT_ONCE", 1)
    halves = [x for _, row in patch_sweep(model, contrast, 2) for x in row]
    assert halves == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(
    ("second", "line"),
    [
        (SECOND[:-1], "have 6 and 5 tokens: use two of the same length"),
        ([5, 29, *FIRST[2:]], "differ in 1 tokens: use two that differ"),
        (FIRST, "differ in 0 tokens"),
    ],
)
def test_prompts_that_cannot_be_compared_are_one_line(second, line, model):
    with pytest.raises(ValueError, match=line):
        read_contrast(model, FIRST, second)
