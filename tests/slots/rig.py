"""Slots on a real Redis as tests see them: acts in, answers out, and what the keys hold, read without the scripts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from eventlog.log.audit import audit
from eventlog.log.redis import RedisBackend
from eventlog.model.events import Event
from eventlog.model.ids import Cursor
from eventlog.model.log_values import ReadRequest
from eventlog.model.retention import Retention
from eventlog.plan.drive import run
from eventlog.plan.effects import Command
from eventlog.slots.acts import Acquire, Act, Answer, Granted, Performed, Ring
from eventlog.slots.redis import RedisSlots
from eventlog.store.keys import WorkspaceKeys
from eventlog.store.links import SyncLink
from tests.support.redis_process import RedisProcess

LONG_MS = 60_000


def acquire(queue: str, execution: str, nonce: str | None = None, **more: Any) -> Acquire:
    """An act that asks for a slot; its nonce is the execution's name with an "n", its times are long."""
    return Acquire(queue, execution, nonce or f"n{execution}", **{"lease_ms": LONG_MS, "timeout_ms": LONG_MS, **more})


class Link(Protocol):
    """Carries out commands."""

    def execute(self, command: Command) -> Any: ...

    def close(self) -> None: ...


@dataclass
class Stored:
    """What Redis holds of a queue: scores, the line, records split at blanks, and the state's fields."""

    held: dict[str, int]
    line: list[str]
    waits: dict[str, int]
    book: dict[str, list[str]]
    state: dict[str, str]
    rate: list[int] = field(default_factory=list)


class Rig:
    """A workspace of its own on `server`."""

    def __init__(self, server: RedisProcess, prefix: str = "eventlog", link: Link | None = None) -> None:
        self.keys = WorkspaceKeys.of("w", prefix)
        self.slots = RedisSlots(self.keys, Retention.of(), 5.0)
        self.log = RedisBackend(self.keys, Retention.of(), 5.0)
        self.link = SyncLink(server.url, 1) if link is None else link
        self.client: redis.Redis = server.client()
        self.sent: list[Command] = []

    def close(self) -> None:
        self.link.close()
        self.client.close()

    def execute(self, command: Command) -> Any:
        self.sent.append(command)
        return self.link.execute(command)

    def perform(self, *acts: Act, inbox: str = "") -> Performed:
        """Carry out acts in one call."""
        return run(self.slots.perform(acts, inbox), self.execute)

    def one(self, act: Act, inbox: str = "") -> Answer:
        """Carry out one act."""
        return self.perform(act, inbox=inbox).answers[0]

    def granted(self, act: Act) -> Granted:
        """Carry out one act whose answer must be a grant."""
        answer = self.one(act)
        assert isinstance(answer, Granted), answer
        return answer

    def told(self, after: int = 0) -> Sequence[Event]:
        """The events behind an offset."""
        request = ReadRequest(since=Cursor(None, after), count=1000)
        return run(self.log.read(request), self.link.execute).events

    def problems(self) -> list[str]:
        """What the log's audit finds."""
        return run(audit(self.log, self.keys.run_index, 5.0), self.link.execute).problems

    def again(self, command: Command) -> Any:
        """A copy of an earlier command arrives."""
        return self.link.execute(command)

    def listen(self, bell: str, most: int = 1) -> list[Ring]:
        """Take what lies at a bell."""
        return run(self.slots.listen(bell, 0.001, most), self.link.execute)

    def rung(self, bell: str) -> list[str]:
        """What lies at a bell, left there."""
        return [raw.decode() for raw in self._all(self.client.lrange(self.keys.bell + bell, 0, -1))]

    def now_ms(self) -> int:
        """The Redis clock."""
        seconds, micros = self._all(self.client.time())
        return int(seconds) * 1000 + int(micros) // 1000

    def wait_until(self, at_ms: int) -> None:
        """Until the Redis clock shows `at_ms`."""
        while (left_ms := at_ms - self.now_ms()) > 0:
            time.sleep(left_ms / 1000)

    def stored(self, *queues: str) -> list[Stored]:
        """What the keys of queues hold, at one instant."""
        return stored(self.client, self.keys, *queues)

    def standing(self, queue: str) -> tuple[list[str], list[str]]:
        """Who holds (by name) and who waits (in the order of the line)."""
        (stored,) = self.stored(queue)
        assert set(stored.held) | set(stored.line) == set(stored.book)
        return sorted(stored.held), stored.line

    @staticmethod
    def _all(reply: Any) -> Any:
        return reply


def stored(client: Any, keys: WorkspaceKeys, *queues: str) -> list[Stored]:
    """What the keys of queues hold, at one instant, read without the scripts."""
    with client.pipeline(transaction=True) as pipe:
        for queue in queues:
            of = keys.queue(queue)
            pipe.zrange(of.held, 0, -1, withscores=True)
            pipe.lrange(of.line, 0, -1)
            pipe.zrange(of.waits, 0, -1, withscores=True)
            pipe.hgetall(of.book)
            pipe.hgetall(of.state)
            pipe.lrange(of.rate, 0, -1)
        raw = pipe.execute()
    return [_stored(*raw[i : i + 6]) for i in range(0, len(raw), 6)]


def _stored(held: Any, line: Any, waits: Any, book: Any, state: Any, rate: Any) -> Stored:
    return Stored(
        {name.decode(): int(score) for name, score in held},
        [name.decode() for name in line],
        {name.decode(): int(score) for name, score in waits},
        {name.decode(): record.decode().split(" ") for name, record in book.items()},
        {name.decode(): value.decode() for name, value in state.items()},
        [int(at) for at in rate],
    )
