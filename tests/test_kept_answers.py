"""The page and its files are made once for all visitors, and sent as they were."""

from typing import Any

import pytest
from own_loop import run_async

from gpt.ui.parts import middleware
from gpt.ui.parts.middleware import KeptAnswers


class Counting:
    """An application that answers each request with its number, in two parts."""

    def __init__(self, status: int = 200, size: int = 0) -> None:
        self.asked, self.status, self.size = 0, status, size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % self.asked, "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * self.size})


def answer(kept: KeptAnswers, path: str = "/", method: str = "GET", **headers: str) -> str:
    """The body that a client gets."""
    body: list[bytes] = []

    async def send(message: Any) -> None:
        body.append(message.get("body", b""))

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "scheme": "http", "path": path, "headers": named}
    run_async(kept({**scope, "query_string": b""}, None, send))
    return b"".join(body).decode()


@pytest.mark.parametrize("path", ["/", "/assets/index.js", "/static/js/a.js", "/theme.css"])
def test_the_second_visitor_gets_what_was_made_for_the_first(path):
    """gradio took 70 ms of processor time for the page and 160 ms for its files, each visitor."""
    kept = KeptAnswers(Counting())
    assert [answer(kept, path), answer(kept, path)] == ["1", "1"]


@pytest.mark.parametrize(
    "other",
    [
        {"host": "b"},
        {"accept_encoding": "gzip"},
        {"x_forwarded_host": "b"},
        {"path": "/theme.css"},
    ],
)
def test_what_an_answer_depends_on_gives_one_of_its_own(other):
    """The page names its own address, which a proxy tells: no visitor may get another's."""
    kept = KeptAnswers(Counting())
    assert [answer(kept, **{"host": "a", **each}) for each in ({}, other, {})] == ["1", "2", "1"]


@pytest.mark.parametrize(
    "request_",
    [
        {"path": "/gradio_api/queue/data"},
        {"method": "POST"},
        {"range": "bytes=0-1"},
        {"if_none_match": "tag"},
    ],
)
def test_other_requests_pass(request_):
    kept = KeptAnswers(Counting())
    assert [answer(kept, **request_), answer(kept, **request_)] == ["1", "2"]


def test_an_error_is_not_kept():
    kept = KeptAnswers(Counting(status=500))
    assert [answer(kept), answer(kept)] == ["1", "2"]


def test_addresses_made_up_by_a_script_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(middleware, "MOST_BYTES", 1000)
    kept = KeptAnswers(Counting(size=300))
    for name in range(50):
        answer(kept, host=str(name))
        assert sum(len(m.get("body", b"")) for of in kept._kept.values() for m in of) <= 1000
    assert answer(kept, host="49").startswith("50")
    empty = KeptAnswers(Counting(size=0))  # only the address takes memory
    for name in range(50):
        answer(empty, host=f"{name}{'x' * 300}")
    assert len(empty._kept) <= 3


def test_an_opened_page_computes_nothing_for_tabs_that_are_not_shown(built):
    """Each visitor's page ran the model for Internals, planned a training and checked a
    configuration, 240 ms of processor time, before any of these tabs was shown."""
    page = built.config
    targets = [target for each in page["dependencies"] for target in each["targets"]]
    loaded = {block for block, event in targets if event == "load"}
    assert loaded
    assert not loaded & {component["id"] for component in page["components"]}  # the page's own
