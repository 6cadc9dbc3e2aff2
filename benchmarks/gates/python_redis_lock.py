"""python-redis-lock: `with redis_lock.Lock(client, name, expire=…)`. At limit 1 only, and for threads only.

Its `auto_renewal` is left off: it would start a thread for each lock, and a lock that nobody keeps for long needs none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from .base import Gate, Terms, Way, blocked, their_client


class _Gate:
    def __init__(self, client: redis.Redis, terms: Terms) -> None:
        import redis_lock  # only the benchmarks' environment has it

        self._client = client
        self._terms = terms
        self._lock: Any = redis_lock.Lock

    def turn(self, execution_id: str) -> Any:
        return self._lock(self._client, self._terms.queue, expire=self._terms.lease_s)

    def waiting(self) -> int:
        return blocked(self._client, self._terms)


@contextmanager
def _open(url: str, terms: Terms) -> Iterator[Gate]:
    with their_client(url, terms) as client:
        yield _Gate(client, terms)


PYTHON_REDIS_LOCK = Way("python-redis-lock", _open, module="redis_lock")
