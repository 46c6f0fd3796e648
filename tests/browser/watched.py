"""A page whose faults a test sees: console errors, and requests to other hosts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from playwright import sync_api

PATIENCE = 120_000  # ms for whatever is awaited: only a test that fails takes as long
WIDE = {"width": 1280, "height": 1000}
HERE = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:")
EVENTS = ("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/run/")
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# How much of the page has moved so far; good is less than 0.1.
MOVED = """() => new Promise((done) => {
  const told = new PerformanceObserver((list) => done(list.getEntries().reduce(
    (sum, each) => sum + (each.hadRecentInput ? 0 : each.value || 0), 0)));
  told.observe({type: 'layout-shift', buffered: true});
  told.observe({type: 'navigation', buffered: true});  // there is always one
})"""
# Nothing moves, and what a page does in each frame it does 20 times a second: gradio writes the
# seconds of each event that runs into each part of the page that waits for it.
CALM = """
window.requestAnimationFrame = (next) => setTimeout(() => next(performance.now()), 50);
window.cancelAnimationFrame = clearTimeout;
const still = new CSSStyleSheet();
still.replaceSync('* { animation: none !important; transition: none !important; }');
document.adoptedStyleSheets.push(still);
"""
_problems = WeakKeyDictionary()  # of a tab: what it should not have done
QUEUES = []  # of the apps that the tests started
_running = WeakKeyDictionary()  # of a tab: requests of events that are on their way


def watched(tab):  # type: ignore[no-untyped-def]
    """The tab, from now on with an eye on what it asks for and what it complains about."""
    tab.set_default_timeout(PATIENCE)
    tab.emulate_media(reduced_motion="reduce")
    tab.add_init_script(CALM)
    problems, running = _problems[tab], _running[tab] = [], set()

    def asked(request):  # type: ignore[no-untyped-def]
        if not request.url.startswith(HERE):
            problems.append(f"other host: {request.url}")
        if any(part in request.url for part in EVENTS):
            running.add(request)

    def said(message):  # type: ignore[no-untyped-def]
        if message.type == "error":
            problems.append(f"console: {message.text}")

    tab.on("request", asked)
    tab.on("requestfinished", lambda request: running.discard(request))
    tab.on("requestfailed", lambda request: running.discard(request))
    tab.on("console", said)
    tab.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    tab.on("dialog", lambda dialog: problems.append(f"a script ran: {dialog.message}"))
    return tab


class expect:
    """playwright's `expect`, which looks twice a second in a long wait: here ten times.

    It leaves out its pauses that are longer than a fifth of the time that it has.
    """

    def __init__(self, what) -> None:  # type: ignore[no-untyped-def]
        self._assertions = sync_api.expect(what)

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        def patiently(*args, **options) -> None:  # type: ignore[no-untyped-def]
            deadline = time.monotonic() + PATIENCE / 1000
            while True:
                try:
                    return getattr(self._assertions, name)(*args, timeout=2_000, **options)
                except AssertionError:
                    if time.monotonic() > deadline:
                        raise

        return patiently


def settle(tab) -> None:  # type: ignore[no-untyped-def]
    """Wait until no event is on its way: what is typed beside one may be overwritten.

    A stream in which the server has nothing left to say is none: on a busy machine one may stay
    open, for a reason that was not found.
    """
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        tab.evaluate(TWO_FRAMES)
        if not under_way(tab):
            return
        tab.wait_for_timeout(25)
    raise AssertionError(f"still on their way: {under_way(tab)}")


def under_way(tab) -> list[str]:  # type: ignore[no-untyped-def]
    """The handlers that the tab waits for, and the requests that were not answered."""
    found: list[str] = []
    for request in list(_running[tab]):
        handlers = _awaited(request)
        found += [request.url] if handlers is None else handlers
    return found


def _awaited(request):  # type: ignore[no-untyped-def]
    """The handlers that a stream still waits for; None if it is no stream of the tests' own app."""
    _, found, session = request.url.partition("/queue/data?session_hash=")
    for queue in QUEUES if found else ():
        if session in queue.pending_event_ids_session:
            waiting = list(queue.pending_event_ids_session[session])
            events = map(queue.event_ids_to_events.get, waiting)
            return [event.fn.name if event else "an ended event" for event in events]
    return None


@contextmanager
def visit(tab, url, viewport=WIDE):  # type: ignore[no-untyped-def]
    """A watched tab on `url` as a new visitor finds it. At the end it had no console error, ran
    no script of a visitor's text, and met no other host.
    """
    if tab.viewport_size != viewport:
        tab.set_viewport_size(viewport)
    if tab.url.startswith("http"):
        tab.evaluate("localStorage.clear(), sessionStorage.clear()")
        tab.goto("about:blank")
    _problems[tab].clear()
    _running[tab].clear()
    tab.goto(url)
    tab.wait_for_selector("#gen-prompt", state="attached")  # a link may show another tab
    settle(tab)
    yield tab
    assert _problems[tab] == []


@contextmanager
def watched_page(browser, url, viewport=WIDE, **context_options):  # type: ignore[no-untyped-def]
    """A tab of its own for one more visitor."""
    context = browser.new_context(viewport=viewport, **context_options)
    try:
        with visit(watched(context.new_page()), url, viewport) as tab:
            yield tab
    finally:
        context.close()
