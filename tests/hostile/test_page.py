"""What the page can be given and must answer in one line, and what it must log instead."""

import asyncio
import contextlib
import inspect
import time
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from own_loop import run_async

from gpt import SamplingOptions
from gpt.config import as_config
from gpt.ui.parts import gradio_patches
from gpt.ui.parts.errors import BUG, Blocks, of_event, one_line
from gpt.ui.parts.middleware import KeptAnswers, small_bodies


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
    with pytest.raises(gr.Error) as raised, one_line():
        bug()
    assert raised.value.message == BUG
    assert raised.value.print_exception
    assert raised.value.__cause__ is not None


def test_a_mistake_is_its_own_line_and_not_logged():
    with pytest.raises(gr.Error) as raised, one_line():
        SamplingOptions(temperature=-1)
    assert raised.value.message.startswith("temperature is -1: use 0 (greedy) to")
    assert not raised.value.print_exception


def test_what_a_visitor_wrote_is_no_markup_in_a_toast():
    """A JSON key such as `<h1>` became a heading over the page."""
    with pytest.raises(gr.Error) as raised, one_line():
        as_config({"<h1>Pay here</h1>": 1})
    assert raised.value.message.startswith(
        "unknown configuration key '&lt;h1&gt;Pay here&lt;/h1&gt;'"
    )


def call():
    SamplingOptions(top_k=-1)


async def acall():
    call()


def write_forever():
    yield 1
    call()


async def awrite_forever():
    yield 1
    call()


@pytest.mark.parametrize("handler", [call, acall, write_forever, awrite_forever])
def test_every_kind_of_handler_answers_in_one_line(handler):
    with Blocks() as page:
        gr.Button().click(handler, None, gr.Textbox())

    async def run():
        begun = await page.call_function(0, [])
        await page.call_function(0, [], iterator=begun["iterator"])

    with pytest.raises(gr.Error, match="top_k is -1: use a whole number of at least 1"):
        run_async(run())


@pytest.fixture(scope="module")
def demo(built, app_url):
    return built


def typed_in(demo, function):
    """The inputs of an event that a visitor types; none if the event itself carries data."""
    given = inspect.signature(function.fn).parameters.values()
    if any("Data" in str(parameter.annotation) for parameter in given):
        return []
    kinds = (gr.Number, gr.Slider, gr.Textbox)
    return [block for block in function.inputs if isinstance(block, kinds) and block.elem_id]


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, ""), (-1, "-1"), (1e308, "<b>&\0\u202e" * 9_000)],
    ids=["emptied", "negative", "huge"],
)
def test_every_event_answers_what_is_typed_within_a_second_and_without_a_traceback(
    demo, number, text
):
    """1e308 heads became the step of a slider, beyond 64 bits: the page's stream of events broke.

    The log is searched for tracebacks in tests/conftest.py, as for every test.
    """
    unanswered, slow = [], []

    def data(function):
        return [
            (text if isinstance(block, gr.Textbox) else number)
            if block in typed_in(demo, function)
            else None if isinstance(block, gr.State) else getattr(block, "value", None)
            for block in function.inputs
        ]  # fmt: skip

    async def all_events():
        async with httpx.AsyncClient(base_url=demo.local_url, timeout=60) as client:
            for function in [f for f in demo.fns.values() if f.fn and typed_in(demo, f)]:
                started = time.process_time()
                failed = await answer(client, function, data(function), f"hostile{function._id}")
                unanswered.extend([(function.name, failed)] if failed else [])
                slow.extend([function.name] if time.process_time() - started > 1 else [])
                await asyncio.sleep(0)

    run_async(all_events())
    assert unanswered == []
    assert slow == []


async def answer(client, function, data, session):
    """Why an event got no answer; "" if it got one, of whatever kind."""
    sent = {"data": data, "fn_index": function._id, "session_hash": session}
    query = {"session_hash": session}
    try:
        joined = await client.post("/gradio_api/queue/join", json=sent)
        if joined.status_code != 200:
            return joined.text
        async with client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            async for line in stream.aiter_lines():
                if "process_completed" in line:
                    return ""
    except httpx.HTTPError as error:
        return str(error)
    return "the stream ended"


def no_inputs(block):
    return []


def objects(block):
    return [{"a": [1]}]


def objects_beside_choices(block):
    """What gradio lets pass, to handlers: a value that is no choice it refuses itself."""
    first = isinstance(block, (gr.Dropdown, gr.Radio, gr.File, gr.UploadButton))
    return [block.value if first else {"a": [1]}]


@pytest.mark.parametrize("sent", [no_inputs, objects, objects_beside_choices])
def test_every_event_answers_what_only_a_script_sends_without_a_traceback(
    demo, sent, capfd, caplog
):
    """Each was gradio's traceback, or one of a handler that took a text for granted."""
    unanswered, session = [], sent.__name__

    async def all_events():
        async with httpx.AsyncClient(base_url=demo.local_url, timeout=60) as client:
            functions = [f for f in demo.fns.values() if f.fn and f.inputs]
            looks = [f for f in functions if f.name == "look"]
            (look,) = [f for f in looks if "int-prompt" in [b.elem_id for b in f.inputs]]
            now = {"int-prompt": "Hi", None: None}  # else no section has a pass
            data = [now.get(b.elem_id, getattr(b, "value", None)) for b in look.inputs]
            assert await answer(client, look, data, session) == ""
            for function in functions:
                data = [value for block in function.inputs for value in sent(block)]
                failed = await answer(client, function, data, session)
                unanswered.extend([(function.name, failed)] if failed else [])

    run_async(all_events())
    assert unanswered == []
    assert "Traceback" not in capfd.readouterr().err
    refused = caplog.text.count("a request that this page does not make: ")
    assert (refused > 20) == (sent is not objects_beside_choices)


