"""redis-py's own `Lock`: `with client.lock(name, timeout=…)`, as its documentation has it. At limit 1 only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.lock import Lock

from .base import Gate, Terms, Way, their_client

_POLLS_EVERY_S = 0.1


def _key(terms: Terms) -> str:
    return f"redis-py:{terms.queue}"


class _SeenLock(Lock):
    """Nobody can see who waits for a `Lock`: this one notes who was refused and will try again."""

    def __init__(self, refused: set[Any], client: redis.Redis, name: str, timeout: float) -> None:
        super().__init__(client, name, timeout=timeout)
        self._refused = refused

    def do_acquire(self, token: Any) -> bool:
        acquired = super().do_acquire(token)
        (self._refused.discard if acquired else self._refused.add)(token)
        return acquired


class _Gate:
    def __init__(self, client: redis.Redis, terms: Terms) -> None:
        self._client = client
        self._terms = terms
        self._refused: set[Any] = set()

    def turn(self, execution_id: str) -> Lock:
        return _SeenLock(self._refused, self._client, _key(self._terms), self._terms.lease_s)

    def waiting(self) -> int:
        return len(self._refused)


@contextmanager
def _open(url: str, terms: Terms) -> Iterator[Gate]:
    with their_client(url, terms) as client:
        yield _Gate(client, terms)


REDIS_PY = Way("redis-py Lock", _open, polls_every_s=_POLLS_EVERY_S)
