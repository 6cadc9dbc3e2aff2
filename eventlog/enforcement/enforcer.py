"""Policies enforced on executions: wait for what the limits allow, then hold the slot until the execution is over.

The scripts do the deciding (the most specific limit wins; rates and quotas are checked first, and used up only by the
grant). Here is what a caller sees: plans whose effects are calls on the slot queues, and both their colours.
"""

from collections.abc import Callable
from operator import methodcaller
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack

from ..errors import AlreadyHeld, LeaseLost, QueueTimeout
from ..plan.colours import awaited, blocking
from ..plan.drive import arun, run
from ..plan.effects import Plan
from ..slots.awaited import AsyncSlot, AsyncSlotQueue
from ..slots.blocking import Slot, SlotQueue
from ..slots.holding import Holding
from ..slots.policy import Policy, checked_pack, in_force, merged, queue_name
from ..slots.request import DEFAULT_QUEUE_TIMEOUT_S, checked_timeout, moment

S = TypeVar("S", bound=Holding)
P = TypeVar("P", bound="_Permit[Any]")
T = TypeVar("T")


_LOOK_S = 0.5


class PermitOptions(TypedDict, total=False):
    """See `SlotOptions`."""

    max_concurrent: int | None
    lease_s: float
    group_key: str | None
    max_queue_length: int | None
    owner: str | None


class _Permit(Generic[S]):
    """An execution's leave to run: the slot it holds, and the policy that was in force at the grant.

    It renews the lease until `release`, or until the slot was given back elsewhere: as a `CompletionListener` does when
    the execution is over, or by an operator's reset. Then `ended` is True, at the latest a third of a lease later. If
    the process that has the permit dies, the slot is free once the lease ends. `already_held`: the execution had the
    slot before; both permits renew it. `on_end` is called once, by a thread (or the event loop) of ours, when the slot
    is held no longer without this permit's `release`; `lost` then says whether the lease ran out.
    """

    slot: S
    policy: Policy
    already_held: bool
    waited_s: float

    def __init__(self, on_end: Callable[[Any], None] | None) -> None:
        self._on_end = on_end
        self._fate = ""
        self._began = moment()

    def take(self, slot: S, policy: Policy, *, already_held: bool) -> None:
        """The slot is here."""
        self.slot, self.policy, self.already_held = slot, policy, already_held
        self.waited_s = self.waits_for_s()

    def waits_for_s(self) -> float:
        """Seconds since the call."""
        return moment() - self._began

    def notice(self, slot: Holding) -> None:
        """The slot is held no longer: given back by somebody while the lease still ran, or lost with the lease."""
        self._fate = "ended" if moment() < slot.valid_until else "lost"
        if self._on_end is not None:
            self._on_end(self)

    @property
    def execution_id(self) -> str:
        """The execution that may run."""
        return self.slot.execution_id

    @property
    def action(self) -> str:
        """The action whose slot is held."""
        return self.slot.action

    @property
    def group_key(self) -> str | None:
        """The group, if the slot is of one."""
        return self.slot.group_key

    @property
    def fencing_token(self) -> int:
        """For what the slot protects: it should refuse a lower one than it has seen."""
        return self.slot.fencing_token

    @property
    def expires_in_s(self) -> float:
        """For how many seconds the slot is certain to be held if nothing renews it; 0 if it is not."""
        return 0.0 if self._fate else self.slot.expires_in_s

    @property
    def valid(self) -> bool:
        """True while the slot is certain to be held."""
        return self.expires_in_s > 0

    @property
    def ended(self) -> bool:
        """True once the slot was given back, here or elsewhere."""
        return self._fate == "ended" or self.slot.released

    @property
    def lost(self) -> bool:
        """True once the lease has ended without anybody giving the slot back."""
        return self._fate == "lost" or (not self.ended and moment() >= self.slot.valid_until)

    def raise_if_lost(self) -> None:
        """Raise `LeaseLost` if the slot is no longer held, for whatever reason."""
        if not self.valid:
            raise LeaseLost(self.slot.acquisition.queue, self.execution_id)


class Permit(_Permit[Slot]):
    __doc__ = _Permit.__doc__

    def release(self) -> bool:
        """Give the slot back. False if it was not held any more; idempotent. See `Slot.release`."""
        return not self.ended and self.slot.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended:
            self.slot.__exit__(kind, error, trace)


class AsyncPermit(_Permit[AsyncSlot]):
    """The asyncio twin of `Permit`."""

    async def release(self) -> bool:
        """See `Permit.release`."""
        return not self.ended and await self.slot.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended:
            await self.slot.__aexit__(kind, error, trace)


