"""Slots for blocking callers. `awaited.py` has the asyncio twin, `operations.py` the calls that both have."""

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from ..errors import BackendUnavailable, EventLogError, InvalidInput, LeaseLost, LogClosed
from ..plan.colours import blocking
from ..plan.drive import Transport, no_transport, run
from ..plan.effects import Plan
from ..plan.forks import OfOneProcess, call_in_child
from .acts import Act, Answer, Ring
from .core import SlotCore
from .holding import Holding
from .keeper import Keeper
from .operations import SlotOperations
from .protocol import SlotBackend
from .request import Acquisition, SlotOptions, moment
from .waiting import HEARTBEAT_S, Ask, AskAll, Grant, Listen, Reply, is_left_behind

T = TypeVar("T")
_log = logging.getLogger("eventlog")
_WORKING_AT_ONCE = 8
_WAITING_AT_ONCE = 512
_ABANDON_S = 1.0


class Slot(Holding):
    """A slot that is held. Its lease renews itself until `release`, or the end of the `with` block.

    `fencing_token` only grows within a queue. `on_lost` is called once, in a thread of ours, when the lease was lost.
    """

    def __init__(
        self,
        queues: "SlotQueue",
        acquisition: Acquisition,
        grant: Grant,
        on_lost: Callable[["Slot"], None] | None,
    ) -> None:
        super().__init__(queues, acquisition, grant, on_lost)
        self._execute = queues._execute

    def renew(self, lease_s: float | None = None) -> None:
        """Renew the lease now, from now on with another length if one is given; raises `LeaseLost`."""
        run(self._renewing(lease_s), self._execute)

    def release(self) -> bool:
        """Give the slot back. False if it was not held any more; idempotent.

        Raises `BackendUnavailable` where Redis is away: the slot is given back as soon as it is there again, at the
        latest by the end of its lease.
        """
        return run(self._releasing(), self._execute)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = False
        try:
            lost = self.lost
            self.release()
        except (BackendUnavailable, LogClosed) as failure:
            _log.warning("a slot of %s is not released now: %s", self.acquisition.queue, failure)
        except BaseException:
            # An interrupt, perhaps before the release began.
            if self.is_ours:
                self.abandon()
            raise
        if lost and kind is None:
            # What was done in the block may have been done beside another holder.
            raise LeaseLost(self.acquisition.queue, self.execution_id)


