"""The visit that all tabs share, and what Internals opens on."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.ui import internals
from gpt.ui.visit import MOST_MODELS, Shared, Visitor, steering_of

WIDE = replace(TINY, vocab_size=50257, context_length=200, emb_dim=6)


@pytest.mark.parametrize("given", [[[1, 2], [1, 3]], [[1, "2"]], [[1, -2]], [[1, True]], [5]])
def test_what_is_no_steering_is_one_line(given):
    with pytest.raises(ValueError, match=r"^steering is .*: use pairs of a position and a token"):
        steering_of(given)


def test_a_model_of_the_visitors_own_is_chosen_everywhere_and_the_newest_are_kept():
    with gr.Blocks():
        shared = Shared()
        first, second = gr.Dropdown(["a"]), gr.Dropdown(["a", "b"])
        shared.add_picker(first)
        shared.add_picker(second)
    visitor = Visitor()
    for number in [*range(MOST_MODELS + 2), 5]:
        updates = shared.use_model(visitor, f"Model {number}", f"random:{number}")
    assert updates[shared.tabs]["selected"] == "generation"
    assert updates[first]["value"] == updates[second]["value"] == "random:5"
    assert visitor.models[-1] == ("Model 5", "random:5")
    assert len(set(visitor.models)) == len(visitor.models) == MOST_MODELS
    assert len(updates[second]["choices"]) == 2 + MOST_MODELS


@pytest.fixture(scope="module")
def lab():
    with gr.Blocks():
        tab = internals.build(TinyRegistry({"wide": tiny_model(WIDE)}), source="wide")
    return tab.lab


def test_internals_opens_at_the_place_that_predicted_the_chosen_token(lab):
    ids = tuple(range(100, 300))
    visit = lab.given_by("wide", ids, 20)
    assert (visit.ids, visit.position) == (ids[:21], 19)
    late = lab.given_by("wide", ids, 180)
    assert (late.ids, late.position) == (ids[53:181], 126)
    nothing_chosen = lab.given_by("wide", ids, None)
    assert (nothing_chosen.ids, nothing_chosen.position) == (ids[:128], 127)
