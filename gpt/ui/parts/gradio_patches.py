"""Workarounds for gradio 6.31, each for a private part of it.

1. `utils.MatplotlibBackendMananger` and `Plot.get_config` import matplotlib and bokeh at every
event and for every plot of a new visit. Where those are not installed, Python searches its whole
path for them each time: 0.11 ms of the 1 ms that an update of a streamed text takes (2-core AMD
EPYC). A None in `sys.modules` ends the search.

2. `SessionState` writes out the configuration of every component for every new visitor, and of
every component that an event changes, twice, and keeps what it shows: for deep links, which this
page does not have. 68 ms on the event loop and 672 kB for each visitor (2-core AMD EPYC), so that
thirty who came together waited 2 s for their first token, and an eighth of the processor time of an
opened page. Without it: 0.1 ms and 28 kB, and a session keeps no text or picture.

3. `Slider.preprocess` and `Number.preprocess` answer a number that is out of range with a line that
does not name the field, and an emptied slider with a traceback. Each number of this page is checked
where it is used, in a line that says field and number. A component's own `preprocess` would be lost
in a session that was sent an update of it.

4. `Queue.sleep_when_free`: gradio looks for a new event a thousand times a second, 44 ms of
processor time a second on a page where nothing happens (2-core AMD EPYC). Here a hundred times: an
event begins at most 10 ms later.

5. `utils.diff`: of two updates that a handler yields, gradio sends what changed in the second, and
its script makes that change in the first, which the page may not have shown yet. A button that the
first update hid stayed where the second, a moment later, said nothing of it. Here an update is sent
whole; texts still as what was added.

6. What a script sends in place of the page, such as an event that there is not, too few inputs, a
value that is no choice or a stream of nobody, ends in gradio's traceback, as if the page had a
fault. Here the log has one line of it: the error, and where gradio raised it. A traceback stays
where a handler of this page was called, what one returned was looked at, or a kept answer was sent.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import queueing, routes, utils
from gradio.state_holder import SessionState

from gpt.ui.parts.errors import PACKAGE

_begin_session = SessionState.__init__
_checks = {kind: kind.preprocess for kind in (gr.Slider, gr.Number)}
_diff = utils.diff
SEARCHED = ("matplotlib", "bokeh")
LOOK_SECONDS = 0.01
# By every request: a file and the function in it that calls the rest of the server.
_PASSED_BY = {("middleware.py", "__call__"), ("middleware.py", "answer")}
# Of gradio's Blocks: where a handler is called, and what it gave is looked at.
_HANDLES = {"call_function", "postprocess_data", "handle_streaming_outputs"}
_log = logging.getLogger(__name__)


def search_for_no_missing_package() -> None:
    """From now on an import of a package of SEARCHED that is not installed fails at once."""
    for name in SEARCHED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]


def _without_configurations(self: SessionState, blocks: Any) -> None:
    _begin_session(self, SimpleNamespace(default_config=blocks.default_config, blocks=()))
    self.blocks_config.config_for_block = lambda *_: {}  # what changes is not written out


def begin_sessions_lightly() -> None:
    """From now on a visitor's session holds no configuration of the page; no deep links then."""
    SessionState.__init__ = _without_configurations


def take_numbers_as_typed() -> None:
    """From now on handlers are given what stands in a number box, possible or not."""
    for kind in _checks:
        kind.preprocess = lambda _, payload: payload  # type: ignore[method-assign]


def look_for_events_less_often(page: gr.Blocks) -> None:
    """From now on the queue of `page` looks for new events every LOOK_SECONDS."""
    page._queue.sleep_when_free = LOOK_SECONDS


def _whole_updates(old: Any, new: Any) -> list[Any]:
    return [["replace", [], new]] if isinstance(new, dict) and new != old else _diff(old, new)


def send_updates_whole() -> None:
    """From now on an update of a component never changes the one before it."""
    utils.diff = _whole_updates


def _of_what_was_sent(error: BaseException | None) -> str:
    """The line of an error that gradio raised before it called a handler; "" for any other."""
    passed = traceback.walk_tb(error.__traceback__ if error else None)
    frames = [(frame.f_code, line) for frame, line in passed]
    ours = {code for code, _ in frames if code.co_filename.startswith(PACKAGE)}
    passed_by = {(os.path.basename(code.co_filename), code.co_name) for code in ours} <= _PASSED_BY
    handled = not _HANDLES.isdisjoint(code.co_name for code, _ in frames)
    if not frames or handled or not passed_by:
        return ""
    code, line = frames[-1]
    if code in ours:
        return ""
    told, *_ = str(error).splitlines() or [""]
    where = code.co_filename.rsplit("site-packages/")[-1]
    kind = type(error).__name__
    return f"a request that this page does not make: {kind}: {told[:200]} ({where}, line {line})"


def _print_exc() -> None:
    """In place of `traceback.print_exc` in gradio."""
    if line := _of_what_was_sent(sys.exc_info()[1]):
        _log.warning(line)
    else:
        traceback.print_exc()


def _without_traceback(record: logging.LogRecord) -> bool:
    """A filter of uvicorn's log: it keeps all, some of it shorter."""
    if record.exc_info and (line := _of_what_was_sent(record.exc_info[1])):
        record.msg, record.args, record.exc_info = line, (), None
    return True


def log_forged_requests_in_one_line() -> None:
    """From now on a request that only a script makes is one line in the log."""
    for module in (queueing, routes):
        module.traceback = SimpleNamespace(print_exc=_print_exc)  # type: ignore[assignment]
    logging.getLogger("uvicorn.error").addFilter(_without_traceback)
