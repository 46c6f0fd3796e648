"""Every closed sum and invariant of the readings, on tiny random models in all variants."""

from __future__ import annotations

import linecache
import math
from dataclasses import replace

import pytest
import torch
from tiny_models import IDS, TINY, VARIANTS, read_lens, tiny_model

from gpt.engine import PRECISIONS, FastModel
from gpt.internals import interventions, residual
from gpt.internals.distribution import compare_predictions
from gpt.internals.heads import attention_rows, head_scores
from gpt.internals.interventions import (
    ablate,
    edits_for,
    gradient_x_input,
    occlusion,
    patch_sweep,
    read_contrast,
    sweep_heads,
)
from gpt.internals.ledger import read_ledger
from gpt.internals.residual import (
    VECTORS,
    norms_of,
    read_norm,
    read_stream,
    stage_logits,
    stages,
    token_vector,
)
from gpt.internals.traced_pass import read_prompt, shape_rows

variants = pytest.mark.parametrize("cfg", VARIANTS)


def read(cfg=TINY, ids=IDS, seed=0):
    model = tiny_model(cfg, seed)
    return model, read_prompt(model, ids)


@variants
def test_the_last_row_of_the_lens_is_the_models_own_output(cfg):
    model, run = read(cfg)
    last = run.layer(cfg.n_layers - 1, "resid_out")
    assert (stage_logits(model, last) - run.logits).abs().max() < 1e-5
    lens = read_lens(model, run, 7)
    p = run.logits.double().softmax(-1)
    assert torch.equal(lens.best_ids[-1], run.logits.argmax(-1))
    assert torch.allclose(lens.best_probability[-1], p.amax(-1), atol=1e-5)
    assert torch.allclose(lens.token_probability[-1], p[:, 7], atol=1e-5)
    assert lens.divergence[-1].abs().max() < 1e-5
    assert (lens.divergence[0] > 0.01).all()


def test_the_lens_has_a_row_for_the_embedding_each_attention_and_each_block():
    model, run = read()
    lens = read_lens(model, run)
    names = ("embedding", "attention 0", "block 0", "attention 1", "block 1")
    assert tuple(stages(TINY.n_layers)) == names
    assert lens.entropy.shape == (5, len(IDS))
    assert "token_rank" not in vars(lens)
    assert (lens.entropy <= math.log(97) + 1e-5).all()


def test_a_rank_of_one_in_the_lens_is_the_best_token():
    model, run = read()
    best = int(run.logits[-1].argmax())
    lens = read_lens(model, run, best)
    assert lens.token_rank[-1, -1] == 1
    assert torch.equal(lens.token_rank == 1, lens.best_ids == best)


def test_entropy_and_divergence_of_the_lens_are_right_to_eleven_digits():
    """In float32 the sum of 50,257 probabilities is 1 to 6e-5, and these were off by 1e-3."""
    model = tiny_model(replace(TINY, vocab_size=50257))
    with torch.no_grad():
        model.out_head.weight.mul_(8)
    run = read_prompt(model, IDS)
    lens = read_lens(model, run)
    for stage, stream in enumerate(stages(TINY.n_layers).values()):
        log_p = stage_logits(model, run.trace[stream][0]).double().log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        assert torch.allclose(lens.entropy[stage], entropy, rtol=1e-11, atol=0)
        final = run.logits.double().log_softmax(-1)
        divergence = (final.exp() * (final - log_p)).sum(-1)
        assert torch.allclose(lens.divergence[stage], divergence, rtol=1e-6, atol=1e-9)


def test_a_lens_over_many_positions_is_the_lens_over_each(monkeypatch):
    model, run = read()
    whole = read_lens(model, run, 7)
    monkeypatch.setattr(residual, "POSITIONS_AT_ONCE", 3)
    for one, other in zip(
        vars(whole).values(), vars(read_lens(model, run, 7)).values(), strict=True
    ):
        assert torch.allclose(one.double(), other.double(), atol=1e-6)


