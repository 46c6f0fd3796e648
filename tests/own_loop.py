"""Coroutines run by tests: Playwright keeps an event loop running in the tests' own thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


def run_async(coroutine):
    """What `coroutine` returns, run by an event loop in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def steps_of(run):
    """The steps of `run` that are still to come."""

    async def read():
        return [step async for step in run]

    return run_async(read())


def running(scheduler):
    """Rows of `scheduler` that have begun and not ended."""
    return sum(not row.over for row in tuple(scheduler._running))
