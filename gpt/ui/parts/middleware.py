"""ASGI middleware of the page: answers that are kept, and requests that are too long."""

from typing import Any

from starlette.exceptions import HTTPException

MOST_BYTES = 16 * 2**20  # of all kept answers; beyond it they start anew
LONGEST_BODY = 8 * 2**20  # a pasted text of 2 MB as JSON, and everything else on the page
_FILES = ("/assets/", "/static/", "/theme.css")
_OTHER_ANSWER = {b"range", b"if-none-match", b"if-modified-since"}  # a part, or "not modified"


class KeptAnswers:
    """The page's HTML, scripts and styles, kept as they were sent the first time.

    They are the same for every visitor. gradio makes the HTML anew for each, 70 ms of processor
    time, and sends 90 files through its own middleware, 160 ms: thirty who open the page at once
    waited 6 s for that, and wait 0.7 s now (2-core AMD EPYC, AVX2; tests/benchmarks/arrivals.py).
    The outermost middleware: what it keeps passes by all others.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._kept: dict[Any, list[dict[str, Any]]] = {}
        self._bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        key = _key(scope)
        if key in self._kept:
            await _send_kept(self._kept[key], send)
            return
        messages: list[dict[str, Any]] = []

        async def send_and_keep(message: Any) -> None:
            messages.append(message)
            await send(message)

        await self._app(scope, receive, send_and_keep if key else send)
        self._keep(key, messages)

    def _keep(self, key: Any, messages: list[dict[str, Any]]) -> None:
        if messages and messages[0]["status"] == 200 and not messages[-1].get("more_body"):
            n_bytes = len(repr(key)) + sum(len(message.get("body", b"")) for message in messages)
            if self._bytes + n_bytes > MOST_BYTES:
                self._kept.clear()
                self._bytes = 0
            self._bytes += n_bytes
            self._kept[key] = messages


async def _send_kept(messages: list[dict[str, Any]], send: Any) -> None:
    """A function of its own: a fault in it is no forged request (gradio_patches.py)."""
    for message in messages:
        await send(message)


def _key(scope: Any) -> Any:
    """What an answer depends on; None if it is not one for everybody."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path, headers = scope["path"], scope["headers"]
    if (path != "/" and not path.startswith(_FILES)) or any(k in _OTHER_ANSWER for k, _ in headers):
        return None
    # The page names its own address, which a proxy tells; a file may be compressed.
    told = (b"host", b"origin", b"accept-encoding")
    seen = [pair for pair in headers if pair[0] in told or pair[0].startswith(b"x-forwarded-")]
    return scope["scheme"], path, scope["query_string"], *sorted(seen)


def small_bodies(app: Any) -> Any:
    """A body that is no upload and longer than LONGEST_BODY is answered with 413.

    gradio bounds uploads, and reads any other body whole: four requests of 100 MB took 2 GB and
    kept everybody waiting for two seconds.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LONGEST_BODY:
                raise HTTPException(413, f"a request may hold {LONGEST_BODY // 2**20} MiB.")
            return message

        free = scope["type"] != "http" or scope["path"].endswith("/upload")
        await app(scope, receive if free else bounded, send)

    return answer
