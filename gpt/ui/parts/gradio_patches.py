"""A cancelled run ends for the page like a run that has nothing more to say.

Gradio answers a cancel with a completed run without data. Its page looks into that data, fails,
and covers what was written with "Error", unless the answer to the cancel itself comes later. So
here that message has data: none for each output, which changes none of them. The page then also
runs what follows a success: that must ask whether the run came to its end.
"""

from __future__ import annotations

import functools
from typing import Any

from gradio.server_messages import ProcessCompletedMessage

_create = ProcessCompletedMessage.__init__


@functools.wraps(_create)
def _with_data(self: ProcessCompletedMessage, **fields: Any) -> None:
    _create(self, **{**fields, "output": fields.get("output") or {"data": []}})


def end_cancelled_runs_in_silence() -> None:
    """From now on no cancelled run of this process shows as an error; again changes nothing."""
    ProcessCompletedMessage.__init__ = _with_data
