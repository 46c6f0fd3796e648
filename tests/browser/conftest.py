"""One running app and one headless Chromium for all browser tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def app_url() -> Iterator[str]:
    """The address of the real app, as `python app.py` builds it."""
    import app

    demo = app.build_demo()
    _, url, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield url
    demo.close()


@pytest.fixture(scope="session")
def browser():  # type: ignore[no-untyped-def]
    """Headless Chromium; its absence skips with a reason, except in CI, where it fails."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "no chromium on this machine: install it to run the browser tests"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@contextmanager
def watched_page(browser, url, **context_options):  # type: ignore[no-untyped-def]
    """A fresh page on `url` that, at its end, had no console error and met no other host."""
    context = browser.new_context(
        **{"viewport": {"width": 1280, "height": 1000}, **context_options}
    )
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    tab.on(
        "console",
        lambda message: (
            problems.append(f"console: {message.text}") if message.type == "error" else None
        ),
    )
    tab.on(
        "request",
        lambda request: (
            problems.append(f"other host: {request.url}")
            if not request.url.startswith((url, "data:", "blob:"))
            else None
        ),
    )
    tab.goto(url)
    tab.wait_for_selector("#gen-prompt")
    yield tab
    context.close()
    assert problems == []


@pytest.fixture
def page(browser, app_url):  # type: ignore[no-untyped-def]
    """A fresh, watched page on the app."""
    with watched_page(browser, app_url) as tab:
        yield tab
