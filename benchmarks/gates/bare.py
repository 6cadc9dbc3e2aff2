"""Redis with no library around it: the least that anyone pays."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import redis

from .base import Gate, Terms, Way, blocked, their_client

_TRIVIAL_SCRIPT = "return 1"


class _Scripts:
    """A script that does nothing on entering and on leaving. It keeps nobody out."""

    def __init__(self, client: redis.Redis, terms: Terms) -> None:
        self._client = client
        self._terms = terms
        self._sha = client.script_load(_TRIVIAL_SCRIPT)

    def turn(self, execution_id: str) -> "_TwoScripts":
        return _TwoScripts(self._client, self._sha, self._terms.queue, execution_id)

    def waiting(self) -> int:
        return 0


class _TwoScripts:
    def __init__(self, client: redis.Redis, sha: str, queue: str, execution_id: str) -> None:
        self._call = (sha, 1, queue, execution_id)
        self._client = client

    def __enter__(self) -> None:
        self._client.evalsha(*self._call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.evalsha(*self._call)


class _Wake:
    """One token in a list: BLPOP takes it, RPUSH gives it back. No lease, no fence, no order beyond Redis' own."""

    def __init__(self, client: redis.Redis, terms: Terms) -> None:
        self._client = client
        self._terms = terms
        self._key = f"bare:{terms.queue}"
        if client.set(f"{self._key}:made", 1, nx=True):
            client.rpush(self._key, *range(terms.limit))

    @contextmanager
    def turn(self, execution_id: str) -> Iterator[None]:
        self._client.blpop([self._key])
        try:
            yield
        finally:
            self._client.rpush(self._key, execution_id)

    def waiting(self) -> int:
        return blocked(self._client, self._terms)


@contextmanager
def _open_scripts(url: str, terms: Terms) -> Iterator[Gate]:
    with their_client(url, terms) as client:
        yield _Scripts(client, terms)


@contextmanager
def _open_wake(url: str, terms: Terms) -> Iterator[Gate]:
    with their_client(url, terms) as client:
        yield _Wake(client, terms)


BARE_SCRIPTS = Way("two bare EVALSHA", _open_scripts)
BARE_WAKE = Way("bare RPUSH → BLPOP", _open_wake)
