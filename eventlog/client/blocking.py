"""`EventLogClient`: a workspace's log through a server, for blocking callers. `awaited.py` has the asyncio twin."""

import weakref
from collections.abc import Callable
from typing import TypeVar

from ..log.blocking import EventLog, Follower
from ..log.reading import FollowStart
from ..model.log_values import Gap
from ..plan.drive import run
from ..plan.effects import Plan
from .address import ServerAddress
from .connection import Connection
from .following import StreamTail
from .log_operations import LogCalls
from .slots_blocking import RemoteSlots

T = TypeVar("T")


class EventLogClient(EventLog):
    """The log behind the server at `url`: `create_event_log(url=…)` opens it. Safe under threads and across `fork`.

    Each call is bounded by `deadline_s` seconds, within which it is retried; an append is retried under an idempotency
    key, so it is made once however often it is sent. The server decides how large an event and a batch may be.
    """

    operations: LogCalls
    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        address = ServerAddress.of(url, workspace, deadline_s)
        self._connection = Connection(address)
        self.operations = LogCalls(address.origin, address.deadline_s)
        self._slots: RemoteSlots | None = None
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self.workspace = address.workspace

    def _run(self, plan: Plan[T], /) -> T:
        return run(plan, self._connection.execute)

    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> Follower:
        tail = StreamTail(self.operations, start)
        # From now means from this call on, not from the first iteration.
        self._run(tail.resolve())
        execute = self._connection.execute
        follower = Follower(tail, execute, on_gap, interrupt=tail.interrupt, hang_up=lambda: run(tail.close(), execute))
        self._followers.add(follower)
        return follower

    def slots(self) -> RemoteSlots:
        """The slot queues of this workspace, over the same connections. Closed with the client."""
        if self._slots is None:
            self._slots = RemoteSlots.beside(self._connection)
        return self._slots

    def close(self) -> None:
        """End what follows and waits, give calls under way two seconds, and close all connections. Idempotent."""
        if self._slots is not None:
            self._slots.close()
        for follower in list(self._followers):
            follower.close()
        self._connection.close()
