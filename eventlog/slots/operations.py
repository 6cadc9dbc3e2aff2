"""What slot queues can be asked, each call once: its signature, its words and its checks. No I/O, no colour.

`core.py` answers on a backend, `client/slot_operations.py` behind a server; `blocking.py` and `awaited.py` give both
their colours.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Unpack

from ..errors import InvalidInput
from ..model.numbers import checked_integer, checked_seconds, shown
from ..plan.effects import Plan
from .acts import Act, Answer, Release
from .policy import LONGEST_WAIT_S, Policy, Scope, StoredPolicy, queue_name
from .protocol import Cleared, QueuesPage, QueueStats
from .request import Acquisition, SlotOptions
from .waiting import Grant, Reply

T = TypeVar("T")
_log = logging.getLogger("eventlog.slots")
_MOST_LOGGED = 1000

LISTED, MOST_LISTED = 100, 1000
"""How many holders and waiters of a queue are listed: the default, and the most."""

MOST_QUEUES = 1000
"""How many queues a page may have."""
_PAGE = 500

Left = Literal["released", "cancelled", "none"]
"""What an execution gave up by leaving: a slot, its place in the line, or nothing, as it had neither."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """Where an execution stands in a queue.

    `granted`: it holds the slot with `fencing_token` until `lease_expires_at`. `queued`: at `position` 1 it is next;
    `limited_by` (`busy`, `rate`, `quota`) is in the way, until `retry_at` if that is known; it waits until
    `queue_expires_at`. `none`: it is not here; if a lease of it ran out within ten minutes, `lease_expires_at` says
    when. `already`: it was here before it was enqueued now. `max_concurrent`: how many may hold a slot, None for any
    number; `warning`: why the number that was asked for does not count.
    Times are seconds since the Unix epoch, by the Redis clock.
    """

    state: Literal["granted", "queued", "none"]
    fencing_token: int | None = None
    lease_expires_at: float | None = None
    position: int | None = None
    limited_by: str | None = None
    retry_at: float | None = None
    time: float = 0.0
    queue_expires_at: float | None = None
    already: bool = False
    max_concurrent: int | None = None
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The wire form: what is None or False is left out, but for `max_concurrent`."""
        named = {name: getattr(self, name) for name in self.__slots__}
        said = {name: value for name, value in named.items() if value is not None and value is not False}
        return said if self.state == "none" else {**said, "max_concurrent": self.max_concurrent}


