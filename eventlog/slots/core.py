"""The calls of slot queues on a backend: each one as a plan, of acts and of the backend's own plans."""

import uuid
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from ..errors import LeaseLost
from ..model.numbers import checked_integer
from ..plan.effects import Plan
from .acts import (
    ANY,
    TOMB_MS,
    Act,
    Answer,
    Busy,
    Cancel,
    Cancelled,
    Gone,
    Granted,
    Mode,
    Poke,
    Queued,
    Release,
    Released,
    Renew,
    Touch,
    fence_key,
    others_key,
)
from .operations import (
    LISTED,
    MOST_QUEUES,
    Left,
    SlotOperations,
    SlotState,
    checked_after,
    checked_fence,
    checked_listed,
    checked_wait,
)
from .policy import Policy, Scope, StoredPolicy, checked_count, checked_name, queue_name
from .protocol import Cleared, QueuesPage, QueueStats, SlotBackend
from .request import Acquisition, SlotOptions, checked_lease, checked_timeout, moment
from .waiting import Ask, AskAll, Grant, Listen, Reply, acquire, ask, grant_of, refusal

_SHORTEST_LOOK_S = 0.005
_LONGEST_LOOK_S = 2.0
_TENDED_A_CALL = 1000
_POKES_A_CALL = 64


