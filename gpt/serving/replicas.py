"""Registry and scheduler on several machines: replicas on Ray Serve, one of which writes a run.

The page stays one process; its side is `gpt.serving.cluster`. Ray is optional,
`pip install "ray[serve]"`: only the functions that need it import it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import config_of, path_of
from gpt.generate import Step
from gpt.sampling import SamplingOptions
from gpt.serving import all_cores
from gpt.serving.registry import Key, Registry
from gpt.serving.scheduler import MAX_ROWS, scheduler_for

APP = "gpt"
MAX_QUEUED = 200  # runs that wait in a replica's line, which tells each its place
SEND_SECONDS = 0.05  # between two messages of a run
BEAT_SECONDS = 1.0  # between two empty messages of a run that waits
_ANNOUNCED = 64  # names of models a replica; its registry bounds the models themselves
_TARGET_RUNS = 16  # autoscaling: runs a replica at which another one is wanted

Message = tuple[int, list[Step]]  # the place in the replica's line, 0 once it runs; new steps


class Replica:
    """One registry and its schedulers, in a process of its own."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaders = ThreadPoolExecutor(MAX_ROWS + MAX_QUEUED)  # they wait for a model

    async def reconfigure(self, models: Sequence[str]) -> None:
        """Loads `models`; Serve calls it before the first request."""
        for source in models:
            key = (source, "cpu", default_precision(source, "cpu"))
            with contextlib.ExitStack() as stack:
                await asyncio.to_thread(stack.enter_context, self._registry.borrow(*key))
            await self.announce("|".join(key))

    async def announce(self, name: str) -> str:
        """Tells the routers that this replica holds a model, once `_deployment` has wrapped it."""
        return name

    async def write(
        self, key: Key, ids: Sequence[int], options: SamplingOptions, stop_id: int | None
    ) -> AsyncIterator[Message]:
        """The steps that continue `ids`; raises as `Registry.borrow` and `Scheduler.submit` do."""
        with contextlib.ExitStack() as stack:
            borrowed = self._registry.borrow(*key)
            job = asyncio.get_running_loop().run_in_executor(
                self._loaders, lambda: scheduler_for(stack.enter_context(borrowed))
            )
            try:
                while not (await asyncio.wait({job}, timeout=BEAT_SECONDS))[0]:
                    yield 0, []
            finally:
                await asyncio.wait({job})  # what it borrows is given back
            scheduler = job.result()
            await self.announce("|".join(key))
            text_of = tokenizer_of(key[0]).stream().push if options.stop else None
            run = scheduler.submit(ids, options, stop_id, text_of)
            stack.callback(run.close)
            while True:
                if not await run.ready(BEAT_SECONDS):
                    yield run.place, []
                    continue
                if (step := await anext(run, None)) is None:
                    return
                steps = [step, *run.take()]
                yield 0, steps
                if steps[-1].stop is None:
                    await asyncio.sleep(SEND_SECONDS)


@contextlib.contextmanager
def served(
    models: Sequence[str], least: int, most: int, address: str | None = None, cores: int = 0
) -> Iterator[str]:
    """Replicas, `least` to `most`, that hold `models`, until the block ends; gives the address.

    Without an address, in a cluster of this machine alone, which ends with the block. A
    replica writes as many runs at once as a scheduler has rows. `cores` are those of a replica;
    0: what its machine has, divided among the replicas that fit there. With `least` < `most`
    Serve starts another replica when more than 16 runs a replica go on for 10 s, and stops one
    that was idle for 10 minutes. Raises ValueError if it cannot be done.
    """
    for source in models:
        config_of(source)
    serve = start_ray(address)
    import ray

    on_nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cores = cores or max(1, min(on_nodes) // -(-most // len(on_nodes)))
    if (room := sum(on_node // cores for on_node in on_nodes)) < least:  # Serve would wait
        raise ValueError(f"there is room for {room} replicas of {cores} cores: use fewer.")
    try:
        serve.start(proxy_location="Disabled")
        serve.run(_deployment(models, least, most, cores), name=APP, route_prefix=None)
    except Exception as error:
        raise ValueError(f"the replicas did not start: {error}") from error
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        serve.delete(APP)
        ray.shutdown()


def _deployment(models: Sequence[str], least: int, most: int, cores: int) -> Any:
    from ray import serve

    class Announcing(Replica):
        def __init__(self) -> None:
            os.environ["CPU_CORES"] = str(cores)
            all_cores.start()
            on_disk = [name for name in models if path_of(name).exists()]
            super().__init__(Registry(paths=dict.fromkeys(on_disk)))

        announce = serve.multiplexed(max_num_models_per_replica=_ANNOUNCED)(Replica.announce)

    scaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": _TARGET_RUNS,
        "upscale_delay_s": 10,
        "downscale_delay_s": 600,
    }
    deployment = serve.deployment(Announcing).options(
        name="scheduler",
        max_ongoing_requests=MAX_ROWS + MAX_QUEUED,
        max_queued_requests=MAX_QUEUED,
        user_config=list(models),
        ray_actor_options={"num_cpus": cores},
        **({"autoscaling_config": scaling} if least < most else {"num_replicas": most}),
    )
    return deployment.bind()


def _check_reachable(address: str) -> None:
    """Raises ValueError if nobody listens there: Ray would look for minutes and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "use auto or HOST:PORT"
        raise ValueError(f"there is no Ray cluster at {address[:60]} ({reason}).") from error


def start_ray(address: str | None) -> ModuleType:
    """Ray Serve, once this process belongs to the cluster; a new one without an address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address not in (None, "auto", "local"):
        _check_reachable(address)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise ValueError('replicas need Ray: pip install "ray[serve]"') from error
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        settings |= {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    if not ray.is_initialized():
        try:
            ray.init(address=address or "local", **settings)
        except Exception as error:
            failed = f"there is no Ray cluster at {address}" if address else "Ray does not start"
            raise ValueError(f"{failed} ({type(error).__name__}).") from error
    return serve
