"""The log behind a server for asyncio callers: the calls of `log.py`, driven by the event loop. Docs are there."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..backends.base import Gap
from ..core import EventInput, LogInfo, query_request, warn_of_gap
from ..drive import arun
from ..errors import BackendUnavailable, LogClosed
from ..events import Event, EventParts
from ..filters import EventFilter, Filters, ReplayFilters
from ..reading import Page, PageRequest
from ..runs.fold import StageView
from ..runs.reading import replay_request, whole_replay
from ..runs.records import ReplayPage, RunsPage, RunsQuery, RunStatus, RunSummary
from ..telemetry.sample import Sample, TelemetryPage
from .asking import Asking
from .connection import AsyncConnection, Place
from .following import StreamTail
from .log_calls import LogCalls, checked_body, stream_tail
from .slots_aio import AsyncRemoteSlots
from .tracking import tracked

T = TypeVar("T")


class AsyncEventLogClient:
    """The asyncio twin of `EventLogClient`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        place = Place.of(url, workspace, deadline_s)
        self._connection = AsyncConnection(place)
        self._calls = LogCalls(place.origin, place.deadline_s)
        self._slots: AsyncRemoteSlots | None = None
        self.workspace = place.workspace

    async def _run(self, plan: Asking[T]) -> T:
        return await arun(plan, self._connection.execute)

    async def append(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        expected_offset: int | None = None,
        **parts: Unpack[EventParts],
    ) -> Event:
        """See `EventLogClient.append`."""
        return await self._run(self._calls.append(checked_body(kind, payload, parts), expected_offset))

    async def append_many(
        self,
        events: Iterable[EventInput],
        *,
        idempotency_key: str | None = None,
        expected_offset: int | None = None,
    ) -> list[Event]:
        """See `EventLogClient.append_many`."""
        return await self._run(self._calls.append_many(events, idempotency_key, expected_offset))

    async def track_event(
        self, event_name: str, data: Mapping[str, Any] | None = None, operation_id: object = None
    ) -> Event:
        """See `EventLogClient.track_event`."""
        return await self._run(self._calls.append(tracked(event_name, data, operation_id), None))

    async def query(
        self,
        since: object = None,
        limit: int | None = None,
        *,
        until: object = None,
        order: str = "asc",
        since_time: float | None = None,
        **filters: Unpack[Filters],
    ) -> list[Event]:
        """See `EventLogClient.query`."""
        request = query_request(since, until, limit, EventFilter.of(**filters), order, since_time)
        return await self._run(self._calls.query(request, since_time))

    async def page(
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
        """See `EventLogClient.page`."""
        wanted = EventFilter.of(**filters)
        request = PageRequest.of(since, until, limit, wanted, order=order, since_time=since_time, epoch=epoch)
        return await self._run(self._calls.page(request, since_time))

    async def get(self, event_id: str) -> Event:
        """See `EventLogClient.get`."""
        return await self._run(self._calls.get(event_id))

    def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> "AsyncRemoteFollower":
        """See `EventLogClient.follow`. With `since=None`, "now" is when the iteration starts."""
        tail = stream_tail(
            self._calls,
            since,
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        return AsyncRemoteFollower(tail, self._calls, self._connection, on_gap)

    async def runs(self, limit: int = 100, *, until: object = None, status: RunStatus | None = None) -> RunsPage:
        """See `EventLogClient.runs`."""
        return await self._run(self._calls.runs(RunsQuery.of(limit, until, status)))

    async def run(self, run_id: str) -> RunSummary:
        """See `EventLogClient.run`."""
        return await self._run(self._calls.run(run_id))

    async def replay(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> list[Event]:
        """See `EventLogClient.replay`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return await self._run(self._calls.replay(whole_replay(run_id, limit, wanted)))

    async def replay_page(
        self,
        run_id: str,
        *,
        lane_id: str | None = None,
        since_seq: int = 0,
        since: object = None,
        limit: int | None = None,
        **filters: Unpack[ReplayFilters],
    ) -> ReplayPage:
        """See `EventLogClient.replay_page`."""
        wanted = EventFilter.of(lane_id=lane_id, since_seq=since_seq, **filters)
        return await self._run(self._calls.replay_page(replay_request(run_id, since, limit, wanted)))

    async def stages(self, run_id: str) -> list[StageView]:
        """See `EventLogClient.stages`."""
        return await self._run(self._calls.stages(run_id))

    async def push_telemetry(
        self,
        run_id: str,
        samples: Iterable[Mapping[str, Any]],
        *,
        capacity: int | None = None,
        idempotency_key: str | None = None,
    ) -> list[Sample]:
        """See `EventLogClient.push_telemetry`."""
        return await self._run(self._calls.push_telemetry(run_id, samples, capacity, idempotency_key))

    async def telemetry(
        self, run_id: str, *, from_seq: int = 0, stage_name: str | None = None, limit: int | None = None
    ) -> TelemetryPage:
        """See `EventLogClient.telemetry`."""
        return await self._run(self._calls.telemetry(run_id, from_seq, stage_name, limit))

    def slots(self) -> AsyncRemoteSlots:
        """See `EventLogClient.slots`."""
        if self._slots is None:
            self._slots = AsyncRemoteSlots.beside(self._connection)
        return self._slots

    async def clear(self) -> int:
        """See `EventLogClient.clear`."""
        return await self._run(self._calls.clear())

    async def info(self) -> LogInfo:
        """See `EventLogClient.info`."""
        return await self._run(self._calls.info())

    async def close(self) -> None:
        """See `EventLogClient.close`."""
        if self._slots is not None:
            await self._slots.close()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Position:
    """Behind the last event that was handed out."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor


class AsyncRemoteFollower:
    """The asyncio twin of `RemoteFollower`: `async for event in follower`. Cancelled or left, it closes its stream."""

    def __init__(
        self, tail: StreamTail, calls: LogCalls, connection: AsyncConnection, on_gap: Callable[[Gap], None] | None
    ) -> None:
        self._tail = tail
        self._position = _Position(tail.cursor)
        # It knows nothing of the follower: so it ends with it, and is not kept alive by a cycle.
        self._events = _events(tail, self._position, calls, connection, warn_of_gap if on_gap is None else on_gap)

    @property
    def cursor(self) -> str:
        """See `RemoteFollower.cursor`."""
        return self._position.cursor

    @property
    def epoch(self) -> str | None:
        """See `RemoteFollower.epoch`."""
        return self._tail.epoch

    @property
    def caught_up(self) -> bool:
        """See `RemoteFollower.caught_up`."""
        return self._tail.caught_up

    def __aiter__(self) -> AsyncGenerator[Event, None]:
        return self._events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """End the iteration and close its stream. Idempotent."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _events(
    tail: StreamTail,
    position: _Position,
    calls: LogCalls,
    connection: AsyncConnection,
    on_gap: Callable[[Gap], None],
) -> AsyncGenerator[Event, None]:
    try:
        await _resolved(tail, calls, connection)
        position.cursor = tail.cursor
        while not tail.ended:
            try:
                items = await arun(tail.step(), connection.execute)
            except LogClosed:
                return
            for item in items:
                if isinstance(item, Gap):
                    on_gap(item)
                    continue
                position.cursor = item.id
                yield item
            position.cursor = tail.cursor
    finally:
        await arun(tail.close(), connection.execute)


async def _resolved(tail: StreamTail, calls: LogCalls, connection: AsyncConnection) -> None:
    """Have a place to begin at, however long the server is away within the reader's patience."""
    while tail.from_now:
        try:
            await arun(calls.resolve(tail), connection.execute)
        except BackendUnavailable as error:
            await arun(tail.wait_out(error), connection.execute)
