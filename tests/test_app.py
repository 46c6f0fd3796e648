"""The page as a whole: its three endpoints, its ids, its limits, its command line."""

import asyncio
import gc
import gzip
import importlib.util
import inspect
import io
import json
import re
import socket
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from types import SimpleNamespace

import gradio
import gradio.routes
import httpx
import pytest
import torch
from gradio.utils import get_upload_folder
from gradio_client import Client
from own_loop import run_async
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse
from tiny_models import TINY, tiny_model

import app
import gpt
from gpt.checkpoints.sources import config_of
from gpt.generate import generate
from gpt.serving.registry import Registry
from gpt.ui.generation.settings import OPENING
from gpt.ui.internals.section import Desk
from gpt.ui.links import SIZES_AT_FIRST
from gpt.ui.page_bar import copied_code, copied_link
from gpt.ui.parts.gradio_patches import SEARCHED, patch_gradio
from gpt.ui.visit import Visitor

ROOT = Path(__file__).resolve().parent.parent
ELEMENTS = """
gen-prompt gen-max-new-tokens gen-device gen-temperature gen-top-k gen-top-p gen-seed gen-run
gen-stop gen-output gen-stats gen-model gen-precision
arch-preset arch-vocab_size arch-context_length arch-emb_dim arch-n_heads arch-n_layers
arch-drop_rate arch-qkv_bias arch-tie_weights arch-total arch-table arch-plot
int-prompt int-position int-run int-logits int-softmax int-table int-model
int-strip int-rail int-merges int-patch
"""
IDS = ELEMENTS.split()


@pytest.fixture(scope="module")
def demo(built):
    return built


@pytest.fixture(scope="module")
def url(app_url):
    return app_url


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


def test_every_promised_element_is_there_once(demo):
    found = [
        component["props"].get("elem_id") for component in demo.get_config_file()["components"]
    ]
    assert {name: found.count(name) for name in IDS} == dict.fromkeys(IDS, 1)


def test_no_event_has_two_functions_that_wait_for_its_last_value(demo):
    """After a preset and Reset the Architecture tab sent seven requests a second, for ever.

    Gradio's page answers a missed "always_last" event by repeating it for all that hear it.
    """
    events = demo.get_config_file()["dependencies"]
    waiting = [event["targets"] for event in events if event["trigger_mode"] == "always_last"]
    heard = [tuple(target) for targets in waiting for target in targets if target[1] != "load"]
    heard = [target for target in heard if target[0] is not None]  # None: after another event
    assert len(heard) > 20
    assert sorted(heard) == sorted(set(heard))


def test_an_event_that_shows_no_progress_names_no_place_for_it(demo):
    """Each step of every event, a token too, copied all tabs in the browser: half a second.

    The event of a link has the row of tabs among its outputs, and runs when the page is opened.
    """
    hidden = [fn for fn in demo.config["dependencies"] if fn["show_progress"] == "hidden"]
    assert hidden
    assert {str(fn["show_progress_on"]) for fn in hidden} == {"[]"}


def test_an_event_that_shows_progress_shows_it_in_one_place(demo):
    """One error was three pills "Error", over the results, and a load three bars of progress."""
    shown = [
        (fn.name, fn.show_progress_on)
        for fn in demo.fns.values()
        if fn.fn and fn.show_progress != "hidden" and fn.outputs
    ]
    assert len(shown) > 5
    assert [name for name, places in shown if len(places or ()) != 1] == []


@pytest.mark.parametrize("name", ["gen-reset", "arch-reset", "train-reset", "int-choice-reset"])
def test_reset_gives_each_control_what_it_had_at_first(demo, name):
    """Generation's left the device as it was, and another temperature there was seen by no test."""
    (reset,) = [
        fn
        for fn in demo.fns.values()
        if fn.fn
        and [(demo.blocks[i].elem_id, event) for i, event in fn.targets if i in demo.blocks]
        == [(name, "click")]
    ]
    given = reset.fn()
    given = given if isinstance(given, dict) else dict(zip(reset.outputs, given, strict=True))
    values = [v["value"] if isinstance(v, dict) else v for v in map(given.get, reset.outputs)]
    found = dict(zip([box.elem_id for box in reset.outputs], values, strict=True))
    assert found == {box.elem_id: box.value for box in reset.outputs}
    assert {"gen-device", "gen-seed"} <= set(found) or name != "gen-reset"


