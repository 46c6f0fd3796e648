"""Each view of the Internals tab as a plain function: right numbers, escaped, small enough."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.config import GPTConfig
from gpt.internals.distribution import rank_of
from gpt.sampling import SamplingOptions, probabilities
from gpt.tokenizer import Tokenizer
from gpt.ui.internals.ablation import ablation_views, sweep_views
from gpt.ui.internals.attention import STAGES, grid_html, head_views
from gpt.ui.internals.choice import DEFAULTS, choice_views, find_token, options_of
from gpt.ui.internals.compare import PROMPT, UNTRAINED, comparison_views, other_state
from gpt.ui.internals.draws import segments_of
from gpt.ui.internals.lab import MAX_TOKENS, Lab
from gpt.ui.internals.ledger import LEAD, MODES, ledger_views
from gpt.ui.internals.lens import MEASURES, RANK, lens_html
from gpt.ui.internals.logits import read_logits, views
from gpt.ui.internals.mattered import mattered_views
from gpt.ui.internals.position import position_html, prompt_table
from gpt.ui.internals.prompt import prompt_chips
from gpt.ui.internals.residual import (
    NORMS,
    STREAM_MEASURES,
    VECTORS,
    embedding_views,
    stream_views,
    vector_views,
)
from gpt.ui.internals.sections import at_most
from gpt.ui.internals.shapes import KEPT_FILES, save_trace, shapes_html

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)
NASTY = "<img src=x onerror=alert(1)>&\"'\x00\x1b\u202eabc\u2066 é👍🏽\n\t${1}{{2}}</script>"
TAGS = (
    "p|span|br|div|table|caption|t[hrd]|thead|tbody|bdi|a|button|figure|figcaption|img src=.data:"
)
PAYLOAD = 1_000_000  # bytes of any one view


@pytest.fixture(scope="module")
def lab():
    return Lab(TinyRegistry({"words": tiny_model(TEXTUAL)}), Tokenizer())


@pytest.fixture
def state(lab):
    return lab.read("words", "Hello, I am a little")


def last(results):
    return list(results)[-1]


def every_view(lab, state):
    """All views of a visit, as the page asks for them."""
    other = {**state, "ids": state["ids"][:1], "position": 0}
    early = {**state, "position": min(state["position"], 15)}  # as heavy, sooner measured
    return {
        "chips": [prompt_chips(lab, state)],
        "position": [position_html(lab, state), prompt_table(lab, state)],
        "logits": views(read_logits(lab, state, 50)),
        "choice": choice_views(lab, state, *DEFAULTS),
        "find": [find_token(lab, state, "262", *DEFAULTS[:3])],
        "embeddings": embedding_views(lab, state),
        "heads": [grid_html(lab, state, 0, 0, False)],
        **{f"head {stage}": head_views(lab, state, 1, 2, stage, False) for stage in STAGES},
        **{f"stream {m}": stream_views(lab, state, m) for m in STREAM_MEASURES},
        **{f"vector {n}": vector_views(lab, state, 1, n, next(iter(NORMS))) for n in VECTORS},
        **{f"lens {measure}": [lens_html(lab, state, measure, "")] for measure in MEASURES},
        **{f"ledger {mode}": ledger_views(lab, state, "", mode) for mode in MODES},
        "mattered": last(mattered_views(lab, early, "")),
        "ablation": ablation_views(lab, state, "a feed-forward", 1, 0, "zeros"),
        "sweep": last(sweep_views(lab, early, "", "zeros")),
        "compare": comparison_views(lab, state, other, PROMPT),
        "shapes": [shapes_html(lab, state)],
    }


def size(view):
    return len((view if isinstance(view, str) else view.to_json()).encode())


def csv_of(html, at=0):
    data = re.findall(r"base64,([A-Za-z0-9+/=]+)\">Download CSV", html)[at]
    return list(csv.reader(io.StringIO(base64.b64decode(data).decode())))


def test_no_view_lets_markup_or_control_characters_through(lab):
    for name, parts in every_view(lab, lab.read("words", NASTY)).items():
        for part in parts:
            text = part if isinstance(part, str) else part.to_json()
            visible = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
            if isinstance(part, str):
                assert "<img src=x" not in visible, name
                assert not re.search(rf"<(?!/?(?:{TAGS})\b)", visible), name
            assert not set(visible) & set("\x00\x1b\u202e\u2066"), name


def test_no_view_of_the_longest_prompt_is_too_heavy():
    """GPT-2 small's layers and heads at the most tokens that the tab takes, all shown as hex."""
    cfg = GPTConfig(vocab_size=500, context_length=128, emb_dim=96, n_heads=12, n_layers=12)
    lab = Lab(TinyRegistry({"deep": tiny_model(cfg)}), Tokenizer())
    state = {"source": "deep", "ids": list(range(128, 128 + MAX_TOKENS)), "position": 127}
    assert lab.piece(200).startswith("⟨")
    sizes = {
        f"{name} {i}": size(part)
        for name, parts in every_view(lab, state).items()
        for i, part in enumerate(parts)
    }
    assert {name: n for name, n in sizes.items() if n > PAYLOAD} == {}


