"""What slot queues do besides waiting, whatever the colour: operations as plans. `queue.py` and `aio.py` drive them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import InvalidInput, LeaseLost
from ..plan.effects import Plan
from .acts import ANY, Acquire, Act, Answer, Granted, Performed, Poke, Queued, Renew, Touch, fence_key
from .policy import (
    LONGEST_WAIT_S,
    Policy,
    Scope,
    StoredPolicy,
    checked_count,
    checked_name,
    checked_seconds,
    queue_name,
    shown,
)
from .protocol import Cleared, QueueStats, SlotBackend
from .request import Acquisition, checked_lease, moment
from .waiting import Grant, refusal

_SHORTEST_LOOK_S = 0.005
_TENDED_A_CALL = 1000
_POKES_A_CALL = 64
LISTED, MOST_LISTED = 100, 1000
"""How many holders and waiters of a queue are listed, unless the caller says it, and at most."""

Left = Literal["released", "cancelled", "none"]
"""What became of who was to go: it gave a slot back, it left the line, or nothing of it was there."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """Where an execution stands in a queue.

    `granted`: it holds the slot with `fencing_token` until `lease_expires_at`. `queued`: at `position` 1 it is next;
    `limited_by` (`busy`, `rate`, `quota`) is in the way, until `retry_at` if that is known; it waits until
    `queue_expires_at`. `none`: it is not here. `already`: it was here before it was enqueued now.
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

    def to_dict(self) -> dict[str, Any]:
        """The wire form: what is None or False is left out."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in named.items() if value is not None and value is not False}


def state_of(answer: Answer, now_ms: int) -> SlotState:
    """What an answer says of an execution's standing."""
    match answer:
        case Granted():
            expires_at = (now_ms + answer.remaining_ms) / 1000
            return SlotState("granted", answer.fence, expires_at, time=now_ms / 1000)
        case Queued():
            retry_at = (now_ms + answer.limited_ms) / 1000 if answer.limited_ms else None
            return SlotState(
                "queued",
                position=answer.position,
                limited_by=answer.limited_by or None,
                retry_at=retry_at,
                time=now_ms / 1000,
                queue_expires_at=(now_ms + answer.remaining_ms) / 1000,
            )
    return SlotState("none", time=now_ms / 1000)


def checked_fence(value: object) -> int:
    """A fencing token as it is; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 53:
        raise InvalidInput("fencing_token", f"{shown(value)} is not a fencing token")
    return value


def checked_listed(value: object) -> int:
    """How many to list as it is; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_LISTED:
        raise InvalidInput("listed", f"{shown(value)} is not an integer from 1 to {MOST_LISTED}")
    return value


def look_again_s(answer: Queued, most_s: float) -> float:
    """After how many seconds it pays to see what has become of a place, at most `most_s`."""
    due_s = answer.look_in_ms / 1000
    return min(max(due_s, _SHORTEST_LOOK_S), most_s) if due_s else most_s


def checked_wait(value: object) -> float:
    """How long a look may take, in seconds; raises `InvalidInput`."""
    return checked_seconds("wait_s", value, 0, LONGEST_WAIT_S)


def checked_policy(value: object) -> Policy:
    """A policy whose every limit is checked; raises `InvalidInput`."""
    if not isinstance(value, Policy):
        raise InvalidInput("policy", f"{shown(value)} is not a Policy")
    return Policy.of(**value.to_dict())


