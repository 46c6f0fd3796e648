"""What the page can be given and must answer in one line, and what it must log instead."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from own_loop import run_async

from gpt import SamplingOptions
from gpt.config import as_config
from gpt.ui.parts.errors import BUG, one_line_errors


def our_zip():
    return list(zip([1], [1, 2], strict=True))


def our_unpacking():
    one, two = [1]
    return one, two


def numpys_own():
    return np.zeros((2, 3)) @ np.zeros((2, 3))


def a_missing_key():
    return {}["temperature"]


@pytest.mark.parametrize("bug", [our_zip, our_unpacking, numpys_own, a_missing_key])
def test_a_bug_of_ours_is_logged_and_not_shown_as_the_visitors_mistake(bug):
    """Every ValueError was a toast: "zip() argument 2 is longer than argument 1", unlogged."""
    with pytest.raises(gr.Error) as raised:
        one_line_errors(bug)()
    assert raised.value.message == BUG
    assert raised.value.print_exception
    assert raised.value.__cause__ is not None


def test_a_mistake_is_its_own_line_and_not_logged():
    with pytest.raises(gr.Error) as raised:
        one_line_errors(SamplingOptions)(temperature=-1)
    assert raised.value.message.startswith("temperature is -1: use 0 (greedy) or more")
    assert not raised.value.print_exception


def test_what_a_visitor_wrote_is_no_markup_in_a_toast():
    """A JSON key such as `<h1>` became a heading over the page."""
    with pytest.raises(gr.Error) as raised:
        one_line_errors(lambda: as_config({"<h1>Pay here</h1>": 1}))()
    assert raised.value.message.startswith(
        "unknown configuration key '&lt;h1&gt;Pay here&lt;/h1&gt;'"
    )


def write_forever():
    yield 1
    SamplingOptions(top_k=-1)


async def awrite_forever():
    yield 1
    SamplingOptions(top_k=-1)


async def acall():
    SamplingOptions(top_k=-1)


async def first_two(updates):
    return [await anext(updates), await anext(updates)]


@pytest.mark.parametrize(
    "run",
    [
        lambda: list(one_line_errors(write_forever)()),
        lambda: run_async(first_two(one_line_errors(awrite_forever)())),
        lambda: run_async(one_line_errors(acall)()),
    ],
    ids=["generator", "async generator", "coroutine"],
)
def test_every_kind_of_handler_answers_in_one_line(run):
    with pytest.raises(gr.Error, match="top_k is -1: use a whole number of at least 1"):
        run()


def test_closing_a_wrapped_async_generator_closes_the_one_inside():
    """Stop closes the outer one: the row of the run must be free at once."""
    closed = []

    async def inside():
        try:
            yield 1
        finally:
            closed.append(True)

    async def close():
        updates = one_line_errors(inside)()
        await anext(updates)
        await updates.aclose()
        return list(closed)

    assert run_async(close()) == [True]