class SlotOperations(ABC):
    """The calls of slot queues as plans. Every one but a wait is bounded by a deadline, and raises an `EventLogError`:
    `InvalidInput` for what the caller gave, `BackendUnavailable` where nobody answers.
    """

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log_limit(self, acquisition: Acquisition) -> None:
        """Log, once, that a queue has no limit, or that a caller's number does not count."""
        said = acquisition.warning
        if said is None and acquisition.limit is None and acquisition.max_concurrent is None:
            said = f"slots of {acquisition.queue} are not limited: no max_concurrent was named, and no policy sets one"
        if said is None or said in self._logged:
            return
        if len(self._logged) >= _MOST_LOGGED:
            self._logged.clear()
        self._logged.add(said)
        _log.warning(said)

    # What the colours build `acquire`, `try_acquire` and their slots on

    @abstractmethod
    def wait_for(self, acquisition: Acquisition, *, adopt: bool = False) -> Plan[Grant]:
        """Wait for a slot. Raises a `SlotRefused`, or `BackendUnavailable` where nobody answers for half a minute."""

    @abstractmethod
    def attempt(self, acquisition: Acquisition) -> Plan[Grant | None]:
        """A slot if one is free and nobody waits, else None."""

    @abstractmethod
    def carry_out(self, act: Act) -> Plan[Reply]:
        """Carry out a renewal or a release."""

    @abstractmethod
    def carry_out_all(self, acts: Sequence[Act], deadline_s: float) -> Plan[Sequence[Answer]]:
        """Carry out renewals and releases within `deadline_s` seconds."""

    @abstractmethod
    def release_act(self, acquisition: Acquisition, fencing_token: int | None) -> Release:
        """The act that gives this slot back; with None whatever the acquisition has, should its outcome be unknown."""

    def attached(self, acquisition: Acquisition) -> Plan[Grant | None]:
        """The slot that the execution holds already, by whichever acquisition; this one takes up its name."""
        raise InvalidInput("slots", "are behind a server: this needs slots on redis, memory or disabled")

    # What callers ask by name

    @abstractmethod
    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> Plan[SlotState]:
        """Take a place in the line, or a free slot, and do not wait. Repeated, it returns where the execution stands.

        Nobody has to attend to the place. When its turn comes the lease begins: `state` shows it, `renew` and `release`
        are the caller's. With a `queue_timeout_s` of 0 it gets a free slot or none, and no place. Raises `QueueFull`,
        `QueueTimeout`, `RateLimited`, `QuotaExceeded`.
        """

    @abstractmethod
    def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> Plan[SlotState]:
        """Where an execution stands; while it is queued, wait at most `wait_s` for that to change."""

    @abstractmethod
    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> Plan[SlotState]:
        """Renew a lease, with a new length if one is given; raises `LeaseLost`."""

    def release(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Plan[bool]:
        """Give an execution's slot back, or take it out of the line. True if it held a slot.

        With a `fencing_token` only the slot that was granted with it is given back; with `not_after_s` (seconds since
        the Unix epoch) only one that was granted, or a place that was taken, by then.
        """
        left = yield from self.leave(
            action, execution_id, fencing_token=fencing_token, group_key=group_key, not_after_s=not_after_s
        )
        return left == "released"

    @abstractmethod
    def leave(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Plan[Left]:
        """As `release`; returns what was given up: a slot (`released`), a place (`cancelled`), or nothing (`none`)."""

    @abstractmethod
    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> Plan[bool]:
        """Take an execution out of the line. True if it waited; if it holds a slot it keeps it."""

    @abstractmethod
    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> Plan[QueueStats]:
        """Holders and waiters, with counts and limits; at most `listed` of each are named."""

    def queues(self, *, listed: int = LISTED) -> Plan[list[QueueStats]]:
        """All queues that were used within the last week, by name."""
        found: list[QueueStats] = []
        page = yield from self.queues_page(limit=_PAGE, listed=listed)
        while True:
            found += page.queues
            if page.at_end:
                return found
            page = yield from self.queues_page(after=page.cursor, limit=_PAGE, listed=listed)

    @abstractmethod
    def queues_page(self, *, after: str | None = None, limit: int = 100, listed: int = LISTED) -> Plan[QueuesPage]:
        """At most `limit` (1 to 1000) of the queues that were used within the last week, by name, after `after`."""

    def queues_of(self, execution_id: str, *, action: str | None = None) -> Plan[list[str]]:
        """The queues (of an action) in which an execution has a place or a slot, by name."""
        raise InvalidInput("slots", "are behind a server: this needs slots on redis, memory or disabled")

    def tend(self) -> Plan[int]:
        """Hand on what has expired or come free where nobody looks; returns in how many queues that was due.

        Waiters in `acquire` look by themselves; nobody looks after places taken with `enqueue`. A server tends every
        second.
        """
        raise InvalidInput("slots", "are behind a server: this needs slots on redis, memory or disabled")

    @abstractmethod
    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> Plan[int]:
        """Set (None: remove) the queue's own limit, which goes before all policies and callers; returns its version.

        Raised, it hands slots out at once. Lowered, it takes none away: holders finish.
        """

    @abstractmethod
    def clear(self, action: str, *, group_key: str | None = None) -> Plan[Cleared]:
        """Emergency: take everybody out of a queue. Holders lose their lease, waiters get `SlotCancelled`."""

    @abstractmethod
    def clear_all(self) -> Plan[Cleared]:
        """Emergency: `clear` every queue of the workspace."""

    @abstractmethod
    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        """All policies that are set, by scope."""

    def get_policy(self, scope: str) -> Plan[StoredPolicy | None]:
        """The policy of a scope, None if it is not set: `global`, `pack/<pack>`, `action/<action>`, `queue/<queue>`."""
        wanted = Scope.parse(scope)
        return (yield from self.policies()).get(wanted)

    def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> Plan[int]:
        """Set a policy; it takes effect at once. Returns its version; raises `VersionConflict`."""
        return self.store_policy(Scope.parse(scope), _checked_policy(policy), _checked_version(expected_version))

    def delete_policy(self, scope: str, *, expected_version: int | None = None) -> Plan[int]:
        """Remove a policy, if it is set; raises `VersionConflict`."""
        return self.store_policy(Scope.parse(scope), None, _checked_version(expected_version))

    @abstractmethod
    def store_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        """Set a policy that was checked, or (None) remove it; returns its version."""


def checked_fence(value: object) -> int:
    """A fencing token as it is; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 53:
        raise InvalidInput("fencing_token", f"{shown(value)} is not a fencing token")
    return value


def checked_listed(value: object) -> int:
    """How many holders and waiters to list as it is; raises `InvalidInput`."""
    return checked_integer("listed", value, 1, MOST_LISTED)


def checked_after(value: object) -> str | None:
    """The `cursor` of a page of queues as it is; raises `InvalidInput`."""
    if value is None:
        return None
    action, slash, group = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return queue_name(action, group if slash else None)
    except InvalidInput:
        raise InvalidInput(
            "after", f"{shown(value)} is not the name of a queue: <action> or <action>/<group>"
        ) from None


def checked_wait(value: object) -> float:
    """How long a look may take, in seconds; raises `InvalidInput`."""
    return checked_seconds("wait_s", value, 0, LONGEST_WAIT_S)


def _checked_policy(value: object) -> Policy:
    if not isinstance(value, Policy):
        raise InvalidInput("policy", f"{shown(value)} is not a Policy")
    return Policy.of(**value.to_dict())


def _checked_version(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InvalidInput("expected_version", f"{shown(value)} is not a version")
