"""A caller's mistake becomes one line on the page; anything else is a bug and reaches the log.

A mistake is a ValueError that a `raise` statement of this package raised. A ValueError from
anywhere else (`zip(strict=True)`, numpy) is a bug of ours, although its type is the same.
"""

import dis
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

PACKAGE = str(Path(__file__).resolve().parents[2]) + os.sep
BUG = "This is a fault of the page, not of yours: the server's log has it. Another try may work."
_RAISE = dis.opmap["RAISE_VARARGS"]
# The default of a handler's event: None would make its type an Optional one in Python 3.10, which
# gradio takes for no event at all.
NO_EVENT = gr.EventData(None, None)


def is_mistake(error: BaseException) -> bool:
    """Whether a `raise` statement in this package raised `error`, a ValueError.

    What C code raises has our frame as its innermost one too: the instruction there tells.
    """
    trace = error.__traceback__
    if not isinstance(error, ValueError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(PACKAGE) and code.co_code[trace.tb_lasti] == _RAISE


def mistake(error: ValueError) -> ValueError:
    """`error`, if it is a mistake; a bug is raised again, for the log."""
    if not is_mistake(error):
        raise error
    return error


def message_of(error: Exception) -> str:
    """The line of a mistake; of anything else, that it is a fault of ours."""
    return str(error) if is_mistake(error) else BUG


@contextmanager
def one_line() -> Iterator[None]:
    """Raises gr.Error in place of an Exception: a mistake's line, or BUG, which is logged.

    Toasts render HTML, and the line may quote what a visitor wrote: it is escaped here.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        if is_mistake(error):
            message = escape(str(error), quote=False)
            raise gr.Error(message, print_exception=False) from error
        raise gr.Error(BUG) from error  # gradio logs it with its cause


def of_event(event: Any, name: str, kind: Callable[[Any], Any] = int) -> Any:
    """What an event tells under `name`, as `kind`.

    Raises gr.Error, which is not logged, where a script sent something else.
    """
    try:
        return kind(getattr(event, name))
    except Exception as error:
        raise gr.Error(f"the event has no {name}.", print_exception=False) from error


class Blocks(gr.Blocks):
    """gradio's page, which calls each of its handlers within `one_line`."""

    async def call_function(self, block_fn: Any, *args: Any, **kwargs: Any) -> Any:
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if function.fn is None:  # an event of the page's own script: only another one asks
            raise gr.Error("this event has no function.", print_exception=False)
        with one_line():
            return await super().call_function(block_fn, *args, **kwargs)
