"""`EventLogClient`: a workspace's log through a server, for blocking callers. `aio.py` has the asyncio twin."""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..backends.base import Gap
from ..core import EventInput, LogInfo, query_request, warn_of_gap
from ..drive import run
from ..errors import LogClosed
from ..events import Event, EventParts
from ..filters import EventFilter, Filters, ReplayFilters
from ..plan import Park
from ..reading import Page, PageRequest
from ..runs.fold import StageView
from ..runs.reading import replay_request, whole_replay
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunStatus, RunSummary
from ..telemetry.sample import Sample, TelemetryPage
from .asking import Asking
from .connection import Connection, Place, Stream
from .following import StreamTail
from .log_calls import LogCalls, checked_body, stream_tail
from .slots import RemoteSlots
from .tracking import tracked

T = TypeVar("T")


class EventLogClient:
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
        self._calls = LogCalls(place.origin, place.deadline_s)
        self._slots: RemoteSlots | None = None
        self._followers: weakref.WeakSet[RemoteFollower] = weakref.WeakSet()
        self.workspace = place.workspace

    def _run(self, plan: Asking[T]) -> T:
        return run(plan, self._connection.execute)

    def append(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expected_offset: int | None = None,
        **parts: Unpack[EventParts],
    ) -> Event:
        """Append one event; see `EventLog.append`.

        If the answer to an append with the caller's own `idempotency_key` was lost, and it was sent again under the
        hood, its event is marked `duplicate`: from outside it cannot be told whose repetition it was.
        """
        return self._run(self._calls.append(checked_body(kind, payload, parts), expected_offset))

    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> list[Event]:
        """Append all events, contiguous, or none; see `EventLog.append_many`."""
        return self._run(self._calls.append_many(events, idempotency_key, expected_offset))

    def track_event(self, event_name: str, data: Mapping[str, Any] | None = None, operation_id: object = None) -> Event:
        """Append an event of an operation: `event_name` is its kind, `data` its payload, the operation its run.

        An `operation_id` that cannot name a run is kept in the payload as `operation_id`.
        """
        return self._run(self._calls.append(tracked(event_name, data, operation_id), None))

    def query(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        **filters: Unpack[Filters],
    ) -> list[Event]:
        """The events after `since` and before `until` that pass the filters; see `EventLog.query`."""
        request = query_request(since, until, limit, EventFilter.of(**filters), order, since_time)
        return self._run(self._calls.query(request, since_time))

    def page(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        epoch: str | None = None,
        **filters: Unpack[Filters],
    ) -> Page:
        """One page; see `EventLog.page`. Its `state` is None."""
        wanted = EventFilter.of(**filters)
        request = PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch)
        return self._run(self._calls.page(request, since_time))

    def get(self, event_id: str) -> Event:
        """One event by its id; raises `NotFound`."""
        return self._run(self._calls.get(event_id))

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
            self._calls,
            since,
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        # From now means from this call on, not from the first iteration.
        self._run(self._calls.resolve(tail))
        follower = RemoteFollower(tail, self._connection, on_gap)
        self._followers.add(follower)
        return follower

    def runs(self, limit: int = 100, *, until: object = None, status: RunStatus | None = None) -> RunsPage:
        """A page of runs, the one with the newest event first; see `EventLog.runs`."""
        return self._run(self._calls.runs(RunsQuery.of(limit, until, status)))

    def run(self, run_id: str) -> RunSummary:
        """One run; raises `NotFound` if no event of it is resident."""
        return self._run(self._calls.run(run_id))

    def replay(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> list[Event]:
        """A run's resident events after `since_seq` of their lanes; see `EventLog.replay`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self._run(self._calls.replay(whole_replay(run_id, limit, wanted)))

    def replay_page(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        since: object = None,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> ReplayPage:
        """One page of a run's events, and how many are gone in which lane; see `EventLog.replay_page`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self._run(self._calls.replay_page(replay_request(run_id, since, limit, wanted)))

    def stages(self, run_id: str) -> list[StageView]:
        """How the stages of a run stand; raises `NotFound`. See `EventLog.stages`."""
        return self._run(self._calls.stages(run_id))

    def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[Sample]:
        """Add samples to a run's ring, once however often they are sent; see `EventLog.push_telemetry`."""
        return self._run(self._calls.push_telemetry(run_id, samples, capacity, idempotency_key))

    def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> TelemetryPage:
        """A run's samples after `from_seq`, oldest first, and how many are gone; see `EventLog.telemetry`."""
        return self._run(self._calls.telemetry(run_id, from_seq, stage_name, limit))

    def slots(self) -> RemoteSlots:
        """The slot queues of this workspace, over the same connections. Closed with the client."""
        if self._slots is None:
            self._slots = RemoteSlots.beside(self._connection)
        return self._slots

    def clear(self) -> int:
        """Remove all events and keep the counters; returns how many were removed."""
        return self._run(self._calls.clear())

    def info(self) -> LogInfo:
        """The state of the log."""
        return self._run(self._calls.info())

    def close(self) -> None:
        """End what follows and waits, give calls under way two seconds, and close all connections. Idempotent."""
        if self._slots is not None:
            self._slots.close()
        for follower in list(self._followers):
            follower.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
