"""The page's side of the replicas: a run on a cluster, and where the cluster is.

A run goes to a replica that holds its model, and its steps come back in a stream. If the replica
dies, another one starts the run again from the prompt: the same chunks, decode steps and seed
give the same tokens, of which the visitor has the first already. Reading prompt and tokens at
once would be faster but gives other last digits.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

from gpt.sampling import SamplingOptions
from gpt.serving.registry import Key
from gpt.serving.replicas import APP, MAX_QUEUED, start_ray
from gpt.serving.step_stream import StepStream

PATIENCE_SECONDS = 30.0  # without any message, until a run gives up
RETRY_SECONDS = 0.5
_OTHER = (
    "the machine that wrote this is gone, and the others compute other tokens: run it once more."
)
_GONE = "the cluster does not answer: try again in a minute."
_FULL = f"{MAX_QUEUED} others are waiting to write: try again in a minute."


class ClusterRow(StepStream):
    """One run on a cluster, read within one event loop; a closed one frees the replica's row."""

    def __init__(
        self,
        handle: Any,
        key: Key,
        ids: Sequence[int],
        options: SamplingOptions,
        stop_id: int | None = None,
    ) -> None:
        """`handle` is from `connect`. `options` have a seed."""
        super().__init__()
        self._request = (key, ids, options, stop_id)
        self._handle = handle
        self._known: list[int] = []  # tokens of the steps that the visitor was given
        self._heard = 0.0  # when the last message came
        self._reader: asyncio.Task[None] | None = None

    async def ready(self, timeout_seconds: float | None = None) -> bool:
        """As of every run; with it the reading begins."""
        if self._reader is None:
            self._reader = asyncio.ensure_future(self._read())
            self._reader.add_done_callback(self._end)
        return await super().ready(timeout_seconds)

    def close(self) -> None:
        """Ends the reading; nothing more comes."""
        super().close()
        if self._reader is not None:
            self._reader.cancel()

    def _end(self, reader: asyncio.Task[None]) -> None:
        self.end(None if reader.cancelled() else reader.exception())

    async def _read(self) -> None:
        """Reads to the end of the run, at one replica after the other if they die."""
        from ray.exceptions import RayActorError, RayError
        from ray.serve.exceptions import BackPressureError, RayServeException

        self.started = self._heard = time.perf_counter()
        while True:
            try:
                return await self._read_at_one_replica()
            except RayActorError as lost:
                if time.perf_counter() - self._heard > PATIENCE_SECONDS:
                    raise ValueError(_GONE) from lost
            except BackPressureError as full:
                raise ValueError(_FULL) from full
            except (TimeoutError, asyncio.TimeoutError, RayServeException) as silent:
                raise ValueError(_GONE) from silent
            except RayError as error:
                if isinstance(error, ValueError):  # the replica's own, which quotes its traceback
                    raise ValueError(str(error.cause)) from error
                raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_at_one_replica(self) -> None:
        # Here, in the loop: Ray raises an error if two threads use a handle for the first time.
        key, *_ = self._request
        handle = self._handle.options(stream=True, multiplexed_model_id="|".join(key))
        response = handle.write.remote(*self._request)
        made = 0  # steps at this replica, which makes those that are known once more
        try:
            while True:
                message = await asyncio.wait_for(anext(response, None), PATIENCE_SECONDS)
                if message is None or self._closed:  # wait_for may lose the cancel
                    return
                self._heard = time.perf_counter()
                self.place, steps = message
                if not self._known and not steps:
                    self.started = self._heard
                ids = [step.token_id for step in steps]
                again = self._known[made : made + len(ids)]
                made += len(ids)
                if ids[: len(again)] != again:
                    raise ValueError(_OTHER)
                self._known += ids[len(again) :]
                self.put(*steps[len(again) :])
        finally:
            response.cancel()


def connect(address: str) -> Any:
    """A handle of the deployment on the cluster at `address`, "auto" for this machine's.

    Raises ValueError if there is no such cluster, or nothing of ours on it.
    """
    # By default Ray ends this process a minute after the cluster's first machine has gone.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "1000000000")
    serve = start_ray(address)
    try:
        return serve.get_app_handle(APP)
    except Exception as error:
        raise ValueError(
            f"the cluster at {address} has no replicas: python -m gpt serve --address {address}"
        ) from error
