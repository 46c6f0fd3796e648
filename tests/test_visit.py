"""The visit that all tabs share, and what Internals opens on."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from own_loop import run_async
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.ui import internals, tabs
from gpt.ui.visit import MOST_MODELS, Shared, Visitor, steering_of

WIDE = replace(TINY, vocab_size=50257, context_length=200, emb_dim=6)


@pytest.mark.parametrize("given", [[[1, 2], [1, 3]], [[1, "2"]], [[1, -2]], [[1, True]], [5]])
def test_what_is_no_steering_is_one_line(given):
    with pytest.raises(ValueError, match=r"^steering is .*: use pairs \(position, token id\)"):
        steering_of(given)


def test_a_million_pairs_of_steering_are_refused_before_they_are_sorted():
    """They held the page's loop, and so everybody, for four seconds."""
    with pytest.raises(ValueError, match="steering has 1,000,000 pairs: use at most 500"):
        steering_of([[0, 1]] * 1_000_000)


def test_a_model_of_a_forgotten_page_is_the_registry_s_to_refuse():
    """After a restart gradio refused the page's own model, and Generate stayed hidden for ever;
    later only after an event that has the picker among its outputs and leaves it alone.
    """
    with gr.Blocks() as demo:
        shared, picker = Shared(), gr.Dropdown(["a"])
        shared.add_picker(picker)
        picker.change(lambda _: gr.skip(), picker, picker)
    (event,), session = demo.fns.values(), SessionState(demo)
    for _ in range(2):
        given = run_async(demo.preprocess_data(event, ["random:seed=1"], session))
        assert given == ["random:seed=1"]
        run_async(demo.postprocess_data(event, gr.skip(), session))
    assert not picker.allow_custom_value  # the page has no box to type a name in


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


def test_a_model_that_was_downloaded_is_called_so_where_the_page_is_opened_next():
    """It said "0.55 GB to download" until the server was started again."""
    with gr.Blocks():
        shared, picker = Shared(), gr.Dropdown([("A", "a"), ("B, 0.55 GB to download", "b")])
        other = gr.Dropdown([("A", "a")])
        shared.add_picker(picker)
        shared.add_picker(other)
    assert shared.relabel({"a": "A"}) == {}
    now = {"a": "A", "b": "B, downloaded"}
    for _ in range(2):  # each page begins with the labels that it was built with
        (relabelled,) = shared.relabel(now).items()
        assert relabelled[0] is picker
        assert relabelled[1]["choices"] == [("A", "a"), ("B, downloaded", "b")]
    chosen = shared.use_model(Visitor(), "Mine", "random:1")[picker]["choices"]
    assert chosen == [("A", "a"), ("B, downloaded", "b"), ("Mine", "random:1")]


def test_a_new_tab_is_a_module_and_its_name(monkeypatch):
    """Before, it was an import, a block and a call in app.py, and a name in links.py too."""
    hello = SimpleNamespace(add_to=lambda page: gr.Markdown(f"Hello from {page.source}"))
    monkeypatch.setitem(sys.modules, "gpt.ui.hello", hello)
    monkeypatch.setattr(tabs, "TABS", ("hello",))
    with gr.Blocks() as demo:
        page = tabs.Page(TinyRegistry({}), "wide")
        page.add_tabs()
    assert page.tabs["hello"].value == "Hello from wide"
    assert [c.label for c in demo.blocks.values() if isinstance(c, gr.Tab)] == ["Hello"]


@pytest.fixture(scope="module")
def lab():
    with gr.Blocks():
        tab = internals.InternalsTab(TinyRegistry({"wide": tiny_model(WIDE)}), "wide", Shared())
    return tab.lab


def test_internals_opens_at_the_place_that_predicted_the_chosen_token(lab):
    ids = tuple(range(100, 300))
    visit = lab.given_by("wide", ids, 20)
    assert (visit.ids, visit.position, visit.before) == (ids[:21], 19, 0)
    late = lab.given_by("wide", ids, 180)
    # The chosen token was among the 128: its odds were of 127.
    assert (late.ids, late.position, late.before) == (ids[52:180], 127, 52)
    nothing_chosen = lab.given_by("wide", ids, None)
    assert (nothing_chosen.ids, nothing_chosen.position) == (ids[:128], 127)
