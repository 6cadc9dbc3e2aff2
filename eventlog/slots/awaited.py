"""Slots for asyncio callers: the calls of `operations.py`, driven by the running event loop. Docs are there and in
`blocking.py`.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from ..errors import BackendUnavailable, EventLogError, InvalidInput, LeaseLost, LogClosed
from ..plan.colours import awaited
from ..plan.drive import AsyncTransport, ano_transport, arun
from ..plan.effects import Plan
from ..plan.forks import OfOneProcess
from .acts import Act, Answer, Release
from .async_batcher import Batcher
from .core import SlotCore
from .holding import Holding
from .keeper import TaskKeeper
from .operations import SlotOperations
from .protocol import SlotBackend
from .request import Acquisition, SlotOptions
from .waiting import Ask, AskAll, Grant, Listen, is_left_behind

T = TypeVar("T")
_log = logging.getLogger("eventlog")
_WORKING_AT_ONCE = 4
_ABANDON_S = 1.0


class AsyncSlot(Holding):
    """The asyncio twin of `Slot`. `on_lost` is called on the event loop."""

    def __init__(
        self,
        queues: "AsyncSlotQueue",
        acquisition: Acquisition,
        grant: Grant,
        on_lost: Callable[["AsyncSlot"], None] | None,
    ) -> None:
        super().__init__(queues, acquisition, grant, on_lost)
        self._execute = queues._execute

    async def renew(self, lease_s: float | None = None) -> None:
        """See `Slot.renew`."""
        await arun(self._renewing(lease_s), self._execute)

    async def release(self) -> bool:
        """See `Slot.release`. Cancelled, it gives the slot back all the same."""
        return await arun(self._releasing(), self._execute)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self.lost
        try:
            await self.release()
        except (BackendUnavailable, LogClosed) as failure:
            _log.warning("a slot of %s is not released now: %s", self.acquisition.queue, failure)
        if lost and kind is None:
            raise LeaseLost(self.acquisition.queue, self.execution_id)


class Acquiring:
    """What `acquire` returns: await it for the slot, or enter it with `async with`."""

    def __init__(self, acquire: Callable[[], Generator[Any, None, AsyncSlot]]) -> None:
        self._acquire = acquire
        self._slot: AsyncSlot | None = None

    def __await__(self) -> Generator[Any, None, AsyncSlot]:
        return self._acquire()

    async def __aenter__(self) -> AsyncSlot:
        self._slot = await self
        return self._slot

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._slot is not None
        await self._slot.__aexit__(kind, error, trace)


class AsyncSlotQueue(OfOneProcess):
    """The asyncio twin of `SlotQueue`, for the tasks of one event loop. Use `async with`, or `await close()`."""

    operations: SlotOperations
    workspace: str
    backend: str

    def __init__(self) -> None:
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.keeper = TaskKeeper(self._carry_out_all)
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def core(self) -> SlotCore:
        """See `SlotQueue.core`."""
        raise InvalidInput("slots", "are behind a server: this needs slots on redis, memory or disabled")

    def _execute(self, effect: Any, /) -> Awaitable[Any]:
        raise NotImplementedError

    async def _run(self, plan: Plan[T], /) -> T:
        self._refuse_if_closed()
        return await arun(plan, self._execute)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("these slots belong to the event loop that used them first: give each loop its own")
            self._loop = loop

    async def _carry_out_all(self, acts: Sequence[Act], within_s: float) -> Sequence[Answer]:
        return await arun(self.operations.carry_out_all(acts, within_s), self._execute)

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        adopt: bool = False,
        on_lost: Callable[[AsyncSlot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Acquiring:
        """See `SlotQueue.acquire`. Await it, or use it with `async with`."""

        def wait() -> Generator[Any, None, AsyncSlot]:
            acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
            plan = self.operations.wait_for(acquisition, adopt=adopt)
            return self._take(acquisition, plan, on_lost).__await__()

        return Acquiring(wait)

    async def try_acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        on_lost: Callable[[AsyncSlot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> AsyncSlot | None:
        """See `SlotQueue.try_acquire`."""
        acquisition = Acquisition.of(action, execution_id, 0, **options)
        return await self._take(acquisition, self.operations.attempt(acquisition), on_lost)

    @overload
    async def _take(self, acquisition: Acquisition, plan: Plan[Grant], on_lost: Any) -> AsyncSlot: ...

    @overload
    async def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> AsyncSlot | None: ...

    async def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> AsyncSlot | None:
        try:
            self._refuse_if_closed()
            grant = await arun(plan, self._execute)
        except BaseException as error:
            if is_left_behind(acquisition, error):
                # A caller that is cancelled once more does not wait for it, and it is carried out all the same.
                await asyncio.shield(self._abandoning(acquisition))
            raise
        return None if grant is None else self._kept(acquisition, grant, on_lost)

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[AsyncSlot], None] | None) -> AsyncSlot:
        slot = AsyncSlot(self, acquisition, grant, on_lost)
        self.keeper.keep(slot)
        return slot

    def _abandoning(self, acquisition: Acquisition) -> asyncio.Task[None]:
        """Nobody waits any more, and what became of the last call is not known."""
        acquisition.doubtful = True
        farewell = asyncio.create_task(self._give_back(self.operations.release_act(acquisition, None)))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        return farewell

    async def _give_back(self, release: Release) -> None:
        try:
            async with asyncio.timeout(_ABANDON_S):
                await arun(self.operations.carry_out(release), self._execute)
        except (EventLogError, TimeoutError):
            self.keeper.owe(release)

    async def attach(
        self,
        action: str,
        execution_id: str,
        *,
        group_key: str | None = None,
        on_lost: Callable[[AsyncSlot], None] | None = None,
    ) -> AsyncSlot | None:
        """See `SlotQueue.attach`."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        grant = await self._run(self.operations.attached(acquisition))
        return None if grant is None else self._kept(acquisition, grant, on_lost)

    enqueue = awaited(SlotOperations.enqueue)
    state = awaited(SlotOperations.state)
    renew = awaited(SlotOperations.renew)
    release = awaited(SlotOperations.release)
    leave = awaited(SlotOperations.leave)
    cancel = awaited(SlotOperations.cancel)
    stats = awaited(SlotOperations.stats)
    queues = awaited(SlotOperations.queues)
    queues_page = awaited(SlotOperations.queues_page)
    queues_of = awaited(SlotOperations.queues_of)
    tend = awaited(SlotOperations.tend)
    set_limit = awaited(SlotOperations.set_limit)
    clear = awaited(SlotOperations.clear)
    clear_all = awaited(SlotOperations.clear_all)
    policies = awaited(SlotOperations.policies)
    get_policy = awaited(SlotOperations.get_policy)
    put_policy = awaited(SlotOperations.put_policy)
    delete_policy = awaited(SlotOperations.delete_policy)

    async def close(self) -> None:
        """See `SlotQueue.close`."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncDirectSlots(AsyncSlotQueue):
    """The asyncio twin of `DirectSlots`."""

    operations: SlotCore

    def __init__(
        self,
        backend: SlotBackend,
        *,
        workspace: str,
        link: AsyncTransport | None = None,
        connect: Callable[[int], AsyncTransport] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.workspace = workspace
        self.backend = backend.name
        self._own_link = connect(_WORKING_AT_ONCE) if link is None and connect is not None else None
        link = link or self._own_link
        self._send = ano_transport if link is None else link.execute
        self._bells = None if connect is None else connect(1)
        hear = None if self._bells is None else self._bells.execute
        self.operations = SlotCore(backend, "" if hear is None else "i" + uuid.uuid4().hex)
        self._batcher = Batcher(backend, self.operations.inbox, self._send, hear)
        self._on_close = on_close
        super().__init__()

    @property
    def core(self) -> SlotCore:
        """See `SlotQueue.core`."""
        return self.operations

    def _execute(self, effect: Any, /) -> Awaitable[Any]:
        if type(effect) is Ask:
            return self._batcher.ask(effect.act)
        if type(effect) is Listen:
            return self._batcher.listen(effect)
        if type(effect) is AskAll:
            return self._batcher.ask_all(effect.acts, effect.deadline_s)
        return self._send(effect)

    async def close(self) -> None:
        """See `SlotQueue.close`."""
        if self._closed:
            return
        self._closed = True
        await self.keeper.close()
        await self._batcher.close()
        for link in (self._bells, self._own_link):
            if link is not None:
                await link.close()
        if self._on_close is not None:
            self._on_close()
