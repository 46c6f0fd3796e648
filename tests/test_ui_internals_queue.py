"""The Internals tab's queue: what a click costs the other visitors."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.tokenizer import Tokenizer
from gpt.ui.internals import build
from gpt.ui.internals.sections import Page, Section, next_turn

STATE = {"source": "words", "ids": [1, 2], "position": 1}


@pytest.fixture(scope="module")
def events():
    """Every event of the tab with the ids of what changes to start it."""
    with gr.Blocks() as demo:
        build(TinyRegistry({"words": tiny_model(replace(TINY, vocab_size=50257))}), Tokenizer())
    return demo


def started_by(demo, kind):
    """The events that a change of a component of this kind starts, by its id."""
    found: dict[int, list[gr.blocks.BlockFunction]] = {}
    for event in demo.fns.values():
        for source, name in event.targets:
            if name == "change" and isinstance(demo.blocks[source], kind):
                found.setdefault(source, []).append(event)
    return found


def test_a_run_or_a_click_alone_starts_no_model_event(events):
    """The state of the visit starts the most events; none of them waits among model events."""
    started = max(started_by(events, gr.State).values(), key=len)
    assert len(started) >= 15
    assert [event for event in started if event.concurrency_id == "model"] == []
    asking = [event for event in started if event.name == "next_turn"]
    assert len(asking) == 5  # vectors, lens, ledger, what mattered, what if: a cheap look each
    assert {event.concurrency_limit for event in asking} == {None}
    refused = [event for event in started if event.queue is False and len(event.inputs) > 2]
    assert refused == []  # a control's bad value is one line only where there is a queue


def test_no_control_starts_a_model_event_without_asking_for_a_turn(events):
    started = [event for group in started_by(events, gr.components.FormComponent).values()
               for event in group]  # fmt: skip
    assert started
    assert [event for event in started if event.concurrency_id == "model"] == []


@pytest.mark.parametrize(("opened", "state"), [(False, STATE), (True, None), (False, None)])
def test_a_closed_section_or_one_before_the_first_run_asks_for_no_turn(opened, state):
    assert next_turn(opened, state) == gr.skip()


def test_every_turn_of_an_open_section_is_a_change():
    turns = [next_turn(True, STATE) for _ in range(3)]
    assert len(set(turns)) == 3


def test_a_model_reading_starts_with_its_turn_and_stays_in_the_model_queue():
    with gr.Blocks() as demo:
        page = Page(None, gr.State(None))
        with Section(page, "A section", "some-id") as part:
            view = gr.HTML()
        event = part.wire(lambda state: "read", [], [view], with_model=True)
    reading = demo.fns[event["id"]]
    assert reading.concurrency_id == "model"
    [(source, name)] = reading.targets
    asking = [each for each in demo.fns.values() if each.name == "next_turn"]
    assert [[out._id for out in each.outputs] for each in asking] == [[source]]
    assert name == "change"