def test_an_event_of_the_pages_script_asks_nothing_of_the_server(demo, capfd):
    """Asked for, one was gradio's IndexError with its traceback: as if the page had a fault."""
    (function, *_) = [f for f in demo.fns.values() if not f.fn]

    async def ask():
        async with httpx.AsyncClient(base_url=demo.local_url, timeout=60) as client:
            data = [getattr(block, "value", None) for block in function.inputs]
            assert await answer(client, function, data, "a script") == ""

    run_async(ask())
    assert "Traceback" not in capfd.readouterr().err


JOIN = ("POST", "/gradio_api/queue/join")
FORGED = {
    "no such event": (*JOIN, b'{"data": [], "fn_index": 99999, "session_hash": "a"}'),
    "a number of 4,000 digits": (
        *JOIN, b'{"data": [], "fn_index": ' + b"9" * 4000 + b', "session_hash": "a"}'
    ),
    "no number": (*JOIN, b'{"data": NaN, "fn_index": 0, "session_hash": "a"}'),
    "half a character": (*JOIN, b'{"data": [], "fn_index": "\\ud800", "session_hash": "a"}'),
    "no such name": ("POST", "/gradio_api/run/nosuch", b'{"data": []}'),
    "no such call": ("POST", "/gradio_api/call/nosuch", b'{"data": []}'),
    "no such keyword": ("POST", "/gradio_api/call/v2/generate", b'{"prompt": "a", "x": 1}'),
    "nobody's stream": ("GET", "/gradio_api/queue/data?session_hash=nobody", None),
    "no such component": (
        "POST",
        "/gradio_api/component_server",
        b'{"session_hash": "a", "component_id": 99999, "fn_name": "x", "data": 1}',
    ),
    "a long name": ("GET", "/assets/" + "x" * 5000, None),
    "an odd proxy": ("GET", "/gradio_api/proxy=http://[::1", None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_request_is_one_line_in_the_log(demo, name, capfd, caplog):
    """Each of them was a traceback of a hundred lines."""
    method, path, content = FORGED[name]
    kind = {"content-type": "application/json"}
    started = time.process_time()
    with contextlib.suppress(httpx.HTTPError):
        httpx.request(method, demo.local_url.rstrip("/") + path, content=content, headers=kind)
    httpx.get(f"{demo.local_url}robots.txt")  # the line is there by then
    assert time.process_time() - started < 1
    log = [*capfd.readouterr().err.splitlines(), *caplog.text.splitlines()]
    assert log
    assert [line for line in log if "a request that this page does not make: " not in line] == []


def test_a_fault_of_the_page_keeps_its_traceback(capfd):
    """Of a handler, of what one returns or streams, of what every request passes by.

    A kept answer that was sent wrongly was one line that told of a script.
    """

    def postprocess_data():
        raise TypeError("of what a handler returned")

    def streamed():
        class Odd:
            __eq__ = None

        gradio_patches._whole_updates(Odd(), Odd())

    def middleware():
        run_async(small_bodies(None)({"type": "http"}, None, None))  # it asks for a path

    def kept_answer():
        async def page(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})

        async def take(message):
            """The first visitor's answer is kept."""

        async def refuse(message):
            raise RuntimeError("this is no answer")

        async def both():
            kept, scope = KeptAnswers(page), {"type": "http", "method": "GET", "path": "/"}
            scope |= {"headers": [], "scheme": "http", "query_string": b""}
            await kept(scope, None, take)
            await kept(scope, None, refuse)

        run_async(both())

    faults = (a_mistake_of_the_package, postprocess_data, streamed, middleware, kept_answer)
    for fault in faults:
        try:
            fault()
        except Exception:
            gradio_patches._print_exc()
        assert "Traceback" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:Expected")
def test_a_handler_that_cannot_be_called_keeps_its_traceback(capfd):
    """It was one line that told of a script: gradio calls a handler, so no frame is ours."""
    with gr.Blocks() as page:
        box = gr.Textbox()
        box.change(lambda: None, box)
    try:
        run_async(page.process_api(page.fns[0], ["x"]))
    except TypeError:
        gradio_patches._print_exc()
    assert "takes 0 positional arguments but 1 was given" in (told := capfd.readouterr().err)
    assert "Traceback" in told


def a_mistake_of_the_package():
    as_config({"width": 3})


@pytest.mark.parametrize("forged", [{}, {"position": None}, {"position": [1]}, {"position": "x"}])
def test_an_event_without_its_data_is_refused_and_not_logged(forged):
    """By hand to the queue: a traceback for each."""
    with pytest.raises(gr.Error, match="the event has no position") as refused:
        of_event(SimpleNamespace(**forged), "position")
    assert not refused.value.print_exception