class SlotQueue(OfOneProcess):
    """The slot queues of a workspace, one for each action and group. Safe under threads and across `fork`.

    They are on Redis, in memory, disabled, or behind a server; `create_slot_queue` opens them. Calls are bounded by a
    deadline; waiting is bounded by `timeout_s`. They raise an `EventLogError`: `InvalidInput`, a `SlotRefused`,
    `LeaseLost`, or `BackendUnavailable` where the backend does not answer. Close it, or use it in a `with`.
    """

    operations: SlotOperations
    keeper: Keeper
    workspace: str
    backend: str

    def __init__(self) -> None:
        self._closed = False
        self.keeper = Keeper(self._carry_out_all)
        call_in_child(self.reset)

    def reset(self) -> None:
        """Forget what is held: in a forked child it is the parent's."""
        self.keeper.reset()

    @property
    def core(self) -> SlotCore:
        """The operations on a backend of this process, for services that drive them; `InvalidInput` behind a server."""
        raise InvalidInput("slots", "are behind a server: this needs slots on redis, memory or disabled")

    def _execute(self, effect: Any, /) -> Any:
        raise NotImplementedError

    def _run(self, plan: Plan[T], /) -> T:
        self._refuse_if_closed()
        return run(plan, self._execute)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogClosed("the slot queue was closed")

    def _carry_out_all(self, acts: Sequence[Act], within_s: float) -> Sequence[Answer]:
        return run(self.operations.carry_out_all(acts, within_s), self._execute)

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        adopt: bool = False,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot:
        """Wait for a slot, first come, first served, at most `timeout_s` (default 3600) seconds; release it after use.

        `execution_id` names the holder; without one it gets a name of its own. An execution that was queued before
        (`enqueue`) goes on with its place. For one that holds a slot already `AlreadyHeld` is raised; with `adopt`
        its slot or place is taken over, under a new fencing token. Raises `QueueFull`, `QueueTimeout`, `RateLimited`,
        `QuotaExceeded`, `SlotCancelled`; through a server `LeaseLost` if a slot came and its lease ran out unheard.
        """
        acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
        return self._take(acquisition, self.operations.wait_for(acquisition, adopt=adopt), on_lost)

    def try_acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot | None:
        """A slot if one is free and nobody waits, else None. Raises `RateLimited`, `QuotaExceeded`, `AlreadyHeld`."""
        acquisition = Acquisition.of(action, execution_id, 0, **options)
        return self._take(acquisition, self.operations.attempt(acquisition), on_lost)

    @overload
    def _take(self, acquisition: Acquisition, plan: Plan[Grant], on_lost: Any) -> Slot: ...

    @overload
    def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> Slot | None: ...

    def _take(self, acquisition: Acquisition, plan: Plan[Grant | None], on_lost: Any) -> Slot | None:
        try:
            grant = self._run(plan)
            return None if grant is None else self._kept(acquisition, grant, on_lost)
        except BaseException as error:
            if is_left_behind(acquisition, error):
                self._abandon(acquisition)
            raise

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[Slot], None] | None) -> Slot:
        slot = Slot(self, acquisition, grant, on_lost)
        try:
            self.keeper.keep(slot)
            return slot
        except BaseException:
            # A signal: nobody will ever release what nobody got.
            self.keeper.drop(slot)
            raise

    def _abandon(self, acquisition: Acquisition) -> None:
        """Nobody waits any more, and what became of the last call is not known."""
        acquisition.doubtful = True
        release = self.operations.release_act(acquisition, None)
        try:
            self._carry_out_all([release], _ABANDON_S)
        except EventLogError:
            self.keeper.owe(release)

    def attach(
        self,
        action: str,
        execution_id: str,
        *,
        group_key: str | None = None,
        on_lost: Callable[[Slot], None] | None = None,
    ) -> Slot | None:
        """Another handle on the slot that an execution holds already; None if it holds none.

        Both renew the same lease, and the slot is given back by the first that releases it.
        """
        acquisition = Acquisition.existing(action, execution_id, group_key)
        grant = self._run(self.operations.attached(acquisition))
        return None if grant is None else self._kept(acquisition, grant, on_lost)

    enqueue = blocking(SlotOperations.enqueue)
    state = blocking(SlotOperations.state)
    renew = blocking(SlotOperations.renew)
    release = blocking(SlotOperations.release)
    leave = blocking(SlotOperations.leave)
    cancel = blocking(SlotOperations.cancel)
    stats = blocking(SlotOperations.stats)
    queues = blocking(SlotOperations.queues)
    queues_page = blocking(SlotOperations.queues_page)
    queues_of = blocking(SlotOperations.queues_of)
    tend = blocking(SlotOperations.tend)
    set_limit = blocking(SlotOperations.set_limit)
    clear = blocking(SlotOperations.clear)
    clear_all = blocking(SlotOperations.clear_all)
    policies = blocking(SlotOperations.policies)
    get_policy = blocking(SlotOperations.get_policy)
    put_policy = blocking(SlotOperations.put_policy)
    delete_policy = blocking(SlotOperations.delete_policy)

    def close(self) -> None:
        """Renew nothing any more and close all connections. What is still held ends with its lease. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DirectSlots(SlotQueue):
    """The slot queues of a workspace on a backend of this process."""

    operations: SlotCore

    def __init__(
        self,
        backend: SlotBackend,
        *,
        workspace: str,
        link: Transport | None = None,
        connect: Callable[[int], Transport] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.operations = SlotCore(backend)
        self.workspace = workspace
        self.backend = backend.name
        self._own_link = connect(_WORKING_AT_ONCE) if link is None and connect is not None else None
        link = link or self._own_link
        self._send = no_transport if link is None else link.execute
        # Waiters have connections of their own: none is taken from other calls.
        self._bells = None if connect is None else connect(_WAITING_AT_ONCE)
        self._hear = no_transport if self._bells is None else self._bells.execute
        self._on_close = on_close
        super().__init__()

    @property
    def core(self) -> SlotCore:
        """See `SlotQueue.core`."""
        return self.operations

    def _execute(self, effect: Any, /) -> Any:
        if type(effect) is Ask:
            self._refuse_if_closed()
            performed = run(self.operations.backend.perform((effect.act,)), self._send)
            return Reply(performed.answers[0], performed.now_ms, performed.repeated)
        if type(effect) is Listen:
            return self._listen(effect)
        if type(effect) is AskAll:
            plan = self.operations.backend.perform(effect.acts, deadline_s=effect.deadline_s)
            return run(plan, self._send).answers
        return self._send(effect)

    def _listen(self, effect: Listen) -> Ring | None:
        wait_s = min(HEARTBEAT_S, effect.until - moment())
        if effect.look_in_s is not None:
            wait_s = min(wait_s, effect.look_in_s)
        nonce = effect.acquisition.nonce
        rings = run(self.operations.backend.listen(effect.bell, max(wait_s, 0.001)), self._hear)
        return next((ring for ring in rings if ring.nonce == nonce), None)

    def close(self) -> None:
        """See `SlotQueue.close`."""
        if self._closed:
            return
        self._closed = True
        self.keeper.close()
        for link in (self._bells, self._own_link):
            if link is not None:
                link.close()
        if self._on_close is not None:
            self._on_close()
