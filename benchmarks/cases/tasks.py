"""Fifty asyncio tasks that share one log, against fifty that share one `redis.asyncio` client."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio

from ..arena import KIND, MAX_ENTRIES, PAYLOAD, THEIR_STREAM, Arena, their_fields
from ..contest import Contest, Lap, Metric, Sides

_TASKS = 50
_FULL_EACH = 100


async def _timed(operation: Callable[[], Awaitable[Any]], times: int) -> Lap:
    async def caller() -> None:
        for _ in range(times):
            await operation()

    # Connections are made before the clock runs.
    await asyncio.gather(*(operation() for _ in range(_TASKS)))
    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(_TASKS)))
    return {"appends": _TASKS * times / (time.perf_counter() - started)}


@contextmanager
def _fifty_tasks(arena: Arena) -> Iterator[Sides]:
    times = arena.times(_FULL_EACH)
    with asyncio.Runner() as runner:
        log = arena.our_async_log()
        client = redis.asyncio.Redis.from_url(arena.url)

        def ours() -> Awaitable[Any]:
            return log.append(KIND, PAYLOAD)

        def theirs() -> Awaitable[Any]:
            return client.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)

        async def close() -> None:
            await log.close()
            await client.aclose()

        try:
            yield (lambda: runner.run(_timed(ours, times))), (lambda: runner.run(_timed(theirs, times)))
        finally:
            runner.run(close())


CONTESTS = (Contest("tasks", "50 asyncio tasks, append / xadd", (Metric("appends", "/s", 6.0),), _fifty_tasks),)