@variants
@pytest.mark.parametrize("minus", [None, 11])
def test_the_ledger_closes(cfg, minus):
    model, run = read(cfg)
    for position in (0, 3, len(IDS) - 1):
        own = run.logits[position, 42] - (0 if minus is None else run.logits[position, minus])
        ledger = read_ledger(model, run, position, 42, minus)
        assert sum(term.value for term in ledger) == pytest.approx(own.item(), abs=1e-3)


@variants
def test_the_ledger_names_every_part_once(cfg):
    model, run = read(cfg)
    names = [term.name for term in read_ledger(model, run, 2, 1)]
    per_layer = cfg.n_heads + 3 + cfg.qkv_bias  # heads, two biases, feed-forward, value bias
    assert len(names) == 2 + cfg.n_layers * per_layer + 1
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cfg", [VARIANTS[0], VARIANTS[-1]])
def test_every_reading_works_on_a_model_in_any_precision(cfg, precision):
    """`read_ledger` of an int8 model raised AttributeError: its layers had no `weight`."""
    model = FastModel(tiny_model(cfg), precision)
    run = read_prompt(model, IDS)
    at = len(IDS) - 1
    total = sum(term.value for term in read_ledger(model, run, at, 42))
    close = 0.05 if precision in ("int8", "bfloat16") else 1e-3
    assert total == pytest.approx(run.logits[at, 42].item(), abs=close)
    lens = read_lens(model, run, 42)
    assert torch.allclose(lens.entropy[-1], entropy_of(run.logits), atol=1e-6)
    nothing, *_ = occlusion(model, run, at, 42)
    assert nothing.logit == pytest.approx(run.logits[at, 42].item(), abs=0.05)
    for part in (("head", 0, 1), ("ff", 1, 0), ("layer", 0, 0)):
        assert not torch.equal(ablate(model, run, at, part, "mean"), run.logits[at])
    assert len(dict(sweep_heads(model, run, at, 42, "zero"))) == cfg.n_layers
    assert read_norm(model, run, 1, "norm2", at)[2].shape == (cfg.emb_dim,)
    if precision == "float32":
        shares = gradient_x_input(tiny_model(cfg), run, at, 42)
        assert torch.allclose(gradient_x_input(model, run, at, 42), shares, atol=1e-5)
    else:  # torch warned and gave the gradient of the residual stream alone
        with pytest.raises(ValueError, match="gradients need weights in float32"):
            gradient_x_input(model, run, at, 42)


def entropy_of(logits):
    log_p = logits.double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def test_a_ledger_without_one_part_does_not_close():
    model, run = read()
    ledger = read_ledger(model, run, 3, 42)
    total, logit = sum(term.value for term in ledger), run.logits[3, 42].item()
    for term in ledger:
        assert abs(total - term.value - logit) > 1e-3, term


def test_the_stages_of_a_head_lead_from_one_to_the_next():
    _, run = read()
    names = ("queries", "keys", "scores", "masked_scores", "attention")
    queries, keys, scores, masked, attention = (run.layer(1, f"att.{name}")[2] for name in names)
    assert torch.allclose(scores, queries @ keys.T, atol=1e-5)
    seen = torch.ones(len(IDS), len(IDS)).tril().bool()
    assert torch.allclose(masked[seen], scores[seen] / run.cfg.head_dim**0.5)
    assert masked[~seen].eq(-math.inf).all()
    assert torch.allclose(attention, masked.softmax(-1))


def test_attention_rows_say_where_a_query_looks():
    attention = torch.tensor([[1.0, 0, 0], [0.75, 0.25, 0], [0.5, 0.25, 0.25]])
    rows = attention_rows(attention)
    assert [row.most_attended for row in rows] == [0, 0, 0]
    assert [row.share for row in rows] == [1.0, 0.75, 0.5]
    assert rows[0].entropy == 0
    assert rows[2].entropy == pytest.approx(1.5 * math.log(2))
    skipped = attention_rows(attention, skip_first=True)
    assert [row.most_attended for row in skipped] == [0, 1, 1]
    assert skipped[2].entropy == rows[2].entropy


