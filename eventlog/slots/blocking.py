"""Slots for blocking callers. `aio.py` has the asyncio twin."""

import logging
import os
import uuid
import weakref
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from ..errors import BackendUnavailable, EventLogError, LeaseLost, LogClosed
from ..plan.drive import no_transport, run
from ..plan.effects import Command, Plan
from .acts import Act, Answer, Busy, Granted, Mode, Queued, Release, Released, Ring
from .holding import Holding
from .keeper import Keeper
from .lease_schedule import tell_lost
from .leaving import cancel, leave
from .operations import LISTED, Left, SlotService, SlotState, checked_wait, key_of, look_again_s, state_of
from .policy import Policy, Scope, StoredPolicy
from .protocol import Cleared, QueueStats, SlotBackend
from .request import Acquisition, SlotOptions, checked_timeout, moment
from .waiting import HEARTBEAT_S, Ask, Grant, Listen, acquire, refusal

T = TypeVar("T")
_log = logging.getLogger("eventlog")
_WORKING_AT_ONCE = 8
_WAITING_AT_ONCE = 512
_ABANDON_S = 1.0


class Transport(Protocol):
    """Carries out Redis commands for blocking callers (`store/links.py`); memory has none to carry out."""

    def execute(self, command: Command) -> Any: ...

    def close(self) -> None: ...


class Performer(Protocol):
    """What a slot needs of the queue that it is from."""

    @property
    def keeper(self) -> Keeper: ...

    def perform(self, acts: Sequence[Act], deadline_s: float | None = None) -> list[Answer]: ...

    def give_back(self, release: Release) -> bool: ...


class Slot(Holding):
    """A slot that is held. Its lease renews itself until `release`, or the end of the `with` block.

    `fencing_token` only grows within a queue. `on_lost` is called once, in a thread of ours, when the lease was lost.
    """

    def __init__(
        self, queue: Performer, acquisition: Acquisition, grant: Grant, on_lost: Callable[["Slot"], None] | None
    ) -> None:
        super().__init__(acquisition, grant, on_lost)
        self._queue = queue

    def renew(self, lease_s: float | None = None) -> None:
        """Renew the lease now, from now on with another length if one is given; raises `LeaseLost`."""
        asked_at = moment()
        answer = self._queue.perform((self.renewal(lease_s),))[0]
        if not self.renewed(answer, asked_at):
            self._queue.keeper.drop(self)
            tell_lost((self,))
            raise LeaseLost(self.acquisition.queue, self.execution_id)

    def release(self) -> bool:
        """Give the slot back. False if it was not held any more; idempotent.

        Raises `BackendUnavailable` where Redis is away: the slot is given back as soon as it is there again, at the
        latest by the end of its lease.
        """
        if self.released or not self.is_ours:
            return False
        lost = self.lost
        if lost:
            tell_lost((self,))
        self.released = True
        try:
            self._queue.keeper.drop(self)
            if lost:
                # Where only its renewals went unanswered, the lease may run on: nobody has to wait here for its end.
                self._queue.keeper.owe(self.release_act())
                return False
            return self._queue.give_back(self.release_act())
        except BaseException:
            # Also where a signal cut it short: it will be given back, and not be renewed until then.
            self.acquisition.doubtful = True
            self._queue.keeper.drop(self)
            self._queue.keeper.owe(self.release_act())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self.lost
        try:
            self.release()
        except (BackendUnavailable, LogClosed) as failure:
            _log.warning("a slot of %s is not released now: %s", self.acquisition.queue, failure)
        if lost and kind is None:
            # What was done in the block may have been done beside another holder.
            raise LeaseLost(self.acquisition.queue, self.execution_id)


