"""Slot queues through a server on asyncio: the calls of `operations.py`, driven by the event loop. Docs are there."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Self

from ..plan.effects import Plan
from ..slots.awaited import AsyncSlotQueue
from ..slots.request import Acquisition
from ..slots.waiting import Grant
from .address import ServerAddress
from .asking import Effect, Exchange
from .connection import AsyncConnection
from .slot_operations import SlotCalls

_LEAVING_S = 2.0


class AsyncRemoteSlots(AsyncSlotQueue):
    """The asyncio twin of `RemoteSlots`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    operations: SlotCalls
    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._begin(AsyncConnection(ServerAddress.of(url, workspace, deadline_s)), owns=True)

    @classmethod
    def beside(cls, connection: AsyncConnection) -> Self:
        """See `RemoteSlots.beside`."""
        slots = cls.__new__(cls)
        slots._begin(connection, owns=False)
        return slots

    def _begin(self, connection: AsyncConnection, *, owns: bool) -> None:
        address = connection.address
        self.workspace = address.workspace
        self.operations = SlotCalls(address.origin, address.deadline_s)
        self._connection = connection
        self._owns_connection = owns
        self._waits = AsyncConnection(address)
        self._acquiring: set[asyncio.Future[Any]] = set()
        super().__init__()

    def _execute(self, effect: Effect, /) -> Awaitable[Any]:
        waits = isinstance(effect, Exchange) and effect.waits
        return (self._waits if waits else self._connection).execute(effect)

    async def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> Any:
        acquired = asyncio.get_running_loop().create_future()
        self._acquiring.add(acquired)
        try:
            return await super()._take(acquisition, plan, on_lost)
        finally:
            self._acquiring.discard(acquired)
            acquired.cancel()

    async def close(self) -> None:
        """See `RemoteSlots.close`."""
        if self._closed:
            return
        self._closed = True
        await self._waits.close(patience_s=0)
        if leaving := self._acquiring | self._farewells:
            await asyncio.wait(leaving, timeout=_LEAVING_S)
        await self.keeper.close()
        if self._owns_connection:
            await self._connection.close()
