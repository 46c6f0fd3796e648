"""One formula for bytes: what is told of a model is what its tensors take, wherever it is told."""

from dataclasses import replace

import pytest
import torch
from tiny_models import IDS, TINY, VARIANTS, tiny_model

from gpt.accounting.memory import kv_cache, read_per_pass, weight_bytes, weights
from gpt.checkpoints.precision_record import recorded
from gpt.checkpoints.sources import config_of, load_model, random_source
from gpt.engine import PRECISIONS, FastModel
from gpt.engine.layers import PackedHalfLinear, PackedInt8Linear

WIDE = replace(TINY, emb_dim=64, n_heads=4, vocab_size=300)


def stored(model):
    """Bytes of every distinct tensor that a model holds; a packed weight as its numbers."""
    kept = {p.data_ptr(): p.nbytes for p in model.parameters()}
    for module in model.modules():
        if isinstance(module, PackedInt8Linear):  # and a float32 scale for each of its rows
            kept[id(module)] = module.weight.numel() + 4 * len(module.weight)
        elif isinstance(module, PackedHalfLinear):
            kept[id(module)] = module.weight.nbytes
    return sum(kept.values())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", [*VARIANTS, WIDE], ids=str)
def test_the_formula_is_the_bytes_that_the_engine_stores(cfg, precision):
    """The storyteller in int8 was 15.64 MiB on one tab and 28.25 MiB in the record."""
    model = FastModel(tiny_model(cfg), precision)
    assert stored(model) == weight_bytes(cfg, precision) == weights(cfg, precision).value


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_storyteller_takes_what_every_page_says(precision):
    cfg = config_of("storyteller")
    n_bytes = stored(load_model("storyteller", precision=precision))
    assert n_bytes == weight_bytes(cfg, precision)
    found = recorded("storyteller")
    assert found["precisions"][precision]["weight_bytes"] == n_bytes


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("source", [random_source(WIDE), "book-124M"])
def test_a_model_of_any_source_takes_what_the_formula_says(source, precision):
    model = load_model(source, precision=precision)
    assert stored(model) == weight_bytes(config_of(source), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_cache_takes_what_its_formula_says(precision):
    model = FastModel(tiny_model(), precision)
    cache = model.new_cache(9)
    with torch.no_grad():
        model(torch.tensor([IDS, IDS]), cache)
    assert cache.n_bytes == kv_cache(TINY, 2, 9, precision).value


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_a_pass_reads_all_but_the_rows_that_are_only_looked_up(cfg, precision):
    model = FastModel(tiny_model(cfg), precision)
    looked_up = {
        p.data_ptr(): p.nbytes for p in (*model.tok_emb.parameters(), model.pos_emb.weight)
    }
    for parameter in model.out_head.parameters():
        looked_up.pop(parameter.data_ptr(), None)
    assert stored(model) - sum(looked_up.values()) == read_per_pass(cfg, precision)