class SlotCore(SlotOperations):
    """On a backend. `inbox` is the bell that all waiters of a process have in common; "" gives each its own."""

    def __init__(self, backend: SlotBackend, inbox: str = "") -> None:
        super().__init__()
        self.backend = backend
        self.inbox = inbox

    def wait_for(self, acquisition: Acquisition, *, adopt: bool = False) -> Plan[Grant]:
        """See `SlotOperations.wait_for`."""
        mode: Mode = "adopt" if adopt else "try" if acquisition.queue_timeout_s == 0 else "line"
        return acquire(acquisition, mode, self.inbox or acquisition.nonce)

    def attempt(self, acquisition: Acquisition) -> Plan[Grant | None]:
        """See `SlotOperations.attempt`."""
        asked_at = moment()
        answer = yield from ask(acquisition, acquisition.ask("try"))
        if isinstance(answer, Granted):
            return grant_of(answer, asked_at)
        if isinstance(answer, Busy):
            return None
        raise refusal(acquisition, answer)

    def carry_out(self, act: Act) -> Plan[Reply]:
        """See `SlotOperations.carry_out`."""
        reply: Reply = yield Ask(act)
        return reply

    def carry_out_all(self, acts: Sequence[Act], deadline_s: float) -> Plan[Sequence[Answer]]:
        """See `SlotOperations.carry_out_all`; in one step."""
        answers: Sequence[Answer] = yield AskAll(acts, deadline_s)
        return answers

    def release_act(self, acquisition: Acquisition, fencing_token: int | None) -> Release:
        """See `SlotOperations.release_act`."""
        return Release(acquisition.queue, acquisition.execution_id, acquisition.nonce, acquisition.tomb_ms)

    def attached(self, acquisition: Acquisition) -> Plan[Grant | None]:
        """See `SlotOperations.attached`."""
        asked_at = moment()
        answer = yield from ask(acquisition, Touch(acquisition.queue, acquisition.execution_id, ANY))
        if not isinstance(answer, Granted):
            return None
        acquisition.nonce = answer.nonce
        return grant_of(answer, asked_at)

    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> Plan[SlotState]:
        """See `SlotOperations.enqueue`."""
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        acquisition = Acquisition.of(action, execution_id, patience_s, **options)
        placed = yield from self.carry_out(acquisition.ask("line" if patience_s > 0 else "try"))
        standing, already = placed, False
        if not isinstance(placed.answer, Granted | Queued):
            standing, already = (
                (yield from self.carry_out(Touch(acquisition.queue, acquisition.execution_id, ANY))),
                True,
            )
        if not isinstance(standing.answer, Granted | Queued):
            raise refusal(acquisition, placed.answer)
        acquisition.take_up_limit(standing.answer.limit, standing.answer.by_policy)
        self.log_limit(acquisition)
        return replace(_state_of(standing), already=already, warning=acquisition.warning)

    def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> Plan[SlotState]:
        """See `SlotOperations.state`."""
        place = Acquisition.existing(action, execution_id, group_key)
        until = moment() + checked_wait(wait_s)
        bell = (self.inbox or "l" + uuid.uuid4().hex) if wait_s > 0 else None
        while True:
            reply = yield from self.carry_out(Touch(place.queue, place.execution_id, ANY, bell))
            if bell is None or not isinstance(reply.answer, Queued) or moment() >= until:
                return _state_of(reply)
            place.nonce = reply.answer.nonce
            look_at = moment() + _look_again_s(reply.answer)
            yield Listen(place, bell, min(until, look_at), attended=False)

    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> Plan[SlotState]:
        """See `SlotOperations.renew`."""
        queue, execution_id = queue_name(action, group_key), checked_name("execution_id", execution_id)
        lease_ms = None if lease_s is None else round(checked_lease(lease_s) * 1000)
        reply = yield from self.carry_out(Renew(queue, execution_id, _key_of(fencing_token), lease_ms))
        if not isinstance(reply.answer, Granted):
            raise LeaseLost(queue, execution_id)
        return _state_of(reply)

    def leave(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Plan[Left]:
        """See `SlotOperations.leave`."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        not_after_ms = None if not_after_s is None else round(not_after_s * 1000)
        key, found = _key_of(fencing_token), "granted"
        if key == ANY:
            found = yield from self._find(acquisition)
            if found == "none":
                return "none"
            key = others_key(acquisition.nonce)
        release = Release(acquisition.queue, acquisition.execution_id, key, TOMB_MS, not_after_ms)
        answer = yield from ask(acquisition, release)
        if isinstance(answer, Released):
            return "released"
        if isinstance(answer, Cancelled):
            return "cancelled"
        if acquisition.doubtful and not_after_ms is None:
            # The reply was lost, not the call.
            return "released" if found == "granted" else "cancelled"
        return "none"

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> Plan[bool]:
        """See `SlotOperations.cancel`."""
        acquisition = Acquisition.existing(action, execution_id, group_key)
        if (yield from self._find(acquisition)) != "queued":
            return False
        key = others_key(acquisition.nonce)
        answer = yield from ask(acquisition, Cancel(acquisition.queue, acquisition.execution_id, key, TOMB_MS))
        return isinstance(answer, Cancelled) or (acquisition.doubtful and not isinstance(answer, Granted))

    def _find(self, acquisition: Acquisition) -> Plan[str]:
        """Where the execution stands. The acquisition takes up its nonce, so that a copy of the call that follows,
        should it arrive late, takes nothing from an acquisition that came since.
        """
        reply = yield from self.carry_out(Touch(acquisition.queue, acquisition.execution_id, ANY))
        if isinstance(reply.answer, Granted | Queued):
            acquisition.nonce = reply.answer.nonce
        return _state_of(reply).state

    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> Plan[QueueStats]:
        """See `SlotOperations.stats`; a queue that was never used is empty."""
        found = yield from self.backend.stats([queue_name(action, group_key)], checked_listed(listed))
        return found[0]

    def queues_page(self, *, after: str | None = None, limit: int = 100, listed: int = LISTED) -> Plan[QueuesPage]:
        """See `SlotOperations.queues_page`."""
        last, listed = checked_after(after), checked_listed(listed)
        most = checked_integer("limit", limit, 1, MOST_QUEUES)
        names = yield from self.backend.queues()
        names = names[0 if last is None else bisect_right(names, last) :]
        some = names[:most]
        found = yield from self.backend.stats(some, listed)
        return QueuesPage(found, some[-1] if some else after, len(some) == len(names))

    def queues_of(self, execution_id: str, *, action: str | None = None) -> Plan[list[str]]:
        """See `SlotOperations.queues_of`."""
        execution_id = checked_name("execution_id", execution_id)
        names = yield from self.backend.queues()
        if action is not None:
            names = [name for name in names if name.partition("/")[0] == action]
        return (yield from self.backend.find(execution_id, names))

    def tend(self) -> Plan[int]:
        """See `SlotOperations.tend`."""
        found, looked, passed_over = 0, _TENDED_A_CALL, 0
        while looked == _TENDED_A_CALL:
            looked, names = yield from self.backend.due(passed_over, _TENDED_A_CALL)
            for first in range(0, len(names), _POKES_A_CALL):
                yield from self.backend.perform([Poke(name) for name in names[first : first + _POKES_A_CALL]])
            found += len(names)
            passed_over += looked
        return found

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> Plan[int]:
        """See `SlotOperations.set_limit`."""
        scope = Scope("queue", queue_name(action, group_key))
        policy = None if max_concurrent is None else Policy(checked_count("max_concurrent", max_concurrent))
        return self.backend.put_policy(scope, policy, None)

    def clear(self, action: str, *, group_key: str | None = None) -> Plan[Cleared]:
        """See `SlotOperations.clear`."""
        return self.backend.clear([queue_name(action, group_key)])

    def clear_all(self) -> Plan[Cleared]:
        """See `SlotOperations.clear_all`."""
        return (yield from self.backend.clear((yield from self.backend.queues())))

    def policies(self) -> Plan[dict[Scope, StoredPolicy]]:
        """See `SlotOperations.policies`."""
        return self.backend.policies()

    def store_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Plan[int]:
        """See `SlotOperations.store_policy`."""
        return self.backend.put_policy(scope, policy, expected_version)


def _state_of(reply: Reply) -> SlotState:
    answer, now_ms = reply.answer, reply.now_ms
    match answer:
        case Granted():
            expires_at = (now_ms + answer.remaining_ms) / 1000
            return SlotState(
                "granted", answer.fence, expires_at, time=now_ms / 1000, max_concurrent=answer.limit or None
            )
        case Queued():
            return SlotState(
                "queued",
                position=answer.position,
                limited_by=answer.limited_by or None,
                retry_at=(now_ms + answer.limited_ms) / 1000 if answer.limited_ms else None,
                time=now_ms / 1000,
                queue_expires_at=(now_ms + answer.remaining_ms) / 1000,
                max_concurrent=answer.limit or None,
            )
        case Gone(expired_ms) if expired_ms:
            return SlotState("none", lease_expires_at=expired_ms / 1000, time=now_ms / 1000)
    return SlotState("none", time=now_ms / 1000)


def _look_again_s(answer: Queued) -> float:
    """After how many seconds it pays to see what has become of a place."""
    due_s = answer.look_in_ms / 1000
    return min(max(due_s, _SHORTEST_LOOK_S), _LONGEST_LOOK_S) if due_s else _LONGEST_LOOK_S


def _key_of(fencing_token: int | None) -> str:
    return ANY if fencing_token is None else fence_key(checked_fence(fencing_token))
