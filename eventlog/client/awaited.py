"""The log behind a server for asyncio callers: the calls of `operations.py`, driven by the event loop."""

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import BackendUnavailable, LogClosed
from ..log.awaited import AwaitedLog
from ..log.reading import warn_of_gap
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.log_values import Gap
from ..plan.colours import awaited
from ..plan.drive import Steps, arun
from .connection import AsyncConnection, Place
from .following import StreamTail
from .log_operations import LogCalls, stream_tail
from .slots_awaited import AsyncRemoteSlots

T = TypeVar("T")


class AsyncEventLogClient(AwaitedLog[LogCalls]):
    """The asyncio twin of `EventLogClient`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        place = Place.of(url, workspace, deadline_s)
        self._connection = AsyncConnection(place)
        self.operations = LogCalls(place.origin, place.deadline_s)
        self._slots: AsyncRemoteSlots | None = None
        self.workspace = place.workspace

    async def _run(self, plan: Steps[Any, T], /) -> T:
        return await arun(plan, self._connection.execute)

    track_event = awaited(LogCalls.track_event)

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
            self.operations,
            since,
            EventFilter.of(**filters),
            epoch=epoch,
            until_terminal=until_terminal,
            patience_s=patience_s,
        )
        return AsyncRemoteFollower(tail, self.operations, self._connection, on_gap)

    def slots(self) -> AsyncRemoteSlots:
        """See `EventLogClient.slots`."""
        if self._slots is None:
            self._slots = AsyncRemoteSlots.beside(self._connection)
        return self._slots

    async def close(self) -> None:
        """See `EventLogClient.close`."""
        if self._slots is not None:
            await self._slots.close()
        await self._connection.close()


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
