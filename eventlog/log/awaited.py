"""The log for asyncio callers: the calls of `operations.py`, driven by the running event loop."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import InvalidInput, LogClosed
from ..model.events import Event
from ..model.filters import EventFilter, Filters
from ..model.guard import ContentGuard
from ..model.ids import parse_cursor
from ..model.log_values import Append, Gap, Outcome
from ..plan.colours import awaited
from ..plan.drive import AsyncTransport, ano_transport, arun
from ..plan.effects import Plan
from ..plan.forks import OfOneProcess
from ..slots.awaited import AsyncDirectSlots, AsyncSlotQueue
from .commit import CommitStats
from .commit_tasks import TaskCommitter
from .core import LogCore
from .limits import LogLimits
from .operations import LogOperations
from .protocol import Backend
from .reading import FollowedTail, FollowStart, Tail, warn_of_gap

T = TypeVar("T")
AsyncExecute = Callable[[Any], Awaitable[Any]]


class AsyncEventLog(OfOneProcess, ABC):
    """The asyncio twin of `EventLog`, for the tasks of one event loop. Use `async with`, or `await close()`.

    When its loop is closed, the next one that uses it takes over; its slots and a log behind a server do not go along.
    On another loop beside one that is not closed it raises `RuntimeError` before anything is sent (not in memory).
    """

    operations: LogOperations
    workspace: str
    backend: str
    connect: Callable[[int], AsyncTransport] | None = None
    telemetry_capacity: int | None = None

    @abstractmethod
    def _run(self, plan: Plan[T], /) -> Coroutine[Any, Any, T]: ...

    append = awaited(LogOperations.append)
    append_body = awaited(LogOperations.append_body)
    append_many = awaited(LogOperations.append_many)
    track_event = awaited(LogOperations.track_event)
    append_each = awaited(LogOperations.append_each)
    query = awaited(LogOperations.query)
    page = awaited(LogOperations.page)
    get = awaited(LogOperations.get)
    runs = awaited(LogOperations.runs)
    run = awaited(LogOperations.run)
    replay = awaited(LogOperations.replay)
    replay_page = awaited(LogOperations.replay_page)
    stages = awaited(LogOperations.stages)
    push_telemetry = awaited(LogOperations.push_telemetry)
    telemetry = awaited(LogOperations.telemetry)
    clear = awaited(LogOperations.clear)
    info = awaited(LogOperations.info)
    set_retention = awaited(LogOperations.set_retention)
    verify = awaited(LogOperations.verify)

    def follow(
        self,
        since: object = None,
        *,
        epoch: str | None = None,
        until_terminal: bool = False,
        on_gap: Callable[[Gap], None] | None = None,
        patience_s: float = 30.0,
        **filters: Unpack[Filters],
    ) -> "AsyncFollower":
        """See `EventLog.follow`. With `since=None`, "now" is when the iteration starts."""
        start = FollowStart(parse_cursor(since), EventFilter.of(**filters), epoch, until_terminal, patience_s)
        return self._follow(start, warn_of_gap if on_gap is None else on_gap)

    @abstractmethod
    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> "AsyncFollower": ...

    @abstractmethod
    def slots(self) -> AsyncSlotQueue:
        """See `EventLog.slots`."""

    @property
    def core(self) -> LogCore:
        """See `EventLog.core`."""
        raise InvalidInput("log", "is behind a server: this needs a log on redis, memory or disabled")

    def stats(self) -> CommitStats:
        """See `EventLog.stats`."""
        return CommitStats()

    @abstractmethod
    async def close(self) -> None:
        """Wait, bounded, for calls under way, then close all connections. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncDirectLog(AsyncEventLog):
    """The asyncio twin of `DirectLog`."""

    operations: LogCore

    def __init__(
        self,
        backend: Backend,
        *,
        workspace: str,
        limits: LogLimits = LogLimits(),  # noqa: B008  (immutable)
        guard: ContentGuard = ContentGuard(),  # noqa: B008  (immutable)
        connect: Callable[[int], AsyncTransport] | None = None,
        on_close: Callable[[], None] | None = None,
        link: AsyncTransport | None = None,
    ) -> None:
        self.operations = LogCore(backend, workspace, limits, guard)
        self.telemetry_capacity = self.operations.telemetry_rings.capacity
        self.workspace = workspace
        self.backend = backend.name
        self.connect = connect
        self._owns_link = link is None
        self._link = link if link is not None or connect is None else connect(8)
        self._send_command: AsyncExecute = ano_transport if self._link is None else self._link.execute
        self._on_close = on_close
        self._closed = False
        self._committer = None if self._link is None else TaskCommitter(self._send, limits.commit, limits.deadline_s)
        self._slots: AsyncSlotQueue | None = None

    @property
    def core(self) -> LogCore:
        """See `EventLog.core`."""
        return self.operations

    async def _send(self, appends: Any, call_number: int) -> list[Outcome]:
        return await arun(self.operations.backend.append(appends, call_number), self._send_command)

    # Neither is a coroutine itself: each of those would cost every append as much as a function call again.
    def _run(self, plan: Plan[T], /) -> Coroutine[Any, Any, T]:
        if self._closed:
            raise LogClosed("the log was closed")
        return arun(plan, self._execute)

    def _execute(self, effect: Any) -> Awaitable[Any]:
        if type(effect) is not Append:
            return self._send_command(effect)
        return self._send_alone(effect) if self._committer is None else self._committer.submit(effect)

    async def _send_alone(self, append: Append) -> Outcome:
        return (await self._send((append,), 0))[0]

    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> "AsyncFollower":
        tail = Tail(self.operations.backend, **start._asdict())
        return AsyncFollower(tail, self._own_connection(), on_gap, lambda: self._closed)

    @asynccontextmanager
    async def _own_connection(self) -> AsyncIterator[AsyncExecute]:
        if self.connect is None:
            yield ano_transport
            return
        link = self.connect(1)
        try:
            yield link.execute
        finally:
            await link.close()

    def slots(self) -> AsyncSlotQueue:
        """See `EventLog.slots`."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._slots is None:
            self._slots = AsyncDirectSlots(
                self.operations.backend.slots(), workspace=self.workspace, link=self._link, connect=self.connect
            )
        return self._slots

    def stats(self) -> CommitStats:
        """See `EventLog.stats`."""
        return CommitStats() if self._committer is None else self._committer.stats()

    async def close(self) -> None:
        """See `EventLog.close`."""
        if self._closed:
            return
        self._closed = True
        if self._slots is not None:
            await self._slots.close()
        if self._committer is not None:
            await self._committer.close()
        if self._link is not None and self._owns_link:
            await self._link.close()
        if self._on_close is not None:
            self._on_close()


class _Position:
    """Behind the last event that was handed out."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        self.handed_out = 0


