"""The visit that all tabs share: plain values, and what Internals opens on."""

from __future__ import annotations

import json
from dataclasses import replace

import gradio as gr
import pytest
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.ui import internals
from gpt.ui.visit import MOST_MODELS, Shared, Visit, Visitor

WIDE = replace(TINY, vocab_size=50257, context_length=200, emb_dim=6)


def test_a_visit_survives_json_and_leaves_out_what_is_empty():
    visit = Visit("gpt2", "Hello", {"top_k": 5}, 0, ((2, 7), (4, 9)), 12, 3, ids=(1, 2))
    plain = json.loads(json.dumps(visit.as_dict()))
    assert Visit.from_dict(plain) == replace(visit, ids=())
    assert Visit(model="gpt2").as_dict() == {"model": "gpt2"}
    assert Visit.from_dict({}) == Visit()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": 1}, "a visit has no 'colour': use model, prompt"),
        ({"seed": -1}, "seed is -1: use a whole number from 0"),
        ({"seed": True}, "seed is True"),
        ({"prompt": 5}, "prompt is 5: use a str"),
        ({"steering": [[1, 2], [1, 3]]}, "each position once"),
        ({"steering": [[1, "2"]]}, "use pairs of a position and a token id"),
        ({"steering": [5]}, "use pairs of a position and a token id"),
    ],
)
def test_what_no_visit_has_is_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        Visit.from_dict(given)


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