def checked_version(value: object) -> int | None:
    """The version of a policy, None for any; raises `InvalidInput`."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InvalidInput("expected_version", f"{shown(value)} is not a version")


def key_of(fencing_token: int | None) -> str:
    return ANY if fencing_token is None else fence_key(checked_fence(fencing_token))


class SlotService:
    """Operations on the queues of one workspace, as plans."""

    def __init__(self, backend: SlotBackend) -> None:
        self.backend = backend

    def one(self, act: Act) -> Plan[tuple[Answer, int]]:
        """One act's answer, and the time of it."""
        performed: Performed = yield from self.backend.perform((act,))
        return performed.answers[0], performed.now_ms

    def enqueue(self, acquisition: Acquisition) -> Plan[SlotState]:
        """Take a place, or a free slot, without waiting; where the execution is here already, say where it stands."""
        answer, now_ms = yield from self.one(self.place(acquisition))
        if isinstance(answer, Granted | Queued):
            return state_of(answer, now_ms)
        return (yield from self.standing(acquisition, answer))

    def place(self, acquisition: Acquisition) -> Acquire:
        """The act that takes a place; who has no time to wait for its turn gets a free slot or none."""
        return acquisition.ask("line" if acquisition.queue_timeout_s > 0 else "try")

    def standing(self, acquisition: Acquisition, answer: Answer) -> Plan[SlotState]:
        """Where an execution stands that was given no place; raises what `answer` says if it has none."""
        standing, now_ms = yield from self.one(Touch(acquisition.queue, acquisition.execution_id, ANY))
        if isinstance(standing, Granted | Queued):
            return replace(state_of(standing, now_ms), already=True)
        raise refusal(acquisition, answer)

    def grant_of(self, acquisition: Acquisition) -> Plan[Grant | None]:
        """The slot that the execution holds already, by whichever acquisition; this one takes up its name."""
        asked_at = moment()
        answer, _ = yield from self.one(Touch(acquisition.queue, acquisition.execution_id, ANY))
        if not isinstance(answer, Granted):
            return None
        acquisition.nonce, lease_s = answer.nonce, answer.lease_ms / 1000
        return Grant(answer.fence, asked_at + answer.remaining_ms / 1000, lease_s, 0.0)

    def look(self, action: str, execution_id: str, group_key: str | None, bell: str = "") -> Touch:
        """The act that asks where an execution stands; a grant is told at `bell` from then on, if nobody attends."""
        queue = queue_name(action, group_key)
        return Touch(queue, checked_name("execution_id", execution_id), ANY, bell or None)

    def renew(
        self, action: str, execution_id: str, fencing_token: int | None, lease_s: float | None, group_key: str | None
    ) -> Plan[SlotState]:
        """Renew a lease; raises `LeaseLost`."""
        queue = queue_name(action, group_key)
        lease_ms = None if lease_s is None else round(checked_lease(lease_s) * 1000)
        execution_id = checked_name("execution_id", execution_id)
        answer, now_ms = yield from self.one(Renew(queue, execution_id, key_of(fencing_token), lease_ms))
        if not isinstance(answer, Granted):
            raise LeaseLost(queue, execution_id)
        return state_of(answer, now_ms)

    def stats(self, action: str, group_key: str | None, listed: int = LISTED) -> Plan[QueueStats]:
        """One queue; one that was never used is empty."""
        found = yield from self.backend.stats([queue_name(action, group_key)], checked_listed(listed))
        return found[0]

    def queues(self, listed: int = LISTED) -> Plan[list[QueueStats]]:
        """All queues that were used within the last week."""
        most = checked_listed(listed)
        return (yield from self.backend.stats((yield from self.backend.queues()), most))

    def queues_of(self, execution_id: str, action: str | None = None) -> Plan[list[str]]:
        """The queues in which an execution has a place or a slot."""
        execution_id = checked_name("execution_id", execution_id)
        names = yield from self.backend.queues()
        if action is not None:
            names = [name for name in names if name.partition("/")[0] == action]
        return (yield from self.backend.find(execution_id, names))

    def tend(self) -> Plan[int]:
        """Hand on what has expired or come free where nobody looks. Returns in how many queues somebody should have."""
        found, looked, passed_over = 0, _TENDED_A_CALL, 0
        while looked == _TENDED_A_CALL:
            looked, names = yield from self.backend.due(passed_over, _TENDED_A_CALL)
            for first in range(0, len(names), _POKES_A_CALL):
                yield from self.backend.perform([Poke(name) for name in names[first : first + _POKES_A_CALL]])
            found += len(names)
            passed_over += looked
        return found

    def set_limit(self, action: str, max_concurrent: int | None, group_key: str | None) -> Plan[int]:
        """The queue's own limit, above all policies; None removes it."""
        scope = Scope("queue", queue_name(action, group_key))
        policy = None if max_concurrent is None else Policy(checked_count("max_concurrent", max_concurrent))
        return (yield from self.backend.put_policy(scope, policy, None))

    def clear(self, action: str, group_key: str | None) -> Plan[Cleared]:
        """Take everybody out of one queue."""
        return (yield from self.backend.clear([queue_name(action, group_key)]))

    def clear_all(self) -> Plan[Cleared]:
        """Take everybody out of every queue."""
        return (yield from self.backend.clear((yield from self.backend.queues())))

    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        """All policies that are set."""
        return (yield from self.backend.policies())

    def get_policy(self, scope: str) -> Plan[StoredPolicy | None]:
        """One policy, None if it is not set."""
        wanted = Scope.parse(scope)
        return (yield from self.backend.policies()).get(wanted)

    def put_policy(self, scope: str, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        """Set a policy, or remove it."""
        checked = None if policy is None else checked_policy(policy)
        version = checked_version(expected_version)
        return (yield from self.backend.put_policy(Scope.parse(scope), checked, version))