class SlotQueue:
    """The slot queues of a workspace, one for each action and group. Safe under threads and across `fork`.

    Calls are bounded by the deadline of the log's configuration; waiting is bounded by `timeout_s`. They raise an
    `EventLogError`: `InvalidInput`, a `SlotRefused`, `LeaseLost`, or `BackendUnavailable` where Redis does not answer.
    """

    def __init__(
        self,
        backend: SlotBackend,
        *,
        workspace: str,
        link: Transport | None = None,
        connect: Callable[[int], Transport] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.workspace = workspace
        self.backend = backend.name
        self._service = SlotService(backend)
        self._slots = backend
        self._own_link = connect(_WORKING_AT_ONCE) if link is None and connect is not None else None
        link = link or self._own_link
        self._execute = no_transport if link is None else link.execute
        # Who waits has a connection of its own: none is taken from those who work.
        self._bells = None if connect is None else connect(_WAITING_AT_ONCE)
        self._hear = no_transport if self._bells is None else self._bells.execute
        self._on_close = on_close
        self._closed = False
        self.keeper = Keeper(self._keep)
        _queues.add(self)

    @property
    def service(self) -> SlotService:
        """The plans underneath, for services that drive them themselves."""
        return self._service

    def perform(self, acts: Sequence[Act], deadline_s: float | None = None) -> list[Answer]:
        """Carry out acts in one step."""
        if self._closed:
            raise LogClosed("the slot queue was closed")
        return run(self._slots.perform(acts, deadline_s=deadline_s), self._execute).answers

    def give_back(self, release: Release) -> bool:
        """Release a slot that was held until now. True if it is given back by this call."""
        performed = self._run(self._slots.perform((release,)))
        # Where the reply was lost, the first copy of the call did it.
        return isinstance(performed.answers[0], Released) or performed.repeated

    def _keep(self, acts: Sequence[Act], deadline_s: float) -> list[Answer]:
        return self.perform(acts, deadline_s)

    def _run(self, plan: Plan[T]) -> T:
        if self._closed:
            raise LogClosed("the slot queue was closed")
        return run(plan, self._execute)

    def _listen(self, step: Listen) -> Ring | None:
        wait_s = min(HEARTBEAT_S, step.until - moment())
        if step.look_in_s is not None:
            wait_s = min(wait_s, step.look_in_s)
        nonce = step.acquisition.nonce
        rings = run(self._slots.listen(step.bell, max(wait_s, 0.001)), self._hear)
        return next((ring for ring in rings if ring.nonce == nonce), None)

    def _drive(self, steps: Generator[Ask | Listen, Any, T], acquisition: Acquisition) -> T:
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
                    if self._closed:
                        raise LogClosed("the slot queue was closed")
                    performed = run(self._slots.perform((step.act,)), self._execute)
                    acquisition.doubtful = acquisition.doubtful or performed.repeated
                    reply = performed.answers[0]
                elif isinstance(step, Listen):
                    reply = self._listen(step)
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
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot:
        """Wait for a slot, first come, first served, at most `timeout_s` (default 3600) seconds; release it after use.

        `execution_id` names who holds it; without one it gets a name of its own. An execution that was queued before
        (`enqueue`) goes on with its place. One that holds a slot already is told so by `AlreadyHeld`; with `adopt`
        its slot or place is taken over, under a new fencing token. Raises `QueueFull`, `QueueTimeout`, `RateLimited`,
        `QuotaExceeded`, `SlotCancelled`.
        """
        acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
        mode: Mode = "adopt" if adopt else "try" if acquisition.queue_timeout_s == 0 else "line"
        try:
            grant = self._drive(acquire(acquisition, mode, acquisition.nonce), acquisition)
            return self._kept(acquisition, grant, on_lost)
        except BaseException as error:
            if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
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
        release = Holding(acquisition, Grant(0, 0.0, 0.0, 0.0), None).release_act()
        try:
            self.perform((release,), _ABANDON_S)
        except EventLogError:
            self.keeper.owe(release)

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
        asked_at = moment()
        try:
            performed = self._run(self._slots.perform((acquisition.ask("try"),)))
            answer = performed.answers[0]
            acquisition.doubtful = performed.repeated
            if isinstance(answer, Granted):
                until = asked_at + answer.remaining_ms / 1000
                return self._kept(acquisition, Grant(answer.fence, until, acquisition.lease_s, 0.0), on_lost)
        except BaseException as error:
            if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
                self._abandon(acquisition)
            raise
        if isinstance(answer, Busy):
            return None
        raise refusal(acquisition, answer)

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
        grant = self._run(self._service.grant_of(acquisition))
        return None if grant is None else self._kept(acquisition, grant, on_lost)

    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> SlotState:
        """Take a place in the line, or a free slot, and do not wait. Repeated, it says where the execution stands.

        Nobody has to attend to the place. When its turn comes the lease begins: `state` tells, `renew` and `release`
        are the caller's. With a `queue_timeout_s` of 0 it gets a free slot or none, and no place. Raises `QueueFull`,
        `QueueTimeout`, `RateLimited`, `QuotaExceeded`.
        """
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        return self._run(self._service.enqueue(Acquisition.of(action, execution_id, patience_s, **options)))

    def state(self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0) -> SlotState:
        """Where an execution stands; while it is queued, wait at most `wait_s` for that to change."""
        until = moment() + checked_wait(wait_s)
        bell = "l" + uuid.uuid4().hex if wait_s > 0 else ""
        while True:
            answer, now_ms = self._run(self._service.one(self._service.look(action, execution_id, group_key, bell)))
            left_s = until - moment()
            if not isinstance(answer, Queued) or left_s <= 0:
                return state_of(answer, now_ms)
            run(self._slots.listen(bell, min(left_s, look_again_s(answer, HEARTBEAT_S))), self._hear)

    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> SlotState:
        """Renew a lease, with a new length if one is given; raises `LeaseLost`."""
        return self._run(self._service.renew(action, execution_id, fencing_token, lease_s, group_key))

    def release(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> bool:
        """Give an execution's slot back, or take it out of the line. True if it held a slot.

        With a `fencing_token` only the slot that was granted with it is given back; with `not_after_s` (seconds since
        the Unix epoch) only one that was granted, or a place that was taken, by then.
        """
        left = self.leave(
            action, execution_id, fencing_token=fencing_token, group_key=group_key, not_after_s=not_after_s
        )
        return left == "released"

    def leave(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Left:
        """As `release`; says whether a slot was given back (`released`), a place (`cancelled`), or nothing (`none`)."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        not_after_ms = None if not_after_s is None else round(not_after_s * 1000)
        return self._drive(leave(acquisition, key_of(fencing_token), not_after_ms), acquisition)

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool:
        """Take an execution out of the line. True if it waited; if it holds a slot it keeps it."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        return self._drive(cancel(acquisition), acquisition)

    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> QueueStats:
        """Who holds and who waits, with counts and limits; at most `listed` of each are named."""
        return self._run(self._service.stats(action, group_key, listed))

    def queues(self, *, listed: int = LISTED) -> list[QueueStats]:
        """All queues that were used within the last week, by name."""
        return self._run(self._service.queues(listed))

    def queues_of(self, execution_id: str, *, action: str | None = None) -> list[str]:
        """The queues (of an action) in which an execution has a place or a slot, by name."""
        return self._run(self._service.queues_of(execution_id, action))

    def tend(self) -> int:
        """Hand on what has expired or come free where nobody looks; returns in how many queues somebody should have.

        Who waits with `acquire` looks by itself; nobody looks after places taken with `enqueue`. A server tends every
        second.
        """
        return self._run(self._service.tend())

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int:
        """Set (None: remove) the queue's own limit, which goes before all policies and callers; returns its version.

        Raised, it hands slots out at once. Lowered, it takes none away: holders finish.
        """
        return self._run(self._service.set_limit(action, max_concurrent, group_key))

    def clear(self, action: str, *, group_key: str | None = None) -> Cleared:
        """Emergency: take everybody out of a queue. Holders lose their lease, waiters get `SlotCancelled`."""
        return self._run(self._service.clear(action, group_key))

    def clear_all(self) -> Cleared:
        """Emergency: `clear` every queue of the workspace."""
        return self._run(self._service.clear_all())

    def policies(self) -> dict[Scope, StoredPolicy]:
        """All policies that are set, by scope."""
        return self._run(self._service.policies())

    def get_policy(self, scope: str) -> StoredPolicy | None:
        """The policy of a scope, None if it is not set: `global`, `pack/<pack>`, `action/<action>`, `queue/<queue>`."""
        return self._run(self._service.get_policy(scope))

    def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int:
        """Set a policy; it takes effect at once. Returns its version; raises `VersionConflict`."""
        return self._run(self._service.put_policy(scope, policy, expected_version))

    def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int:
        """Remove a policy, if it is set; raises `VersionConflict`."""
        return self._run(self._service.put_policy(scope, None, expected_version))

    def close(self) -> None:
        """Renew nothing any more and close all connections. What is still held ends with its lease. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.keeper.close()
        for link in (self._bells, self._own_link):
            if link is not None:
                link.close()
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_queues: "weakref.WeakSet[SlotQueue]" = weakref.WeakSet()


def _reset_all() -> None:
    for queue in list(_queues):
        # What is held is the parent's.
        queue.keeper.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
