"""What a log can be asked, each call once: its signature, its words and its checks. No I/O, no colour.

`LogCore` answers on a backend, `client/log_calls.py` behind a server. `log.py` and `aio.py` give both their colours.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Unpack

from ..errors import EventLogError
from ..model.events import Body, Event, EventInput, EventParts
from ..model.filters import EventFilter, Filters, ReplayFilters
from ..model.ids import MAX_COUNTER, parse_cursor
from ..model.log_values import Audit, LogInfo
from ..model.pages import Page, PageRequest
from ..model.retention import checked_retention
from ..model.tracking import tracked
from ..plan.effects import Plan
from ..runs.fold import StageView
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunStatus, RunSummary
from ..telemetry.sample import Sample, TelemetryPage
from .append_each import append_each
from .limits import checked_batch
from .reading import query_request, warn_of_gap
from .runs import replay_request, whole_replay

T = TypeVar("T")


class LogOperations(ABC):
    """The calls of a log as plans. Every one is bounded by a deadline, and raises an `EventLogError`: `InvalidInput`
    for what the caller gave (nothing was appended), `BackendUnavailable` where nobody answers.
    """

    payload_max_bytes: int
    page_max_events = MAX_COUNTER

    def append(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expected_offset: int | None = None,
        **parts: Unpack[EventParts],
    ) -> Plan[Event]:
        """Append one event and return it with its place in the log.

        With an `idempotency_key` seen within the window the first event is returned, marked `duplicate`. With
        `expected_offset` the append is made only if the log ends there, else `Conflict` is raised.
        """
        body = Body.of(kind, payload, payload_max_bytes=self.payload_max_bytes, **parts)
        return self.append_body(body, expected_offset=expected_offset)

    @abstractmethod
    def append_body(self, body: Body, *, expected_offset: int | None = None) -> Plan[Event]:
        """Append one event whose parts, size included, were checked already."""

    def track_event(
        self, event_name: str, data: Mapping[str, Any] | None = None, operation_id: object = None
    ) -> Plan[Event]:
        """Append an event of an operation: `event_name` is its kind, `data` its payload, the operation its run.

        An `operation_id` that cannot name a run is kept in the payload as `operation_id`.
        """
        return self.append_body(tracked(event_name, data, operation_id, payload_max_bytes=self.payload_max_bytes))

    @abstractmethod
    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> Plan[list[Event]]:
        """Append all events, contiguous, or none. One that is wrong is named by its index in `InvalidInput`."""

    def append_each(
        self, events: Iterable[EventInput], *, idempotency_key: str | None = None
    ) -> Plan[list[Event | EventLogError]]:
        """Append events as one batch; one that is refused costs only itself. Returns the event or the error for each.

        After an outage the events that were not, or perhaps not, appended have `BackendUnavailable`: repeated with the
        same `idempotency_key`, nothing is appended twice.
        """
        return append_each(self.append_many, list(checked_batch(events)), idempotency_key)

    def query(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        **filters: Unpack[Filters],
    ) -> Plan[list[Event]]:
        """The events after `since` and before `until` that pass the filters; `limit=None` is all of them.

        `since` and `until` take an id, a cursor, an integer offset or an `Event`. What is no longer resident is
        left out; `page` reports it. What the log loses while it is read is logged as a warning.
        """
        return self.read_all(query_request(since, until, limit, EventFilter.of(**filters), order, since_time))

    def read_all(self, request: PageRequest) -> Plan[list[Event]]:
        """All that a checked request asks for, over as many pages as that takes."""
        found: list[Event] = []
        left, is_first = request.limit, True
        while True:
            page = yield from self.read(request._replace(limit=min(left, self.page_max_events)))
            if page.gap is not None and not (is_first or request.descending):
                warn_of_gap(page.gap)
            is_first = False
            found += page.events
            left -= len(page.events)
            if page.at_end or left <= 0:
                return found
            cursor = parse_cursor(page.cursor)
            request = request._replace(until=cursor) if request.descending else request._replace(since=cursor)

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
    ) -> Plan[Page]:
        """One page of at most `limit` (100; 1000 at the most) events, with the cursor to go on from and the gap."""
        wanted = EventFilter.of(**filters)
        return self.read(PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch))

    @abstractmethod
    def read(self, request: PageRequest) -> Plan[Page]:
        """The page that a checked request asks for."""

    @abstractmethod
    def get(self, event_id: str) -> Plan[Event]:
        """One event by its id; raises `NotFound`."""

    def runs(self, limit: int = 100, *, until: object = None, status: RunStatus | None = None) -> Plan[RunsPage]:
        """A page of at most `limit` (1000) runs with a resident event, the one with the newest event first.

        `status` is `running`, `finished`, `failed` or `cancelled`; pass a page's cursor as `until` to go on.
        """
        return self.list_runs(RunsQuery.of(limit, until, status))

    @abstractmethod
    def list_runs(self, query: RunsQuery) -> Plan[RunsPage]:
        """The page of runs that a checked query asks for."""

    @abstractmethod
    def run(self, run_id: str) -> Plan[RunSummary]:
        """One run; raises `NotFound` if no event of it is resident."""

    def replay(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> Plan[list[Event]]:
        """A run's resident events after `since_seq` of their lanes, in the order of the log; `limit=None` is all.

        Raises `NotFound` if no event of the run is resident. `replay_page` reports what is gone; this call only logs a
        warning for what the log loses while it is read.
        """
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self.replay_all(whole_replay(run_id, limit, wanted))

    @abstractmethod
    def replay_all(self, request: PageRequest) -> Plan[list[Event]]:
        """All of a run's events that a checked request asks for; raises `NotFound`."""

    def replay_page(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        since: object = None,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> Plan[ReplayPage]:
        """One page of at most `limit` (100; 1000 at the most) events of a run, and how many are gone in which lane."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return self.read_replay(replay_request(run_id, since, limit, wanted))

    @abstractmethod
    def read_replay(self, request: PageRequest) -> Plan[ReplayPage]:
        """The page of a run that a checked request asks for; raises `NotFound`."""

    @abstractmethod
    def stages(self, run_id: str) -> Plan[list[StageView]]:
        """The run's stages by group, each as its latest attempt stands, folded from its resident `stage.*` events.

        Raises `NotFound` if no event of the run is resident.
        """

    @abstractmethod
    def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Plan[list[Sample]]:
        """Add samples to a run's ring; returns them with their `seq`, or nothing where the ring keeps none.

        A sample has `host` (`rss_bytes`, `cpu_percent`, `io_read_bytes`, `io_write_bytes`), `guest` (any JSON object)
        or both, and maybe `stage_name`, `source`, and `age_ms`: how long ago it was taken. At most 500 of 8 KiB.
        `capacity` is how many samples the run keeps from now on; 0 keeps none and frees its ring. Repeated under an
        `idempotency_key` it adds nothing and returns what the first push stored, marked `duplicate`; what the ring has
        let go since has neither `host` nor `guest`. Raises `NotFound` for a run that has neither an event nor a ring,
        `InvalidInput` naming the sample that is wrong.
        """

    @abstractmethod
    def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> Plan[TelemetryPage]:
        """A run's samples after `from_seq`, oldest first, and how many are gone; `limit=None` is all of them.

        Pass the page's `next_seq` as `from_seq` to go on. Raises `NotFound` for a run with neither event nor ring.
        """

    @abstractmethod
    def clear(self) -> Plan[int]:
        """Remove all events and keep the counters; returns how many were removed."""

    @abstractmethod
    def info(self) -> Plan[LogInfo]:
        """The state of the log: length, ends, epoch, retention, bytes."""

    def set_retention(self, *, ttl_seconds: float | None = None, max_entries: int | None = None) -> Plan[LogInfo]:
        """Keep events for so long and so many of them from now on, in every process; returns its new state.

        What is not given stays as it is. Less than before is out of sight at once. The `ttl_seconds` and `max_entries`
        of an opener are for a log that is new.
        """
        return self.keep(*checked_retention(ttl_seconds, max_entries))

    @abstractmethod
    def keep(self, ttl_ms: int | None, max_entries: int | None) -> Plan[LogInfo]:
        """Set a retention that was checked."""

    @abstractmethod
    def verify(self, *, repair: bool = False) -> Plan[Audit]:
        """Check the log against its own counters, order and run index; `InvalidInput` behind a server.

        With `repair`, events that a torn append-only file brought back are taken out first: those whose offset was
        given out again.
        """
