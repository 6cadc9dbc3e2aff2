"""`EventLogClient`: a workspace's log through a server, for blocking callers. `aio.py` has the asyncio twin."""

import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import LogClosed
from ..log.blocking import BlockingLog
from ..log.reading import warn_of_gap
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.log_values import Gap
from ..plan.colours import blocking
from ..plan.drive import Steps, run
from ..plan.effects import Park
from .connection import Connection, Place, Stream
from .following import StreamTail
from .log_operations import LogCalls, stream_tail
from .slots_blocking import RemoteSlots

T = TypeVar("T")


class EventLogClient(BlockingLog[LogCalls]):
    """A workspace's log behind the server at `url`. Safe under threads. Close it, or use it as a context manager.

    The calls are those of `EventLog`, with the same results. Each is bounded by `deadline_s` seconds, within which it
    is retried; an append is retried under an idempotency key, so it is made once however often it is sent. It raises
    an `EventLogError`: `InvalidInput` for what the caller gave, `BackendUnavailable` where the server, or its Redis,
    does not answer. How large an event and a batch may be is for the server to say.
    """

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        place = Place.of(url, workspace, deadline_s)
        self._connection = Connection(place)
        self.operations = LogCalls(place.origin, place.deadline_s)
        self._slots: RemoteSlots | None = None
        self._followers: weakref.WeakSet[RemoteFollower] = weakref.WeakSet()
        self.workspace = place.workspace

    def _run(self, plan: Steps[Any, T], /) -> T:
        return run(plan, self._connection.execute)

    track_event = blocking(LogCalls.track_event)

    def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> "RemoteFollower":
        """Follow the log over one stream, which is resumed by its cursor; see `EventLog.follow`."""
        tail = stream_tail(
            self.operations,
            since,
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        # From now means from this call on, not from the first iteration.
        self._run(self.operations.resolve(tail))
        follower = RemoteFollower(tail, self._connection, on_gap)
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


class RemoteFollower:
    """Iterates over a log's events as they come. `cursor` is where to resume: behind the last event handed out.

    What was missed goes to `on_gap`, by default to a logged warning. A stream that breaks is resumed; outages are
    waited out for the patience that was asked for, then `BackendUnavailable` is raised.
    """

    def __init__(self, tail: StreamTail, connection: Connection, on_gap: Callable[[Gap], None] | None) -> None:
        self._tail = tail
        self._execute = connection.execute
        self._on_gap = warn_of_gap if on_gap is None else on_gap
        self._cursor = tail.cursor
        self._closed = threading.Event()
        self._wake: Callable[[], None] | None = None
        tail.nap = self._nap

    @property
    def cursor(self) -> str:
        """Resume from here with `since`."""
        return self._cursor

    @property
    def epoch(self) -> str | None:
        """The incarnation of the log that `cursor` belongs to, as far as it is known."""
        return self._tail.epoch

    @property
    def caught_up(self) -> bool:
        """True while nothing older than now is left to read."""
        return self._tail.caught_up

    def __iter__(self) -> Iterator[Event]:
        try:
            while not (self._closed.is_set() or self._tail.ended):
                try:
                    items = run(self._tail.step(), self._execute)
                except LogClosed:
                    if self._closed.is_set():
                        return
                    raise
                for item in items:
                    if isinstance(item, Gap):
                        self._on_gap(item)
                        continue
                    self._cursor = item.id
                    yield item
                    if self._closed.is_set():
                        return
                self._cursor = self._tail.cursor
        finally:
            self._closed.set()
            run(self._tail.close(), self._execute)

    def _nap(self, seconds: float) -> Park:
        return Park(self._until_closed, seconds)

    def _until_closed(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wake = wake
        if self._closed.is_set():
            wake()
        return self._forget

    def _forget(self) -> None:
        self._wake = None

    def close(self) -> None:
        """End the iteration, from any thread, at once. Idempotent."""
        self._closed.set()
        wake, stream = self._wake, self._tail.stream
        if wake is not None:
            wake()
        if isinstance(stream, Stream):
            stream.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