def test_the_stream_has_the_norms_and_turns_of_its_vectors():
    _, run = read()
    norms, cosines = read_stream(run)
    first, second = run.layer(0, "resid_in"), run.layer(0, "resid_mid")
    assert torch.allclose(norms[0], first.pow(2).sum(-1).sqrt(), atol=1e-5)
    cosine = (first * second).sum(-1) / (norms[0] * norms[1])
    assert torch.allclose(cosines[0], cosine, atol=1e-5)
    for name in ("att_out", "ff_out"):
        by_hand = run.layer(1, name).pow(2).sum(-1).sqrt()
        assert torch.allclose(norms_of(run, name)[1], by_hand, atol=1e-5)
    assert norms.shape == (5, len(IDS))
    assert cosines.shape == (4, len(IDS))


def test_each_vector_of_a_token_has_its_size():
    _, run = read()
    sizes = {name: tuple(token_vector(run, 0, name, 3).shape) for name in VECTORS}
    assert sizes == {
        "queries": (3, 8),
        "keys": (3, 8),
        "values": (3, 8),
        "heads": (3, 8),
        "hidden": (1, 96),
        "activation": (1, 96),
        "resid_out": (1, 24),
    }


@pytest.mark.parametrize("name", ["norm1", "norm2"])
def test_a_normed_row_is_its_formula(name):
    model, run = read()
    norm, before, after = read_norm(model, run, 1, name, 4)
    by_hand = (before - before.mean()) / (before.var(correction=0) + norm.eps) ** 0.5
    assert torch.allclose(after, by_hand * norm.scale + norm.shift, atol=1e-5)


@variants
def test_occlusion_of_nothing_changes_nothing(cfg):
    model, run = read(cfg)
    nothing = next(occlusion(model, run, len(IDS) - 1, 42))
    assert nothing.logit == pytest.approx(run.logits[-1, 42].item(), abs=1e-5)
    assert nothing.probability == pytest.approx(run.logits[-1].softmax(-1)[42].item(), abs=1e-6)


def test_occlusion_is_the_pass_with_that_embedding_zeroed():
    model, run = read(ids=IDS * 2)
    _, *found = occlusion(model, run, 12, 42)
    zeroed = tiny_model()
    for i in (0, 5, 12):
        with torch.no_grad():
            hook = zeroed.tok_emb.register_forward_hook(
                lambda _, __, out, i=i: out.index_fill(1, torch.tensor([i]), 0)
            )
            logits = zeroed(torch.tensor([run.ids[:13]]))[0, -1]
            hook.remove()
        assert found[i].logit == pytest.approx(logits[42].item(), abs=1e-5)
    assert len(found) == 13


def test_gradient_times_input_is_the_slope_towards_no_embedding():
    """Scaling one token's embedding by 1 + h moves the logit by h times the attribution."""
    model, run = read()
    shares = gradient_x_input(model, run, 4, 42)
    assert shares.shape == (5,)
    weights = model.double()
    embedded = run.trace["tok_emb"][:, :5].double()
    from gpt.trace import Trace

    def logit(i, factor):
        scaled = embedded.clone()
        scaled[0, i] *= factor
        trace = Trace(edits={"tok_emb": lambda _: scaled}, keep=False)
        with torch.no_grad():
            return weights(torch.tensor([run.ids[:5]]), trace=trace)[0, -1, 42].item()

    for i in range(5):
        slope = (logit(i, 1 + 1e-5) - logit(i, 1 - 1e-5)) / 2e-5
        assert shares[i].item() == pytest.approx(slope, abs=1e-4)


def test_attribution_leaves_no_gradient_on_the_shared_model():
    model, run = read()
    gradient_x_input(model, run, 4, 42)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not run.trace["tok_emb"].requires_grad


