"""One headless Chromium for all browser tests."""

from __future__ import annotations

import os
import shutil

import pytest
from watched import QUEUES, WIDE, visit, watched

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")  # the first starts soonest
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
def browser():  # type: ignore[no-untyped-def]
    """Headless Chromium; its absence skips with a reason, except in CI, where it fails."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
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


@pytest.fixture(scope="session")
def browser_tab(browser, built, app_url):  # type: ignore[no-untyped-def]
    """One tab for all tests: to load the page anew costs half of a new browser context."""
    QUEUES.append(built._queue)
    return watched(browser.new_context(viewport=WIDE).new_page())


@pytest.fixture
def page(browser_tab, app_url):  # type: ignore[no-untyped-def]
    """The tab on the app, as a new visitor finds it."""
    with visit(browser_tab, app_url) as opened:
        yield opened