class Enforcement(Generic[P]):
    """The calls of an enforcer, each once, as plans; `kind` makes the permits of a colour."""

    def __init__(self, kind: Callable[[Callable[[P], None] | None], P]) -> None:
        self._kind = kind

    def enforce_and_wait(
        self,
        action: str,
        pack: str | None = None,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        on_end: Callable[[P], None] | None = None,
        **options: Unpack[PermitOptions],
    ) -> Plan[P]:
        """Wait, at most `timeout_s` (default 3600) seconds, first come, first served, until the execution may run.

        An execution that holds its slot already goes on at once, with the same fencing token; one that waits already is
        not queued twice: both callers get the slot. The slot is held until `release`, the end of a `with` block, or
        the execution's `execution.completed` event where a `CompletionListener` runs; the permit renews its lease until
        then. Raises `QueueFull`, `QueueTimeout`, `RateLimited` or `QuotaExceeded` (a limit stands in the way for longer
        than `timeout_s`), `SlotCancelled`, `InvalidInput`, `BackendUnavailable`; then nothing is held.
        """
        permit = self._kind(on_end)
        patience_s = DEFAULT_QUEUE_TIMEOUT_S if timeout_s is None else checked_timeout(timeout_s)
        group_key = options.get("group_key")
        asked = {**options, "pack": pack, "on_lost": permit.notice}
        while True:
            left_s = max(0.0, patience_s - permit.waits_for_s())
            try:
                slot = yield methodcaller("acquire", action, execution_id, timeout_s=left_s, **asked)
            except AlreadyHeld as there:
                found = yield from _join(permit, there, action, group_key)
                if found is not None:
                    return found
                if left_s == 0:
                    raise QueueTimeout(there.queue, there.execution_id, permit.waits_for_s()) from there
                look_s = min(left_s, _LOOK_S)
                yield methodcaller("state", action, there.execution_id, group_key=group_key, wait_s=look_s)
            else:
                return (yield from _granted(permit, slot))

    def enforce(
        self,
        action: str,
        pack: str | None = None,
        execution_id: str | None = None,
        *,
        on_end: Callable[[P], None] | None = None,
        **options: Unpack[PermitOptions],
    ) -> Plan[P | None]:
        """As `enforce_and_wait`, but do not wait: None if no slot is free or others wait.

        Raises `RateLimited`, `QuotaExceeded`; their `retry_after_s` says when to come again.
        """
        permit = self._kind(on_end)
        asked = {**options, "pack": pack, "on_lost": permit.notice}
        try:
            slot = yield methodcaller("try_acquire", action, execution_id, **asked)
        except AlreadyHeld as there:
            return (yield from _join(permit, there, action, options.get("group_key")))
        return None if slot is None else (yield from _granted(permit, slot))

    def policy(
        self,
        action: str,
        pack: str | None = None,
        *,
        group_key: str | None = None,
        max_concurrent: int | None = None,
    ) -> Plan[Policy]:
        """What would be in force for an execution; None in a field: not limited, or the default."""
        queue, pack = queue_name(action, group_key), "-" if pack is None else checked_pack(pack)
        stored = yield methodcaller("policies")
        return merged(Policy.of(max_concurrent=max_concurrent), in_force(stored, queue, pack))


def _join(permit: P, there: AlreadyHeld, action: str, group_key: str | None) -> Plan[P | None]:
    """The permit for a slot that the execution holds already; None if it only waits."""
    if there.fencing_token is None:
        return None
    # The policy first: a handle that nobody gets would renew the lease for ever.
    policy = yield from _in_force(action, group_key)
    slot = yield methodcaller("attach", action, there.execution_id, group_key=group_key, on_lost=permit.notice)
    if slot is None:
        return None
    permit.take(slot, policy, already_held=True)
    return permit


def _granted(permit: P, slot: Any) -> Plan[P]:
    try:
        policy = yield from _in_force(slot.action, slot.group_key)
    except GeneratorExit:
        slot.abandon()
        raise
    except BaseException:
        yield lambda _: slot.release()
        raise
    permit.take(slot, policy, already_held=False)
    return permit


def _in_force(action: str, group_key: str | None) -> Plan[Policy]:
    stats = yield methodcaller("stats", action, group_key=group_key, listed=1)
    policy: Policy = stats.policy
    return policy


class PolicyEnforcer:
    """Lets executions run when the policies allow it. `slots` are the workspace's; they are not closed with it.

    Limits come from the queue's own limit, then the policies of the action, the `pack` and `global`, then the caller's
    number, each field from the most specific one that has it. A limited execution holds no slot while it waits.
    """

    def __init__(self, slots: SlotQueue) -> None:
        self.operations = Enforcement(Permit)
        self._slots = slots

    def _run(self, plan: Plan[T], /) -> T:
        return run(plan, lambda call: call(self._slots))

    enforce_and_wait = blocking(Enforcement[Permit].enforce_and_wait)
    enforce = blocking(Enforcement[Permit].enforce)
    policy = blocking(Enforcement[Permit].policy)


class AsyncPolicyEnforcer:
    """The asyncio twin of `PolicyEnforcer`."""

    def __init__(self, slots: AsyncSlotQueue) -> None:
        self.operations = Enforcement(AsyncPermit)
        self._slots = slots

    async def _run(self, plan: Plan[T], /) -> T:
        return await arun(plan, lambda call: call(self._slots))

    enforce_and_wait = awaited(Enforcement[AsyncPermit].enforce_and_wait)
    enforce = awaited(Enforcement[AsyncPermit].enforce)
    policy = awaited(Enforcement[AsyncPermit].policy)
