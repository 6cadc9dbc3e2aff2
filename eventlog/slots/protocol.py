"""What a backend of slots must do, and how a queue looks to operators.

Data flows one way: `SlotQueue` → `SlotCore` → `SlotBackend` → plan → store. A backend's methods are plans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..plan.effects import Plan
from .acts import Act, Performed, Ring
from .policy import Policy, Scope, StoredPolicy


@dataclass(frozen=True, slots=True)
class Holder:
    """A holder of a slot. Times are seconds since the Unix epoch, by the Redis clock."""

    execution_id: str
    fencing_token: int
    granted_at: float
    lease_expires_at: float
    owner: str | None

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Waiter:
    """A waiter; position 1 is next. Times are seconds since the Unix epoch, by the Redis clock."""

    execution_id: str
    position: int
    enqueued_at: float
    owner: str | None

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue at one instant. `holders` and `waiters` may list fewer than there are; the counts are exact.

    `total_enqueued` counts the acquisitions that were granted or queued since the queue began, `total_completed` the
    slots that were given back, `total_expired` leases and waiters that ran out, `total_timed_out` and `total_cancelled`
    waiters that left the line.
    """

    action: str
    group_key: str | None
    queue_length: int
    active_count: int
    policy: Policy
    oldest_enqueued_at: float | None
    total_enqueued: int
    total_completed: int
    total_expired: int
    total_timed_out: int
    total_cancelled: int
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    time: float

    @property
    def queue(self) -> str:
        """Its name: the action, and `/` and the group if it is one's."""
        return self.action if self.group_key is None else f"{self.action}/{self.group_key}"

    @property
    def max_concurrent(self) -> int | None:
        """How many may hold a slot, None for any number."""
        return self.policy.max_concurrent

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        named = {name: getattr(self, name) for name in self.__slots__ if name != "policy"}
        return {
            **named,
            "max_concurrent": self.max_concurrent,
            "limits": self.policy.to_dict(),
            "holders": [holder.to_dict() for holder in self.holders],
            "waiters": [waiter.to_dict() for waiter in self.waiters],
        }


@dataclass(frozen=True, slots=True)
class QueuesPage:
    """Queues in the order of their names. Pass `cursor` as `after` to go on; `at_end` says that there are no more."""

    queues: list[QueueStats]
    cursor: str | None
    at_end: bool

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {"actions": [stats.to_dict() for stats in self.queues], "cursor": self.cursor, "at_end": self.at_end}


class Cleared(NamedTuple):
    """How many an emergency reset took out."""

    holders: int
    waiters: int


class SlotBackend(Protocol):
    """Guarantees every backend gives. All methods are plans (see `plan/effects.py`).

    Never more holders than the limit. A slot goes to the live waiter that came first, in the very act that
    frees it. No fence is given twice in a queue, and each is greater than those before. Each transition is in the log.
    """

    name: str

    def perform(self, acts: Sequence[Act], inbox: str = "", deadline_s: float | None = None) -> Plan[Performed]:
        """Carry out acts in order, in one step. May be repeated inside (a lost reply): every act is safe to repeat.

        `inbox` is the bell that the caller is reading all the time. Raises `BackendUnavailable` at the deadline.
        """

    def listen(self, bell: str, timeout_s: float, most: int = 1) -> Plan[list[Ring]]:
        """Wait for what is rung at `bell`, at most `timeout_s`; empty if nothing is, or Redis is away."""

    def stats(self, queues: Sequence[str], most: int) -> Plan[list[QueueStats]]:
        """Look at queues, with at most `most` holders and `most` waiters each. Changes nothing."""

    def queues(self) -> Plan[list[str]]:
        """The queues that were used within the last week, in the order of their names."""

    def due(self, passed_over: int, most: int) -> Plan[tuple[int, list[str]]]:
        """Look at `most` queues, after so many `passed_over`: in which has something expired, does somebody wait?

        Returns how many there were to look at, and the names.
        """

    def find(self, execution: str, queues: Sequence[str]) -> Plan[list[str]]:
        """Those of `queues` in which an execution has a place or a slot."""

    def clear(self, queues: Sequence[str]) -> Plan[Cleared]:
        """Take everybody out of queues. Limits, counters and fences stay."""

    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        """All policies that are set, the queues' own limits among them."""

    def put_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        """Set or (None) remove a policy; returns its version. Raises `VersionConflict` if it has another."""