def test_a_link_fills_the_box_of_the_stop_text_and_not_the_button(demo):
    """The Stop button got an opened link's stop text as its label, and the box stayed empty."""
    opened = [
        {component.elem_id for component in fn.outputs}
        for fn in demo.fns.values()
        if fn.name == "opened"
    ]
    (filled,) = [ids for ids in opened if "gen-prompt" in ids]
    assert "gen-stop-text" in filled
    assert "gen-stop" not in filled


def opened_by(demo, **query):
    """What a link with these parameters puts into Generation's controls, by id; the visitor."""
    handlers = [fn for fn in demo.fns.values() if fn.name == "opened"]
    (opened,) = [fn.fn for fn in handlers if "gen-prompt" in {c.elem_id for c in fn.outputs}]
    visitor = Visitor()
    visitor.visit = OPENING
    shown = opened(visitor, Desk(open=set()), SimpleNamespace(query_params=query))
    return {component.elem_id: value for component, value in shown.items()}, visitor


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"tokens": "7"}, 7),
        ({"max_new_tokens": "9"}, 9),
        ({"tokens": "7", "max_new_tokens": "9"}, 7),
        ({"tokens": "0", "max_new_tokens": "9"}, 9),
        ({"tokens": "9999"}, None),
    ],
)
def test_a_link_to_a_text_sets_the_limit_that_its_text_has(demo, given, limit):
    """Without `tokens` the text had the link's limit and the slider another one; 0 and 9,999
    were set, which the next press of Generate refused."""
    text = {"model": "storyteller", "prompt": "A fox", "seed": "3"}
    shown, visitor = opened_by(demo, **text, **given)
    assert shown.get("gen-max-new-tokens") == limit
    assert visitor.visit.tokens in (None, limit)


@pytest.mark.parametrize("given", [{"model": "gpt2"}, {"prompt": "A fox"}, {"prompt": ""}])
def test_what_is_copied_where_a_link_opened_no_text_is_no_text(demo, given):
    """It was the page's opening text, which was not there, or a program of a model without name."""
    _, visitor = opened_by(demo, seed="3", **given)
    desk, sizes = Desk(open=set()), SIZES_AT_FIRST.values()
    link = copied_link("http://here/", "generation", visitor, desk, *sizes)
    assert "king" not in link
    with pytest.raises(ValueError, match="press Generate first"):
        copied_code(visitor)


def test_no_handlers_event_is_none_by_default(demo):
    """On Python 3.10 "use this" did nothing.

    There a default of None makes a type Optional, and gradio knows an event by its very type.
    """
    read = [
        (function.name, parameter.default)
        for function in demo.fns.values()
        if function.fn
        for parameter in inspect.signature(function.fn).parameters.values()
        if "EventData" in str(parameter.annotation)
    ]
    assert len(read) > 10
    assert [name for name, default in read if default is None] == []


def test_no_event_that_waits_for_its_last_value_reads_the_events_data(demo):
    """Two arrow keys on the chips while the text streamed: the panel stayed at the first chip.

    Gradio's page repeats a missed "always_last" event with the data of the one before.
    """
    reading = [
        function
        for function in demo.fns.values()
        if function.fn
        and any(
            "Data" in str(p.annotation) for p in inspect.signature(function.fn).parameters.values()
        )
    ]
    assert len(reading) > 10
    assert [f.name for f in reading if f.trigger_mode == "always_last"] == []


def test_only_the_three_named_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(endpoints) == ["/architecture", "/generate", "/internals"]
    for endpoint in endpoints.values():
        required = [p for p in endpoint["parameters"] if not p["parameter_has_default"]]
        assert len(required) <= 1, "all but the prompt have defaults"


def test_the_endpoint_writes_the_books_nonsense(client):
    result = client.predict(
        prompt="Hello, I am", max_new_tokens=6, temperature=0, model="book-124M",
        api_name="/generate",
    )  # fmt: skip
    assert result[0] == " Featureiman Byeswickattribute argue"


