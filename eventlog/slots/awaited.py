"""Slots for asyncio callers: the same calls as `queue.py`, for the tasks of one event loop. Docs are there."""

import logging
import uuid
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from ..errors import BackendUnavailable, EventLogError, LeaseLost, LogClosed
from ..plan.drive import ano_transport, arun
from ..plan.effects import Command, Plan
from .acts import Act, Busy, Granted, Mode, Queued, Release, Released
from .async_batcher import Desk, Told
from .holding import Holding
from .lease_schedule import tell_lost
from .leaving import cancel, leave
from .operations import LISTED, Left, SlotService, SlotState, checked_wait, key_of, look_again_s, state_of
from .policy import Policy, Scope, StoredPolicy
from .protocol import Cleared, QueueStats, SlotBackend
from .request import Acquisition, SlotOptions, checked_timeout, moment
from .waiting import Ask, Grant, Listen, acquire, refusal

T = TypeVar("T")
_log = logging.getLogger("eventlog")
_WORKING_AT_ONCE = 4
_LOOK_S = 2.0


class AsyncTransport(Protocol):
    """Carries out Redis commands on the running event loop (`store/links.py`)."""

    async def execute(self, command: Command) -> Any: ...

    async def close(self) -> None: ...


class Clerk(Protocol):
    """What a slot needs of where it is from: a `Desk`, or its like behind a server."""

    async def ask(self, act: Act, /) -> Told: ...

    def drop(self, holding: Holding, /) -> None: ...

    def owe(self, release: Release, /) -> None: ...


class AsyncSlot(Holding):
    """The asyncio twin of `Slot`. `on_lost` is called on the event loop."""

    def __init__(
        self, desk: Clerk, acquisition: Acquisition, grant: Grant, on_lost: Callable[["AsyncSlot"], None] | None
    ) -> None:
        super().__init__(acquisition, grant, on_lost)
        self._desk = desk

    async def renew(self, lease_s: float | None = None) -> None:
        """See `Slot.renew`."""
        asked_at = moment()
        told = await self._desk.ask(self.renewal(lease_s))
        if not self.renewed(told.answer, asked_at):
            self._desk.drop(self)
            tell_lost((self,))
            raise LeaseLost(self.acquisition.queue, self.execution_id)

    async def release(self) -> bool:
        """See `Slot.release`. Cancelled, it gives the slot back all the same."""
        if self.released or not self.is_ours:
            return False
        lost = self.lost
        if lost:
            tell_lost((self,))
        self.released = True
        self._desk.drop(self)
        if lost:
            self._desk.owe(self.release_act())
            return False
        try:
            told = await self._desk.ask(self.release_act())
            # Where the reply was lost, the first copy of the call did it.
            return isinstance(told.answer, Released) or told.repeated
        except LogClosed:
            raise
        except EventLogError:
            self.acquisition.doubtful = True
            self._desk.owe(self.release_act())
            raise

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


