"""What all tests share: the book's numbers, one page, the order of the files."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Test processes share two cores, and a team of threads waits on them. `main()` leaves a number
# that was given as it is: else its thread has all cores, and the engine's, begun before, has one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a team that a test asks for sleeps while it waits

import pytest

# torch is imported in fixtures: the process that hands out the tests would wait for it for nothing.
if TYPE_CHECKING:
    import gradio as gr

    from gpt import Tokenizer

TRACEBACK = "Traceback (most recent call last)"
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Test processes that begin at once would find the same port free, and one of them is refused.
if worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(worker))
if "torch" in sys.modules:  # a plugin has imported it before
    sys.modules["torch"].set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Files go to the test processes in the order of collection, not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come first: they take longest, and at the end one process would do nothing."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The garbage collector leaves alone what the imports made: to look at it took 0.3 s each."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A traceback in the log of a page, or of anything else, fails the test that it came in.

    What a test raises on purpose it reads itself, by capsys or capfd.
    """
    report = yield
    log = "".join(text for _, text in report.sections)
    if report.when == "teardown" and report.passed and TRACEBACK in log:
        report.outcome = "failed"
        report.longrepr = "a traceback in the log:\n" + log[log.index(TRACEBACK) :]
    return report


@pytest.fixture(scope="session")
def book() -> dict[str, Any]:
    """Numbers computed with the book's own modules, torch 2.13, seed 123."""
    return json.loads((Path(__file__).parent / "golden" / "book.json").read_text())


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    from gpt import tokenizer_of

    return tokenizer_of("gpt2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny model in our format, float32."""
    from tiny_models import tiny_model

    from gpt.checkpoints import save_model

    return save_model(tiny_model(), tmp_path / "ours", "float32")


@pytest.fixture(scope="session")
def built() -> gr.Blocks:
    """The page as `python app.py` builds it, for all tests of a process: none changes it."""
    import app

    return app.build_demo()


@pytest.fixture(scope="session")
def app_url(built: gr.Blocks) -> Iterator[str]:
    """Its address, once a test asks for it."""
    import app

    _, url, _ = app.launch(built, prevent_thread_lock=True, quiet=True)
    yield url
    built.close()