def test_direct_calls_that_pass_by_the_queue_are_refused(url):
    """POST /gradio_api/run/<name> would let one visitor starve all others."""
    request = urllib.request.Request(
        f"{url}gradio_api/run/generate",
        data=json.dumps({"data": ["Hello", 1, "cpu", 0, 0, 1, 1, "book-124M"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 404
    assert "does not accept direct HTTP POST requests" in refused.value.read().decode()


def test_a_huge_request_is_refused_before_it_is_read(url):
    """Four of 100 MB took 2 GB, and everybody waited for two seconds."""
    sent = {"data": ["x" * 9 * 2**20], "fn_index": 0, "session_hash": "huge"}
    answer = httpx.post(f"{url}gradio_api/queue/join", json=sent)
    assert answer.status_code == 413
    assert "a request may hold 8 MiB" in answer.text


def test_the_page_is_sent_compressed(url):
    """The HTML was 324 kB on the wire, more than a third of the first load."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request) as answer:
        body = answer.read()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(body) < 65_000 < len(gzip.decompress(body)) / 4


def test_a_compressed_event_reaches_the_reader_before_the_next_is_made():
    """A compressor that is not flushed holds events back until its buffer is full."""
    read, reader = asyncio.Event(), zlib.decompressobj(16 + zlib.MAX_WBITS)

    async def two_events(scope, receive, send):
        async def events():
            yield "data: first" + " " * 2000
            await asyncio.wait_for(read.wait(), 10)
            yield "data: second"

        await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)

    async def send(message):
        assert dict(message.get("headers", [])).get(b"content-encoding", b"gzip") == b"gzip"
        if b"first" in reader.decompress(message.get("body", b"")):
            read.set()

    compressed = GZipMiddleware(two_events, **app.COMPRESSION.kwargs)
    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    scope |= {"asgi": {"spec_version": "2.4"}}
    run_async(compressed(scope, asyncio.Event().wait, send))
    assert reader.eof


def test_the_page_is_launched_quiet_and_limited(demo, url):
    config = demo.get_config_file()
    assert demo.analytics_enabled is False
    assert demo.api_open is False
    assert demo.max_file_size == 2 * 1024**2  # a text to train on
    assert demo.state_session_capacity == app.MAX_VISITORS
    assert demo._queue.max_size >= 200  # waiting events of all visitors together
    assert config["enable_queue"]


@pytest.fixture(scope="module")
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "gpt5"], "there is no model 'gpt5': use "),
        (["--model=~nosuchuser/x"], "no such user"),
        (["--model", "x" * 90_000], "app.py: "),
        (["--port", "0"], "port 0 does not exist: use 1 to 65535"),
        (["--port", "70000"], "port 70000 does not exist: use 1 to 65535"),
        (["--port", "TAKEN"], "(Address already in use): use another"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--host", "a" * 300], "cannot listen on aaa"),
        (["--cluster", "no.such.host.invalid:1"], "no Ray cluster at no.such.host.invalid:1 ("),
        (["--cluster", "127.0.0.1:1"], "(Connection refused)"),
        (["--cluster", "nosuch"], "use auto or HOST:PORT"),
        (["--config", "x.json"], "name it by --model"),
        (["--model", "storyteller", "--config", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(
    arguments, reason, taken_port, capsys, monkeypatch
):
    """A port in use, a bad port and an unknown host were gradio's tracebacks; Ray looked for an
    unknown cluster for two minutes and then ended the process.
    """
    monkeypatch.setattr(app, "launch", lambda *_, **__: pytest.fail("it was served"))
    monkeypatch.setattr(app.all_cores, "start", lambda: None)
    with pytest.raises(SystemExit) as caught:
        app.main([argument.replace("TAKEN", str(taken_port)) for argument in arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("app.py: ")
    assert reason in error
    assert error.count("\n") == 1
    assert len(error) < 600


def test_a_checkpoint_without_configuration_is_served_with_one(folder, tmp_path, monkeypatch):
    """A shell leaves `--model=~/mine` as it is, and the page knew no such model."""
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(tiny_model().state_dict(), tmp_path / "mine.pth")
    weights, served, frozen = "~/mine.pth", [], []
    monkeypatch.setattr(
        app, "launch", lambda demo, **where: served.append((demo, where["server_name"]))
    )
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(len(served)))  # not for all tests
    monkeypatch.setattr(app.all_cores, "start", lambda: None)
    given = ["--host", ""]  # was checked as 127.0.0.1, but passed on
    app.main([f"--model={weights}", "--config", str(folder / "config.json"), *given])
    # Else the collector stops every visitor's text for 0.2 s, to look at 360,000 objects.
    assert frozen == [1]  # once the page is there
    [(demo, host)] = served
    assert host is None
    assert any(weights in str(block.get("props")) for block in demo.config["components"])
    registry = Registry(paths={weights: TINY})
    with registry.borrow(weights, "cpu", "float32") as model:
        assert model.cfg == TINY


def test_a_console_that_is_not_utf8_is_told_what_it_can_show(tmp_path, monkeypatch):
    """The page did not start: the name of a folder for downloads was no ASCII."""
    (tmp_path / "日本").write_text("a file where the folder would be")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "日本" / "gradio"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(app, "build_demo", lambda *_: SimpleNamespace(block_thread=lambda: None))
    monkeypatch.setattr(app, "launch", lambda *_, **__: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(app.all_cores, "start", lambda: None)
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    app.main([])
    console.flush()
    assert b"??/gradio cannot be written" in console.buffer.getvalue()


def test_the_command_line_has_the_promised_flags():
    args = app.parse_arguments(["--host", "0.0.0.0", "--port", "1", "--share", "--device", "cuda"])
    assert (args.host, args.port, args.share, args.device) == ("0.0.0.0", 1, True, "cuda")


def test_the_readme_names_every_room_of_the_package():
    tree = (ROOT / "README.md").read_text().split("## Read it")[1].split("## Host it")[0]
    places = [path.name for path in (ROOT / "gpt").iterdir() if path.suffix in ("", ".py")]
    assert [n for n in places if n not in tree and n not in ("__init__.py", "__pycache__")] == []


@pytest.mark.parametrize("page", ["README.md", "assets/storyteller/README.md"])
def test_every_local_link_of_a_page_leads_somewhere(page):
    """The README showed a screenshot and linked a card that were not in the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_a_temporary_folder_of_another_user_is_told_and_replaced(tmp_path, monkeypatch):
    """Every download failed where another user had started gradio first."""
    (tmp_path / "taken").write_text("a file where the folder would be")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "own"))
    assert app.own_temporary_folder() == ""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "taken" / "gradio"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "taken/gradio cannot be written" in app.own_temporary_folder()
    assert Path(get_upload_folder()).parent == tmp_path


def test_the_bundled_model_is_small_enough_and_the_one_its_card_describes():
    folder = ROOT / "assets" / "storyteller"
    weights = folder / "model.safetensors"
    card = (folder / "README.md").read_text()
    assert weights.stat().st_size <= 32 * 2**20
    assert f"{weights.stat().st_size:,} bytes" in card
    assert f"{gpt.count_parameters(config_of('storyteller')).total:,} parameters" in card


def test_the_bundled_model_writes_words_of_its_books(tokenizer):
    model = gpt.load_model("storyteller")
    options = gpt.SamplingOptions(max_new_tokens=80, temperature=0.8, seed=7)
    prompt = tokenizer.encode("Once upon a time there was a king who")
    text = tokenizer.decode(step.token_id for step in generate(model, prompt, options))
    words = set(re.findall(r"[a-z]+", text.lower()))
    assert len(words & {"the", "and", "he", "his", "to", "was", "of", "had"}) >= 5


def test_gradio_still_imports_packages_that_are_not_there_at_every_event(monkeypatch):
    """If this fails after an update: see gpt/ui/parts/gradio_patches.py, and drop what it mends."""
    for name in SEARCHED:
        if sys.modules.get(name, None) is None:
            monkeypatch.delitem(sys.modules, name, raising=False)
    patch_gradio(gradio.Blocks())
    for name in SEARCHED:
        assert name in sys.modules or importlib.util.find_spec(name) is not None
    assert "import matplotlib" in inspect.getsource(gradio.utils.MatplotlibBackendMananger)
    assert "import bokeh" in inspect.getsource(gradio.Plot.get_config)