def test_all_views_of_a_single_token_work(lab):
    views = every_view(lab, lab.read("words", "a"))
    assert "nothing came before" in views["position"][1]


def test_the_table_of_the_choice_strikes_out_what_the_filter_rejects(lab, state):
    table = choice_views(lab, state, 1.0, 7, 1.0, 0, 10)[0]
    assert table.count('<tr class="struck">') == 13  # 20 rows, 7 kept
    assert "7 of 50,257 tokens can be drawn" in table


def test_the_choice_is_the_distribution_that_generation_samples_from(lab, state):
    options = options_of(0.7, 50, 0.9, 3)
    assert options == SamplingOptions(temperature=0.7, top_k=50, top_p=0.9, seed=3)
    rows = csv_of(choice_views(lab, state, 0.7, 50, 0.9, 3, 10)[0])
    distribution = probabilities(lab.run(state).logits[-1], options)
    for row in rows[1:21]:
        assert float(row[6]) == pytest.approx(distribution[int(row[2])].item(), abs=1e-7)
    assert float(rows[21][6]) == pytest.approx(
        1 - sum(float(row[6]) for row in rows[1:21]), abs=1e-6
    )


def test_settings_that_are_off_are_not_compared_with_none(lab, state):
    assert "Without these settings" not in choice_views(lab, state, 1.0, 0, 1.0, 0, 10)[0]
    assert "Without these settings" in choice_views(lab, state, 0.9, 0, 1.0, 0, 10)[0]


def test_a_greedy_choice_draws_no_number(lab, state):
    assert "draws no random number" in choice_views(lab, state, 0, 0, 1, 0, 10)[2]


def test_the_draw_shown_is_the_token_that_generation_draws(lab, state):
    from gpt.generate import generate

    model = lab.registry.models["words"]
    step = next(generate(model, state["ids"], SamplingOptions(1, 1.0, None, 1.0, 77)))
    words = choice_views(lab, state, 1.0, 0, 1.0, 77, 10)[2]
    assert f"(id {step.token_id:,}," in words
    assert f"u = {step.uniform:.6f}" in words


def test_segments_fill_the_bar_in_id_order(lab):
    p = torch.tensor([0.004, 0.5, 0.002, 0.003, 0.4, 0.0, 0.091])
    segments = segments_of(lab, p)
    assert [own for _, _, own in segments] == [False, True, False, True, True]
    assert [label for label, _, own in segments if not own] == ["1 token", "2 tokens"]
    assert [width for _, width, _ in segments] == pytest.approx([0.004, 0.5, 0.005, 0.4, 0.091])


@pytest.mark.parametrize("query", [" the", "262"])
def test_a_token_is_found_by_text_or_id(lab, state, query):
    found = find_token(lab, state, query, 1.0, 0, 1.0)
    rank = rank_of(lab.run(state).logits[-1], 262)
    assert f"<bdi>{rank:,} of 50,257</bdi>" in found


def test_the_bar_as_a_table_ends_at_one(lab, state):
    rows = csv_of(choice_views(lab, state, 1.0, 0, 1.0, 0, 10)[2])
    assert rows[1][0] == "0.000000"
    assert float(rows[-1][1]) == pytest.approx(1, abs=1e-5)
    assert [row[0] for row in rows[2:]] == [row[1] for row in rows[1:-1]]


def test_a_token_that_does_not_exist_says_which_do(lab, state):
    with pytest.raises(ValueError, match="use 0 to 50,256"):
        find_token(lab, state, "50257", 1.0, 0, 1.0)