class AsyncSlotQueue:
    """The asyncio twin of `SlotQueue`, for the tasks of one event loop. Use `async with`, or `await close()`."""

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
        self._service = SlotService(backend)
        self._slots = backend
        self._own_link = connect(_WORKING_AT_ONCE) if link is None and connect is not None else None
        link = link or self._own_link
        self._execute = ano_transport if link is None else link.execute
        self._bells = None if connect is None else connect(1)
        hear = None if self._bells is None else self._bells.execute
        self._inbox = "" if hear is None else "i" + uuid.uuid4().hex
        self._desk = Desk(backend, self._inbox, self._execute, hear)
        self._on_close = on_close
        self._closed = False

    @property
    def service(self) -> SlotService:
        """The plans underneath, for services that drive them themselves."""
        return self._service

    async def _run(self, plan: Plan[T]) -> T:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        return await arun(plan, self._execute)

    async def _drive(self, steps: Generator[Ask | Listen, Any, T], acquisition: Acquisition) -> T:
        reply: Any = None
        failure: Exception | None = None
        while True:
            try:
                step = steps.send(reply) if failure is None else steps.throw(failure)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            reply = failure = None
            try:
                if type(step) is Ask:
                    told = await self._desk.ask(step.act)
                    acquisition.doubtful = acquisition.doubtful or told.repeated
                    reply = told.answer
                elif isinstance(step, Listen):
                    reply = await self._desk.listen(acquisition, step.bell, step.until, attended=True)
            except Exception as error:
                acquisition.doubtful = acquisition.doubtful or isinstance(error, BackendUnavailable)
                failure = error

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

        async def wait() -> AsyncSlot:
            acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
            mode: Mode = "adopt" if adopt else "try" if acquisition.queue_timeout_s == 0 else "line"
            try:
                grant = await self._drive(acquire(acquisition, mode, self._inbox or acquisition.nonce), acquisition)
            except BaseException as error:
                if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
                    self._abandon(acquisition)
                raise
            return self._kept(acquisition, grant, on_lost)

        return Acquiring(lambda: wait().__await__())

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[AsyncSlot], None] | None) -> AsyncSlot:
        slot = AsyncSlot(self._desk, acquisition, grant, on_lost)
        self._desk.keep(slot)
        return slot

    def _abandon(self, acquisition: Acquisition) -> None:
        """Nobody waits any more, and what became of the last call is not known."""
        acquisition.doubtful = True
        self._desk.tell(Release(acquisition.queue, acquisition.execution_id, acquisition.nonce, acquisition.tomb_ms))

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
        asked_at = moment()
        try:
            told = await self._desk.ask(acquisition.ask("try"))
        except BaseException as error:
            if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
                self._abandon(acquisition)
            raise
        acquisition.doubtful = told.repeated
        if isinstance(told.answer, Granted):
            until = asked_at + told.answer.remaining_ms / 1000
            return self._kept(acquisition, Grant(told.answer.fence, until, acquisition.lease_s, 0.0), on_lost)
        if isinstance(told.answer, Busy):
            return None
        raise refusal(acquisition, told.answer)

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
        grant = await self._run(self._service.grant_of(acquisition))
        return None if grant is None else self._kept(acquisition, grant, on_lost)

    async def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> SlotState:
        """See `SlotQueue.enqueue`."""
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        acquisition = Acquisition.of(action, execution_id, patience_s, **options)
        told = await self._desk.ask(self._service.place(acquisition))
        if isinstance(told.answer, Granted | Queued):
            return state_of(told.answer, told.now_ms)
        return await self._run(self._service.standing(acquisition, told.answer))

    async def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> SlotState:
        """See `SlotQueue.state`."""
        until = moment() + checked_wait(wait_s)
        bell = (self._inbox or "l" + uuid.uuid4().hex) if wait_s > 0 else ""
        touch = self._service.look(action, execution_id, group_key, bell)
        while True:
            told = await self._desk.ask(touch)
            left_s = until - moment()
            if not isinstance(told.answer, Queued) or left_s <= 0:
                return state_of(told.answer, told.now_ms)
            place = Acquisition.existing(action, execution_id, group_key)
            place.nonce = told.answer.nonce
            look_at = moment() + look_again_s(told.answer, _LOOK_S)
            await self._desk.listen(place, bell, min(until, look_at), attended=False)

    async def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> SlotState:
        """See `SlotQueue.renew`."""
        return await self._run(self._service.renew(action, execution_id, fencing_token, lease_s, group_key))

    async def release(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> bool:
        """See `SlotQueue.release`."""
        left = await self.leave(
            action, execution_id, fencing_token=fencing_token, group_key=group_key, not_after_s=not_after_s
        )
        return left == "released"

    async def leave(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Left:
        """See `SlotQueue.leave`."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        not_after_ms = None if not_after_s is None else round(not_after_s * 1000)
        return await self._drive(leave(acquisition, key_of(fencing_token), not_after_ms), acquisition)

    async def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool:
        """See `SlotQueue.cancel`."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        return await self._drive(cancel(acquisition), acquisition)

    async def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> QueueStats:
        """See `SlotQueue.stats`."""
        return await self._run(self._service.stats(action, group_key, listed))

    async def queues(self, *, listed: int = LISTED) -> list[QueueStats]:
        """See `SlotQueue.queues`."""
        return await self._run(self._service.queues(listed))

    async def queues_of(self, execution_id: str, *, action: str | None = None) -> list[str]:
        """See `SlotQueue.queues_of`."""
        return await self._run(self._service.queues_of(execution_id, action))

    async def tend(self) -> int:
        """See `SlotQueue.tend`."""
        return await self._run(self._service.tend())

    async def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int:
        """See `SlotQueue.set_limit`."""
        return await self._run(self._service.set_limit(action, max_concurrent, group_key))

    async def clear(self, action: str, *, group_key: str | None = None) -> Cleared:
        """See `SlotQueue.clear`."""
        return await self._run(self._service.clear(action, group_key))

    async def clear_all(self) -> Cleared:
        """See `SlotQueue.clear_all`."""
        return await self._run(self._service.clear_all())

    async def policies(self) -> dict[Scope, StoredPolicy]:
        """See `SlotQueue.policies`."""
        return await self._run(self._service.policies())

    async def get_policy(self, scope: str) -> StoredPolicy | None:
        """See `SlotQueue.get_policy`."""
        return await self._run(self._service.get_policy(scope))

    async def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int:
        """See `SlotQueue.put_policy`."""
        return await self._run(self._service.put_policy(scope, policy, expected_version))

    async def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int:
        """See `SlotQueue.delete_policy`."""
        return await self._run(self._service.put_policy(scope, None, expected_version))

    async def close(self) -> None:
        """See `SlotQueue.close`."""
        if self._closed:
            return
        self._closed = True
        await self._desk.close()
        for link in (self._bells, self._own_link):
            if link is not None:
                await link.close()
        if self._on_close is not None:
            self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
