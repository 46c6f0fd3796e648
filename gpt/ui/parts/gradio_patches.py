"""Workarounds for gradio 6.31, each for a private part of it; `patch_gradio` applies all of them.

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
in a session that was sent an update of it. So would that of a Dropdown whose value is its handler's
to check (`gpt.ui.visit.take_any`): what a script sends in its place becomes a text.

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

import importlib.util
import logging
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
_choice = gr.Dropdown.preprocess
_diff = utils.diff
SEARCHED = ("matplotlib", "bokeh")
LOOK_SECONDS = 0.01
# In gradio and here: what calls a handler, looks at what it gave, sends a kept answer, and begins a
# session.
_OF_THE_PAGE = {
    "call_function", "postprocess_data", "handle_streaming_outputs", "_whole_updates",
    "send_and_keep", "_send_kept", "_without_configurations",
}  # fmt: skip
_log = logging.getLogger(__name__)


def patch_gradio(page: gr.Blocks) -> None:
    """Applies the workarounds, in the order in which they stand above; the fourth to `page`."""
    for name in SEARCHED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]
    SessionState.__init__ = _without_configurations
    for kind in _checks:
        kind.preprocess = lambda _, payload: payload  # type: ignore[method-assign]
    gr.Dropdown.preprocess = _text_or_choice  # type: ignore[method-assign]
    page._queue.sleep_when_free = LOOK_SECONDS
    utils.diff = _whole_updates
    for module in (queueing, routes):
        module.traceback = SimpleNamespace(print_exc=_print_exc)  # type: ignore[assignment]
    logging.getLogger("uvicorn.error").addFilter(_without_traceback)


def _text_or_choice(self: gr.Dropdown, payload: Any) -> Any:
    return str(payload) if self.allow_custom_value else _choice(self, payload)


def _without_configurations(self: SessionState, blocks: Any) -> None:
    _begin_session(self, SimpleNamespace(default_config=blocks.default_config, blocks=()))
    self.blocks_config.config_for_block = lambda *_: {}  # what changes is not written out


def _whole_updates(old: Any, new: Any) -> list[Any]:
    return [["replace", [], new]] if isinstance(new, dict) and new != old else _diff(old, new)


def _of_what_was_sent(error: BaseException | None) -> str:
    """The line of an error that gradio raised before it called a handler; "" for any other."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    if not frames or not _OF_THE_PAGE.isdisjoint(frame.name for frame in frames):
        return ""
    file, line, *_ = frames[-1]
    if file.startswith(PACKAGE):
        return ""
    told, *_ = str(error).splitlines() or [""]
    where, kind = file.rsplit("site-packages/")[-1], type(error).__name__
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