class AsyncFollower(OfOneProcess):
    """The asyncio twin of `Follower`: `async for event in follower`. Cancelled or left, it closes its connection."""

    def __init__(
        self,
        tail: FollowedTail,
        connection: AbstractAsyncContextManager[AsyncExecute],
        on_gap: Callable[[Gap], None],
        is_log_closed: Callable[[], bool],
    ) -> None:
        self._tail = tail
        self._position = _Position(tail.cursor)
        # It has no reference to the follower: so it ends with it, and is not kept alive by a cycle.
        self._events = _events(tail, self._position, connection, on_gap, is_log_closed)

    @property
    def cursor(self) -> str:
        """See `Follower.cursor`."""
        return self._position.cursor

    @property
    def handed_out(self) -> int:
        """How many events so far."""
        return self._position.handed_out

    @property
    def epoch(self) -> str | None:
        """See `Follower.epoch`."""
        return self._tail.epoch

    @property
    def caught_up(self) -> bool:
        """See `Follower.caught_up`."""
        return self._tail.caught_up

    def __aiter__(self) -> AsyncGenerator[Event, None]:
        return self._events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """End the iteration and close its connection. Idempotent."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _events(
    tail: FollowedTail,
    position: _Position,
    connection: AbstractAsyncContextManager[AsyncExecute],
    on_gap: Callable[[Gap], None],
    is_log_closed: Callable[[], bool],
) -> AsyncGenerator[Event, None]:
    async with connection as execute:
        while not (tail.ended or is_log_closed()):
            try:
                items = await arun(tail.step(), execute)
            except LogClosed:
                return
            for item in items:
                if isinstance(item, Gap):
                    on_gap(item)
                    continue
                position.handed_out += 1
                position.cursor = item.id
                yield item
            position.cursor = tail.cursor