def test_the_ledger_shown_closes(lab, state):
    for mode in MODES:
        words, _, table = ledger_views(lab, state, " the", mode)
        rows = csv_of(table)
        logits = lab.run(state).logits[-1]
        target = logits[262] - (logits.max() if mode == LEAD else 0)
        assert float(rows[-1][3]) == pytest.approx(target.item(), abs=1e-3)
        assert f"is {target.item():.4f}.".replace("-", "−") in words


def test_the_rank_in_the_lens_is_the_rank_in_the_logits(lab, state):
    html = lens_html(lab, state, RANK, " the")
    rank = rank_of(lab.run(state).logits[-1], 262)
    column = html.split("The column of position")[-1]
    assert f"<bdi>{rank:,}</bdi>" in column.split("<tr>")[-1]


def test_a_text_of_several_tokens_is_not_one_chosen_token(lab, state):
    with pytest.raises(ValueError, match="type one token or an id"):
        lens_html(lab, state, RANK, "several words here")


def test_the_csv_of_a_head_holds_its_rows_and_says_masked(lab, state):
    _, words = head_views(lab, state, 1, 2, "scaled and masked", False)
    rows = csv_of(words)[1:]
    attention = lab.run(state).layer(1, "att.attention")[2]
    assert [row[1:].count("masked") for row in rows] == list(reversed(range(len(rows))))
    assert [row[1:].count("masked") for row in rows] == attention.eq(0).sum(-1).tolist()


def test_taking_out_the_first_token_leaves_its_column_out(lab, state):
    whole, _ = head_views(lab, state, 0, 0, "softmax", False)
    without, _ = head_views(lab, state, 0, 0, "softmax", True)
    assert np.array_equal(whole.data[1].z[:, 1:], without.data[1].z, equal_nan=True)


def test_a_layer_that_a_shallower_model_lacks_becomes_its_last(lab, state):
    _, words = head_views(lab, state, 7, 7, "softmax", False)
    assert "In layer 1, head 2," in words
    assert at_most(None, 3) == 0


def test_an_untrained_twin_has_the_same_configuration_and_other_weights(lab, state):
    other = other_state(lab, state, UNTRAINED, "", -1)
    assert lab.run(other).cfg == TEXTUAL
    assert lab.run(other).ids == lab.run(state).ids
    words, _, _ = comparison_views(lab, state, other, UNTRAINED)
    assert "KL(trained ‖ untrained)" in words


def test_a_prompt_compared_with_itself_is_equal(lab, state):
    other = other_state(lab, state, PROMPT, "Hello, I am a little", -1)
    words, _, _ = comparison_views(lab, state, other, PROMPT)
    assert "<span>0 nats over the whole vocabulary" in words


def test_a_sweep_reports_every_layer_and_ranks_every_head(lab, state):
    steps = list(sweep_views(lab, state, "", "zeros"))
    assert [f"Layer {i + 1} of 2" in step[0] for i, step in enumerate(steps[:2])] == [True, True]
    rows = csv_of(steps[-1][2])[1:]
    assert len(rows) == TEXTUAL.n_layers * TEXTUAL.n_heads
    sizes = [abs(float(row[2])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_a_sweep_before_the_first_run_says_what_to_do(lab):
    with pytest.raises(ValueError, match="Run the pass"):
        list(sweep_views(lab, None, "", "zeros"))


def test_attribution_is_measured_once_for_a_token_and_position(lab, state):
    first = last(mattered_views(lab, state, " a"))
    before = lab.registry.borrowed
    again = last(mattered_views(lab, state, " a"))
    assert lab.registry.borrowed == before
    assert again[2] == first[2]


def test_the_trace_file_holds_the_distinct_tensors(lab, state, tmp_path):
    with np.load(save_trace(lab, state, tmp_path)) as saved:
        assert saved["ids"].tolist() == state["ids"]
        assert np.array_equal(saved["logits"][0], lab.run(state).logits.numpy())
        assert "trf_blocks.0.att.attention" in saved
        assert "trf_blocks.1.resid_in" not in saved  # the very tensor of the block before


def test_trace_files_do_not_pile_up(lab, tmp_path):
    for n in range(KEPT_FILES + 2):
        save_trace(lab, lab.read("words", "a" * (n + 1)), tmp_path)
    assert len(list(tmp_path.iterdir())) == KEPT_FILES


def test_the_shapes_table_shows_the_line_itself(lab, state):
    html = shapes_html(lab, state)
    assert "gpt/model.py:" in html
    assert "record(trace, &quot;att_out&quot;, self.att(" in html
