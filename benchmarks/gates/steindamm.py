"""steindamm's semaphore, made once with `create` and entered again and again, as its documentation has it.

Its `expiry` is how long the queue's keys outlive the last acquire or release: the nearest that it has to a lease.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis.asyncio

from .base import AsyncGate, AsyncWay, Gate, Terms, Way, blocked, their_client

_NAME = "steindamm"


class _Gate:
    def __init__(self, client: redis.Redis, terms: Terms) -> None:
        from steindamm import SyncSemaphore  # only the benchmarks' environment has it

        self._client = client
        self._terms = terms
        self._semaphore: Any = SyncSemaphore.create(
            connection=client, name=terms.queue, capacity=terms.limit, expiry=terms.lease_s
        )

    def turn(self, execution_id: str) -> Any:
        return self._semaphore

    def waiting(self) -> int:
        return blocked(self._client, self._terms)


class _AsyncGate:
    def __init__(self, client: redis.asyncio.Redis, terms: Terms) -> None:
        from steindamm import AsyncSemaphore

        self._semaphore: Any = AsyncSemaphore.create(
            connection=client, name=terms.queue, capacity=terms.limit, expiry=terms.lease_s
        )

    def turn(self, execution_id: str) -> Any:
        return self._semaphore


@contextmanager
def _open(url: str, terms: Terms) -> Iterator[Gate]:
    with their_client(url, terms) as client:
        yield _Gate(client, terms)


@asynccontextmanager
async def _open_async(url: str, terms: Terms) -> AsyncIterator[AsyncGate]:
    async with redis.asyncio.Redis.from_url(url, socket_timeout=None) as client:
        yield _AsyncGate(client, terms)


STEINDAMM = Way(_NAME, _open, module="steindamm")
STEINDAMM_ASYNC = AsyncWay(_NAME, _open_async, module="steindamm")
