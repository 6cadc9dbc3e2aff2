"""Slot queues through a server on asyncio: the calls of `slots.py`, driven by the event loop. Docs are there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ..errors import EventLogError, LogClosed
from ..plan.drive import arun
from ..slots.acts import ANY, Act, Answer, Release
from ..slots.async_batcher import Told
from ..slots.awaited import Acquiring, AsyncSlot
from ..slots.holding import Holding
from ..slots.keeper import TaskKeeper
from ..slots.operations import LISTED, Left, SlotState
from ..slots.policy import Policy, Scope, StoredPolicy, queue_name
from ..slots.protocol import Cleared, QueueStats
from ..slots.request import Acquisition, SlotOptions
from ..slots.waiting import Grant
from .asking import Asking, Effect, Exchange
from .connection import AsyncConnection, Place
from .slot_operations import SlotCalls, is_left_behind
from .slots_blocking import release_of

T = TypeVar("T")
_ABANDON_S = 1.0
_LEAVING_S = 2.0


class AsyncRemoteSlot(AsyncSlot):
    """A slot that is held through a server: see `AsyncSlot`."""

    def release_act(self) -> Release:
        """See `release_of`."""
        return release_of(self)


class AsyncRemoteSlots:
    """The asyncio twin of `RemoteSlots`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._begin(AsyncConnection(Place.of(url, workspace, deadline_s)), owns=True)

    @classmethod
    def beside(cls, connection: AsyncConnection) -> Self:
        """See `RemoteSlots.beside`."""
        slots = cls.__new__(cls)
        slots._begin(connection, owns=False)
        return slots

    def _begin(self, connection: AsyncConnection, *, owns: bool) -> None:
        place = connection.place
        self.workspace = place.workspace
        self._connection = connection
        self._owns_connection = owns
        self._waits = AsyncConnection(place)
        self._calls = SlotCalls(place.origin, place.deadline_s)
        self._keeper = TaskKeeper(self._perform)
        self._closed = False
        # Those who ask for a slot, and the farewells of those who gave up.
        self._busy: set[asyncio.Future[Any]] = set()

    async def _execute(self, effect: Effect) -> Any:
        waits = isinstance(effect, Exchange) and effect.waits
        return await (self._waits if waits else self._connection).execute(effect)

    async def _run(self, plan: Asking[T]) -> T:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        return await arun(plan, self._execute)

    async def _perform(self, acts: Sequence[Act], within_s: float) -> list[Answer]:
        return await self._run(self._calls.perform_all(acts, within_s))

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[AsyncSlot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Acquiring:
        """See `RemoteSlots.acquire`. Await it, or use it with `async with`."""

        async def wait() -> AsyncSlot:
            acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
            async with self._abandoned_on_failure(acquisition):
                return self._kept(acquisition, await self._run(self._calls.acquire(acquisition)), on_lost)

        return Acquiring(lambda: wait().__await__())

    async def try_acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        on_lost: Callable[[AsyncSlot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> AsyncSlot | None:
        """See `RemoteSlots.try_acquire`."""
        acquisition = Acquisition.of(action, execution_id, 0, **options)
        async with self._abandoned_on_failure(acquisition):
            grant = await self._run(self._calls.try_acquire(acquisition))
            return None if grant is None else self._kept(acquisition, grant, on_lost)

    @contextlib.asynccontextmanager
    async def _abandoned_on_failure(self, acquisition: Acquisition) -> AsyncIterator[None]:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        asking = asyncio.get_running_loop().create_future()
        self._busy.add(asking)
        try:
            yield
        except BaseException as error:
            if is_left_behind(acquisition, error):
                await self._abandon(acquisition)
            raise
        finally:
            self._busy.discard(asking)
            asking.cancel()

    async def _abandon(self, acquisition: Acquisition) -> None:
        """Nobody waits any more, and what became of the last request is not known."""
        farewell = asyncio.create_task(self._leave_quietly(acquisition))
        self._busy.add(farewell)
        farewell.add_done_callback(self._busy.discard)
        # Who is cancelled once more waits for it no longer.
        await asyncio.shield(farewell)

    async def _leave_quietly(self, acquisition: Acquisition) -> None:
        release = Release(acquisition.queue, acquisition.execution_id, ANY)
        try:
            await arun(self._calls.perform(release, _ABANDON_S), self._connection.execute)
        except EventLogError:
            self._keeper.owe(release)

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[AsyncSlot], None] | None) -> AsyncSlot:
        slot = AsyncRemoteSlot(_Clerk(self._keeper, self._calls, self._run), acquisition, grant, on_lost)
        self._keeper.keep(slot)
        return slot

    async def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> SlotState:
        """See `RemoteSlots.enqueue`."""
        return await self._run(self._calls.enqueue(action, execution_id, queue_timeout_s, options))

    async def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> SlotState:
        """See `RemoteSlots.state`."""
        return await self._run(self._calls.state(action, execution_id, group_key, wait_s))

    async def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> SlotState:
        """See `RemoteSlots.renew`."""
        return await self._run(self._calls.renew(action, execution_id, fencing_token, lease_s, group_key))

    async def release(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> bool:
        """See `RemoteSlots.release`."""
        return (await self.leave(action, execution_id, fencing_token=fencing_token, group_key=group_key)) == "released"

    async def leave(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> Left:
        """See `RemoteSlots.leave`."""
        return await self._run(self._calls.leave(action, execution_id, fencing_token, group_key))

    async def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool:
        """See `RemoteSlots.cancel`."""
        return await self._run(self._calls.cancel(action, execution_id, group_key))

    async def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> QueueStats:
        """See `RemoteSlots.stats`."""
        return await self._run(self._calls.stats(action, group_key, listed))

    async def queues(self, *, listed: int = LISTED) -> list[QueueStats]:
        """See `RemoteSlots.queues`."""
        return await self._run(self._calls.queues(listed))

    async def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int:
        """See `RemoteSlots.set_limit`."""
        return await self._run(self._calls.set_limit(action, max_concurrent, group_key))

    async def clear(self, action: str, *, group_key: str | None = None) -> Cleared:
        """See `RemoteSlots.clear`."""
        return await self._run(self._calls.clear(queue_name(action, group_key)))

    async def clear_all(self) -> Cleared:
        """See `RemoteSlots.clear_all`."""
        return await self._run(self._calls.clear(None))

    async def policies(self) -> dict[Scope, StoredPolicy]:
        """See `RemoteSlots.policies`."""
        return await self._run(self._calls.policies())

    async def get_policy(self, scope: str) -> StoredPolicy | None:
        """See `RemoteSlots.get_policy`."""
        return await self._run(self._calls.get_policy(scope))

    async def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int:
        """See `RemoteSlots.put_policy`."""
        return await self._run(self._calls.put_policy(scope, policy, expected_version))

    async def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int:
        """See `RemoteSlots.delete_policy`."""
        return await self._run(self._calls.put_policy(scope, None, expected_version))

    async def close(self) -> None:
        """See `RemoteSlots.close`."""
        if self._closed:
            return
        self._closed = True
        await self._keeper.close()
        await self._waits.close(patience_s=0)
        if self._busy:
            await asyncio.wait(self._busy, timeout=_LEAVING_S)
        if self._owns_connection:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Clerk:
    """What the slots of one `AsyncRemoteSlots` need of it."""

    def __init__(
        self, keeper: TaskKeeper, calls: SlotCalls, run: Callable[[Asking[Any]], Coroutine[Any, Any, Any]]
    ) -> None:
        self._keeper = keeper
        self._calls = calls
        self._run = run

    async def ask(self, act: Act) -> Told:
        """Carry out a renewal or a release; a release that is cancelled is made up for."""
        if not isinstance(act, Release):
            return Told(await self._run(self._calls.perform(act)), 0, repeated=False)
        try:
            answer, repeated = await self._run(self._calls.release(act))
        except asyncio.CancelledError:
            self._keeper.owe(act)
            raise
        return Told(answer, 0, repeated)

    def drop(self, holding: Holding) -> None:
        """Renew this slot no longer."""
        self._keeper.drop(holding)

    def owe(self, release: Release) -> None:
        """Give a slot back as soon as the server can be reached."""
        self._keeper.owe(release)
