"""`EventLogClient`: a workspace's log through a server, for blocking callers."""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from ..backends.base import Gap
from ..core import EventInput, LogInfo, checked_bodies, checked_offset, query_request
from ..errors import InvalidInput
from ..events import Body, Event, EventParts, checked_key
from ..filters import EventFilter, Filters
from ..ids import MAX_COUNTER, EventId, parse_cursor
from ..reading import MAX_PAGE, Page, PageRequest
from . import wire
from .follower import RemoteFollower
from .server import Server


class EventLogClient:
    """A workspace's log behind the server at `url`. Safe under threads. Close it, or use it as a context manager.

    The calls are those of `EventLog`, with the same results. Each is bounded by `deadline_s` seconds, within which it
    is retried; an append is retried under an idempotency key, so it is made once however often it is sent. It raises
    an `EventLogError`: `InvalidInput` for what the caller gave, `BackendUnavailable` where the server, or its Redis,
    does not answer. How large an event and a batch may be is for the server to say.
    """

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._server = Server(url, workspace, deadline_s)
        self.workspace = self._server.workspace

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
        body = Body.of(kind, payload, payload_max_bytes=MAX_COUNTER, **parts)
        request = wire.append_request([body], checked_offset(expected_offset), None, single=True)
        return self._server.ask(request, lambda answer: wire.read_appended(answer, [body]))[0]

    def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> list[Event]:
        """Append all events, contiguous, or none; see `EventLog.append_many`."""
        bodies = checked_bodies(events, idempotency_key, MAX_COUNTER, MAX_COUNTER)
        if not bodies:
            return []
        request = wire.append_request(bodies, checked_offset(expected_offset), idempotency_key, single=False)
        if idempotency_key is not None:
            checked_key(idempotency_key)
            bodies = [body._replace(idempotency_key=idempotency_key) for body in bodies]
        return self._server.ask(request, lambda answer: wire.read_appended(answer, bodies))

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
        found: list[Event] = []
        left = request.limit
        while True:
            page = self._page(request._replace(limit=min(left, MAX_PAGE)), since_time)
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
    ) -> Page:
        """One page; see `EventLog.page`. Its `state` is None."""
        wanted = EventFilter.of(**filters)
        request = PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch)
        return self._page(request, since_time)

    def get(self, event_id: str) -> Event:
        """One event by its id; raises `NotFound`."""
        wanted = EventId.parse(event_id)
        return self._server.ask(wire.Request("GET", f"/events/{wanted}", []), wire.read_event)

    def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> RemoteFollower:
        """Follow the log over one stream, which is resumed by its cursor; see `EventLog.follow`."""
        wanted = EventFilter.of(**filters)
        if until_terminal and wanted.run_id is None:
            raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
        cursor = parse_cursor(since)
        if cursor is None:
            # From now means from this call on, so it becomes a concrete position before anything is followed.
            info = self.info()
            start, epoch = info.last_id or "0", info.epoch
        else:
            start = str(cursor)
        return RemoteFollower(
            self._server.client,
            self._server.origin,
            start,
            wanted,
            epoch=epoch,
            until_terminal=until_terminal,
            on_gap=on_gap,
            patience_s=patience_s,
            connect_s=self._server.deadline_s,
        )

    def clear(self) -> int:
        """Remove all events and keep the counters; returns how many were removed."""
        return self._server.ask(wire.Request("DELETE", "/events", [], repeatable=False), wire.read_removed)

    def info(self) -> LogInfo:
        """The state of the log."""
        return self._server.ask(wire.Request("GET", "/log", []), wire.read_info)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _page(self, request: PageRequest, since_time: float | None) -> Page:
        return self._server.ask(wire.page_request(request, since_time), wire.read_page)
