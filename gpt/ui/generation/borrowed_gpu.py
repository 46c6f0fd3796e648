"""A run on a GPU that is borrowed for it, as Hugging Face's ZeroGPU lends them.

The run's steps come from a process that is forked for it and ends with it.
"""

import contextlib
import contextvars
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpt.accounting.memory import weight_bytes
from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.sources import config_of, load_model
from gpt.generate import Step, generate
from gpt.sampling import SamplingOptions
from gpt.serving.step_stream import StepStream
from gpt.ui.parts.errors import one_line

_READERS = ThreadPoolExecutor(64, thread_name_prefix="borrowed")


def gpu_seconds(source: str, precision: str, _: Any, options: SamplingOptions, *__: Any) -> int:
    """How long a GPU is borrowed for `steps_on_gpu`, 10 to 60 s: by bytes and by tokens."""
    gigabytes = weight_bytes(config_of(source), precision) / 10**9
    return min(60, math.ceil(10 + 4 * gigabytes + options.max_new_tokens / 20))


def steps_on_gpu(
    source: str, precision: str, ids: Sequence[int], options: SamplingOptions, stop_id: int
) -> Iterator[Step]:
    """What the borrowed process runs. The process loads its own model and asks for no lock."""
    with one_line():  # in here: only gr.Error leaves the borrowed process with its message
        model = load_model(source, "cuda", precision)
        text_of = tokenizer_of(source).stream().push if options.stop else None
        yield from generate(model, ids, options, stop_id=stop_id, text_of=text_of)


def borrowed_run(steps: Iterator[Step]) -> StepStream:
    """The run of `steps_on_gpu` within `spaces.GPU`, read by a thread of its own."""
    run = StepStream()

    def read() -> None:
        run.started = time.perf_counter()
        with contextlib.closing(steps):  # a generator
            while not run.over and (step := next(steps, None)) is not None:
                run.put(step)

    # spaces asks the event's context who the visitor is
    reading = _READERS.submit(contextvars.copy_context().run, read)
    reading.add_done_callback(lambda job: run.end(job.exception()))
    return run