@pytest.mark.parametrize("part", [("head", 0, 1), ("ff", 1, 0), ("layer", 0, 0)])
def test_ablation_changes_the_logits_and_not_the_model(part):
    model, run = read()
    for mode in ("zero", "mean"):
        assert not torch.allclose(ablate(model, run, -1, part, mode), run.logits[-1])
    assert torch.equal(read_prompt(model, IDS).logits, run.logits)


def test_without_every_layer_only_the_embedding_is_left():
    cfg = replace(TINY, n_layers=1)
    model, run = read(cfg)
    bare = ablate(model, run, 3, ("layer", 0, 0), "zero")
    assert torch.allclose(bare, stage_logits(model, run.layer(0, "resid_in"))[3], atol=1e-5)


def test_a_zeroed_head_takes_out_what_it_wrote():
    from gpt.internals.ledger import head_outputs
    from gpt.trace import Trace

    model, run = read(VARIANTS[0])
    trace = Trace(edits=edits_for(run, ("head", 1, 2), "zero"))
    with torch.no_grad():
        model(torch.tensor([IDS]), trace=trace)
    change = run.layer(1, "att_out")[3] - trace["trf_blocks.1.att_out"][0, 3]
    assert torch.allclose(change.double(), head_outputs(model, run, 1, 3)[2], atol=1e-5)


def test_a_mean_ablation_of_one_position_changes_nothing():
    model, run = read(ids=[9])
    for part in (("head", 0, 1), ("ff", 1, 0), ("layer", 0, 0)):
        assert torch.allclose(ablate(model, run, 0, part, "mean"), run.logits[0], atol=1e-5)


@pytest.mark.parametrize("part", [("head", 1, 2), ("ff", 0, 0), ("layer", 1, 0)])
def test_a_mean_ablation_at_a_position_does_not_see_what_comes_later(part):
    """The mean was over the whole prompt, so that position 2 depended on tokens 3, 4, ..."""
    model, run = read()
    whole = ablate(model, run, 2, part, "mean")
    start = ablate(model, read_prompt(model, IDS[:3]), 2, part, "mean")
    assert torch.allclose(whole, start, atol=1e-5)


def test_a_mean_ablation_writes_the_mean_of_what_was_written_so_far():
    _, run = read()
    (edit,) = edits_for(run, ("ff", 1, 0), "mean").values()
    written = run.layer(1, "ff_out")
    assert torch.allclose(edit(written)[3], written[:4].mean(0), atol=1e-6)


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_a_sweep_is_every_single_ablation(mode):
    model, run = read()
    position = len(IDS) - 1
    swept = dict(sweep_heads(model, run, position, 42, mode))
    assert list(swept) == [0, 1]
    for layer, changes in swept.items():
        for head, change in enumerate(changes):
            alone = ablate(model, run, position, ("head", layer, head), mode)[42]
            assert change == pytest.approx((alone - run.logits[-1, 42]).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("part", "mode", "message"),
    [
        (("head", 2, 0), "zero", "layer 2 does not exist: use 0 to 1"),
        (("ff", -1, 0), "zero", "layer -1 does not exist: use 0 to 1"),
        (("head", 0, 3), "zero", "head 3 does not exist: use 0 to 2"),
        (("head", 0, -1), "zero", "head -1 does not exist: use 0 to 2"),
        (("mind", 0, 0), "zero", "use head, ff or layer"),
        (("ff", 0, 0), "half", "use zero or mean"),
    ],
)
def test_an_impossible_ablation_says_what_is_possible(part, mode, message):
    model, run = read()
    with pytest.raises(ValueError, match=message):
        ablate(model, run, 3, part, mode)


def test_a_sweep_in_an_unknown_mode_is_not_one_of_means():
    with pytest.raises(ValueError, match="use zero or mean"):
        next(sweep_heads(*read(), 3, 42, "half"))


