"""What the slot contests ask of everything that hands out turns, and how each is reached."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import redis

from ..contest import Side, Sides


@dataclass(frozen=True, slots=True)
class Terms:
    """What a gate guards: at most `limit` hold `queue` at a time, each for `lease_s` seconds should it die."""

    queue: str
    limit: int = 1
    lease_s: int = 30


class Gate(Protocol):
    """One process' end of a queue, for threads."""

    def turn(self, execution_id: str) -> AbstractContextManager[Any]:
        """Wait for a place on entering the block, give it back on leaving."""
        ...

    def waiting(self) -> int:
        """How many threads of this process wait here, having asked the server."""
        ...


class AsyncGate(Protocol):
    """The same for tasks."""

    def turn(self, execution_id: str) -> AbstractAsyncContextManager[Any]:
        """Wait for a place on entering the block, give it back on leaving."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """A library, or bare commands, that can hand out turns. Picklable, so that helper processes can be given one.

    `module` must be importable. A waiter that asks again and again does so every `polls_every_s` seconds.
    """

    name: str
    open: Callable[[str, Terms], AbstractContextManager[Gate]]
    module: str | None = None
    polls_every_s: float = 0.0

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return is_installed(self.module)


@dataclass(frozen=True, slots=True)
class AsyncWay:
    """A `Way` for asyncio."""

    name: str
    open: Callable[[str, Terms], AbstractAsyncContextManager[AsyncGate]]
    module: str | None = None

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return is_installed(self.module)


def is_installed(module: str | None) -> bool:
    """Whether `module` can be imported; None needs nothing."""
    return module is None or find_spec(module) is not None


@contextmanager
def sides(ways: Sequence[Way], prepare: Callable[[Way], AbstractContextManager[Side]]) -> Iterator[Sides]:
    """A side of a contest for each way, None for one that is not installed."""
    with ExitStack() as stack:
        yield [stack.enter_context(prepare(way)) if way.installed else None for way in ways]


def their_client(url: str, terms: Terms) -> redis.Redis:
    """A client whose waits are not cut by redis-py's own 5 s, and that can be told apart by the queue's name."""
    return redis.Redis.from_url(url, client_name=terms.queue, socket_timeout=None)


def blocked(client: redis.Redis, terms: Terms) -> int:
    """How many connections of such clients sit in a blocking command."""
    return sum(each["name"] == terms.queue and "b" in each["flags"] for each in client.client_list())
