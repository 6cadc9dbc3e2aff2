"""The log behind a server for asyncio callers: the calls of `operations.py`, driven by the event loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from ..log.awaited import AsyncEventLog, AsyncExecute, AsyncFollower
from ..log.reading import FollowStart
from ..model.log_values import Gap
from ..plan.drive import arun
from ..plan.effects import Plan
from .address import ServerAddress
from .connection import AsyncConnection
from .following import StreamTail
from .log_operations import LogCalls
from .slots_awaited import AsyncRemoteSlots

T = TypeVar("T")


class AsyncEventLogClient(AsyncEventLog):
    """The asyncio twin of `EventLogClient`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    operations: LogCalls
    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        address = ServerAddress.of(url, workspace, deadline_s)
        self._connection = AsyncConnection(address)
        self.operations = LogCalls(address.origin, address.deadline_s)
        self._slots: AsyncRemoteSlots | None = None
        self.workspace = address.workspace

    async def _run(self, plan: Plan[T], /) -> T:
        return await arun(plan, self._connection.execute)

    def _follow(self, start: FollowStart, on_gap: Callable[[Gap], None]) -> AsyncFollower:
        tail = StreamTail(self.operations, start)
        return AsyncFollower(tail, _stream(tail, self._connection), on_gap, lambda: False)

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


@asynccontextmanager
async def _stream(tail: StreamTail, connection: AsyncConnection) -> AsyncIterator[AsyncExecute]:
    try:
        yield connection.execute
    finally:
        await arun(tail.close(), connection.execute)