def test_the_shapes_table_names_lines_that_record_that_step():
    _, run = read()
    rows = shape_rows(run)
    assert [row.name for row, _ in rows] == list(run.trace.entries)
    for row, _ in rows:
        assert f'"{row.name.rsplit(".", 1)[-1]}"' in linecache.getline(row.file, row.line)
    assert run.trace["trf_blocks.0.att.attention"].shape == (1, 3, 7, 7)
    same_as = {row.name: same for row, same in rows}
    assert same_as["trf_blocks.1.resid_in"] == "trf_blocks.0.resid_out"
    assert same_as["trf_blocks.0.att_out"] is None


def test_a_prediction_compared_with_itself_is_equal():
    _, run = read()
    same = compare_predictions(run.logits[-1], run.logits[-1], 5)
    assert same.divergence == 0
    assert same.overlap == pytest.approx(1)
    assert len(same.ids) == 5


def test_two_predictions_are_compared_token_by_token():
    first, second = torch.tensor([3.0, 1, 0, 0]), torch.tensor([0.0, 0, 1, 3])
    result = compare_predictions(first, second, 2)
    p, q = first.softmax(-1), second.softmax(-1)
    assert set(result.ids) == {0, 1, 2, 3}
    assert result.ids[0] == 0
    assert (result.first_ranks[0], result.second_ranks[0]) == (1, 3)
    assert result.divergence == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert result.overlap == pytest.approx(torch.minimum(p, q).sum().item(), rel=1e-5)


def test_models_of_different_vocabularies_are_not_compared():
    with pytest.raises(ValueError, match="vocabularies have 3 and 4 tokens"):
        compare_predictions(torch.zeros(3), torch.zeros(4), 2)


def test_long_prompts_are_swept_and_occluded_in_small_batches(monkeypatch):
    """A layer of GPT-2 small at 128 tokens held all cores for 4 s, and all other visitors."""
    model = tiny_model()
    run = read_prompt(model, IDS)
    at, largest = len(IDS) - 1, []
    forward = type(model).forward

    def watched(self, ids, *args, **kwargs):
        largest.append(ids.numel())
        return forward(self, ids, *args, **kwargs)

    whole = dict(sweep_heads(model, run, at, 42, "zero"))
    occluded = list(occlusion(model, run, at, 42))
    monkeypatch.setattr(type(model), "forward", watched)
    monkeypatch.setattr(interventions, "TOKENS_AT_ONCE", 2 * len(IDS))
    swept: dict[int, list[float]] = {}
    for layer, changes in sweep_heads(model, run, at, 42, "zero"):
        swept.setdefault(layer, []).extend(changes)
    again = list(occlusion(model, run, at, 42))
    assert max(largest) == 2 * len(IDS)
    for layer, changes in whole.items():
        assert swept[layer] == pytest.approx(changes, abs=1e-5)
    for one, other in zip(again, occluded, strict=True):
        assert one.logit == pytest.approx(other.logit, abs=1e-5)


def test_after_each_block_of_every_pass_others_have_a_turn():
    """128 tokens of GPT-2 small were a job of three seconds of a core, there and back; of a larger
    model a step of a sweep held up all texts for longer than half a second.
    """
    model, turns = tiny_model(), []
    run = read_prompt(model, IDS, lambda: turns.append(1))
    contrast = read_contrast(model, [1, 2, 3, 4], [1, 5, 3, 6], run.trace.between)
    blocks = TINY.n_layers
    for passes, read_it in (
        (1, lambda: ablate(model, run, 3, ("layer", blocks - 1, 0), "zero")),
        (blocks, lambda: list(sweep_heads(model, run, 3, 7, "mean"))),
        (2, lambda: gradient_x_input(model, run, 3, 7)),  # there and back
        (1, lambda: list(occlusion(model, run, 3, 7))),
        (blocks + 1, lambda: list(patch_sweep(model, contrast))),
        (1, lambda: head_scores(model, between=run.trace.between)),
    ):
        turns.clear()
        read_it()
        assert len(turns) == passes * blocks
    plain = read_prompt(model, IDS)
    assert torch.equal(gradient_x_input(model, plain, 3, 7), gradient_x_input(model, run, 3, 7))
