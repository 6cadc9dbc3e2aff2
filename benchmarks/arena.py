"""Where contests are held: one real redis-server for both sides, and the work that both are given.

Theirs is redis-py as its documentation advises: one client made once and shared, hiredis installed, defaults
untouched. Their event has the same two fields as ours, so that both streams hold the same bytes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import redis

from eventlog import AsyncEventLog, EventLog, create_async_event_log, create_event_log
from eventlog.embedded import EmbeddedRedis

KIND = "tool.invoked"
PAYLOAD: dict[str, Any] = {
    "tool": "search",
    "query": "what is an event log",
    "results": 12,
    "elapsed_ms": 48.25,
    "cached": False,
    "page": "a1b2c3d4",
}
MAX_ENTRIES = 10_000
THEIR_STREAM = "theirs"
OUR_WORKSPACE = "ours"


@dataclass(frozen=True, slots=True)
class Arena:
    """The server's `url`, and `scale`: 1.0 is the full number of operations a lap."""

    url: str
    redis_version: str
    scale: float

    def times(self, full: int, least: int = 1) -> int:
        """How many operations a lap has that has `full` at scale 1."""
        return max(least, round(full * self.scale))

    def our_log(self) -> EventLog:
        """A log as `create_event_log` makes it, nothing tuned."""
        return create_event_log("redis", url=self.url, workspace=OUR_WORKSPACE, max_entries=MAX_ENTRIES)

    def our_async_log(self) -> AsyncEventLog:
        """The same for asyncio."""
        return create_async_event_log("redis", url=self.url, workspace=OUR_WORKSPACE, max_entries=MAX_ENTRIES)

    def their_client(self) -> redis.Redis:
        """A redis-py client as its documentation makes it."""
        return redis.Redis.from_url(self.url)


def their_fields() -> dict[Any, Any]:
    """What the obvious producer stores: the kind, and the payload as JSON. Encoding counts, as it does on our side."""
    return {"kind": KIND, "payload": orjson.dumps(PAYLOAD)}


@contextmanager
def open_arena(scale: float) -> Iterator[Arena]:
    """Start a server (append-only file, fsync every second, unix socket) with both streams as full as they get."""
    with tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder, EmbeddedRedis.start(Path(folder)) as server:
        arena = Arena(server.url, f"{server.server_name} {server.server_version}", scale)
        _fill(arena)
        yield arena


def _fill(arena: Arena) -> None:
    """Trimming is part of an append, so neither side starts on an empty stream."""
    wanted = arena.times(MAX_ENTRIES + MAX_ENTRIES // 5)
    with arena.our_log() as log, arena.their_client() as client:
        log.append_many([{"kind": KIND, "payload": PAYLOAD}] * min(wanted, MAX_ENTRIES))
        log.append_many([{"kind": KIND, "payload": PAYLOAD}] * max(1, wanted - MAX_ENTRIES))
        pipeline = client.pipeline(transaction=False)
        for _ in range(wanted):
            pipeline.xadd(THEIR_STREAM, their_fields(), maxlen=MAX_ENTRIES, approximate=True)
        pipeline.execute()
