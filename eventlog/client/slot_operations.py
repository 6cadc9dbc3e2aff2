"""What slot queues behind a server are asked, as plans, whatever the colour: also how a slot is waited for."""

from collections.abc import Sequence

from ..errors import (
    AlreadyHeld,
    BackendUnavailable,
    EventLogError,
    LeaseLost,
    LogClosed,
    NotFound,
    QueueTimeout,
    SlotCancelled,
)
from ..plan.effects import Pause
from ..slots.acts import ANY, Act, Answer, Cancelled, Gone, Granted, Release, Released, Renew
from ..slots.operations import (
    Left,
    SlotState,
    checked_fence,
    checked_listed,
    checked_policy,
    checked_version,
    checked_wait,
)
from ..slots.policy import Policy, Scope, StoredPolicy, checked_count, queue_name
from ..slots.protocol import Cleared, QueueStats
from ..slots.request import Acquisition, SlotOptions, checked_lease, checked_timeout, moment
from ..slots.waiting import PATIENCE_S, Grant
from . import slot_wire as wire
from .asking import Asker, Asking

_POLL_S = 20.0
_PAUSE_S = 0.2
# A grant that was heard of later than this part of its lease is renewed before it is handed out.
_FRESH = 0.8

_LEFT: dict[Left, Answer] = {"released": Released(), "cancelled": Cancelled(), "none": Gone()}


class SlotCalls(Asker):
    """The calls of slot queues. Places are nobody's to attend to: the server waits with those who ask."""

    # What is waited for

    def acquire(self, acquisition: Acquisition) -> Asking[Grant]:
        """Wait for a slot. Raises a `SlotRefused`, or `BackendUnavailable` where the server stays away."""
        began = moment()
        deadline = began + acquisition.queue_timeout_s
        while True:
            asked_at, state = yield from self._enter(acquisition, deadline)
            if state.state == "queued":
                asked_at, state = yield from self._sit(acquisition, asked_at, state, deadline)
            fence, left_s = _token(state), _left_s(state)
            valid_until = asked_at + left_s
            if valid_until - moment() >= left_s * _FRESH:
                return Grant(fence, valid_until, acquisition.lease_s, moment() - began)
            # The slot came somewhere within a long wait: hear from when on its lease runs.
            asked_at = moment()
            answer = yield from self.perform(Renew(acquisition.queue, acquisition.execution_id, "-", fence=fence))
            if isinstance(answer, Granted):
                valid_until = asked_at + answer.remaining_ms / 1000
                return Grant(fence, valid_until, acquisition.lease_s, moment() - began)

    def try_acquire(self, acquisition: Acquisition) -> Asking[Grant | None]:
        """A slot if one is free and nobody waits, else None."""
        try:
            asked_at, state = yield from self._enter(acquisition, moment())
        except QueueTimeout:
            return None
        return Grant(_token(state), asked_at + _left_s(state), acquisition.lease_s, 0.0)

    def _enter(self, acquisition: Acquisition, deadline: float) -> Asking[tuple[float, SlotState]]:
        """Ask for the slot, or for a place. Returns when that was, and the answer."""
        asked_at = moment()
        timeout_s = max(0.0, deadline - asked_at)
        request = wire.place_request(acquisition, timeout_s)

        def repeated() -> None:
            acquisition.doubtful = True

        state = yield from self.ask(request, wire.read_state, on_repeat=repeated)
        acquisition.heard_at = moment()
        if state.already and state.state == "granted" and not acquisition.doubtful:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, state.fencing_token)
        if state.state == "queued" and timeout_s == 0:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, None)
        return asked_at, state

    def _sit(
        self, acquisition: Acquisition, asked_at: float, state: SlotState, deadline: float
    ) -> Asking[tuple[float, SlotState]]:
        """Wait in the line. Returns when the last look began, and the grant."""
        began = heard_at = asked_at
        ends_at = min(deadline, asked_at + ((state.queue_expires_at or state.time) - state.time))
        while state.state != "granted":
            if moment() >= ends_at or state.state == "none":
                return (yield from self._give_up(acquisition, began, ends_at))
            asked_at = moment()
            wait_s = min(_POLL_S, ends_at - asked_at)
            try:
                state = yield from self._look(acquisition.queue, acquisition.execution_id, wait_s)
                heard_at = moment()
            except BackendUnavailable:
                if moment() - heard_at > PATIENCE_S:
                    raise
                yield Pause(_PAUSE_S)
        return asked_at, state

    def _give_up(self, acquisition: Acquisition, began: float, ends_at: float) -> Asking[tuple[float, SlotState]]:
        """Leave the line, unless the grant has come meanwhile: then it is used."""
        who = (acquisition.queue, acquisition.execution_id)
        in_time = moment() < ends_at
        if (yield from self.ask(wire.leave_request(*who, only_queued=True), wire.read_left)) == "none":
            asked_at = moment()
            state = yield from self._look(*who, 0.0)
            if state.state == "granted":
                return asked_at, state
        # How late that was found out is nobody's concern: it is told by what was asked for.
        raise SlotCancelled(*who) if in_time else QueueTimeout(*who, min(moment() - began, acquisition.queue_timeout_s))

    def _look(self, queue: str, execution_id: str, wait_s: float) -> Asking[SlotState]:
        try:
            request = wire.look_request(queue, execution_id, wait_s)
            return (yield from self.ask(request, wire.read_state, wait_s=wait_s))
        except NotFound:
            return SlotState("none")

    # What is held

    def perform_all(self, acts: Sequence[Act], deadline_s: float | None) -> Asking[list[Answer]]:
        """Carry out renewals and releases, one request each, within `deadline_s` seconds (ours unless given)."""
        until = moment() + (self.deadline_s if deadline_s is None else deadline_s)
        answers: list[Answer] = []
        for act in acts:
            answer = yield from self.perform(act, max(0.0, until - moment()))
            answers.append(answer)
        return answers

    def perform(self, act: Act, deadline_s: float | None = None) -> Asking[Answer]:
        """Carry out a renewal or a release."""
        if isinstance(act, Release):
            answer, _ = yield from self.release(act, deadline_s)
            return answer
        return (yield from self._renew(act, deadline_s))

    def release(self, act: Release, deadline_s: float | None = None) -> Asking[tuple[Answer, bool]]:
        """Give a slot back. Returns the answer, and whether a copy of the request may have been carried out before."""
        repetitions: list[bool] = []
        token = None if act.key == ANY else int(act.key.removeprefix("f"))
        request = wire.leave_request(act.queue, act.execution, token)
        left = yield from self.ask(
            request, wire.read_left, deadline_s=deadline_s, on_repeat=lambda: repetitions.append(True)
        )
        return _LEFT[left], bool(repetitions)

    def _renew(self, act: Act, deadline_s: float | None) -> Asking[Answer]:
        assert isinstance(act, Renew)
        lease_s = None if act.lease_ms is None else act.lease_ms / 1000
        request = wire.renew_request(act.queue, act.execution, act.fence, lease_s)
        try:
            state = yield from self.ask(request, wire.read_state, deadline_s=deadline_s)
        except LeaseLost:
            return Gone()
        left_ms = round(_left_s(state) * 1000)
        return Granted(_token(state), left_ms, act.lease_ms or left_ms, act.key, "same")

    # What is asked by name

    def enqueue(
        self, action: str, execution_id: str, queue_timeout_s: float | None, options: SlotOptions
    ) -> Asking[SlotState]:
        """Take a place in the line, or a free slot, and do not wait."""
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        acquisition = Acquisition.of(action, execution_id, patience_s, **options)
        return (yield from self.ask(wire.place_request(acquisition, patience_s), wire.read_state))

    def state(self, action: str, execution_id: str, group_key: str | None, wait_s: float) -> Asking[SlotState]:
        """Where an execution stands; while it is queued, wait at most `wait_s` for that to change."""
        queue = queue_name(action, group_key)
        until = moment() + checked_wait(wait_s)
        while True:
            left_s = max(0.0, until - moment())
            state = yield from self._look(queue, execution_id, min(left_s, _POLL_S))
            if state.state != "queued" or moment() >= until:
                return state

    def renew(
        self, action: str, execution_id: str, fencing_token: int | None, lease_s: float | None, group_key: str | None
    ) -> Asking[SlotState]:
        """Renew a lease; raises `LeaseLost`."""
        token = None if fencing_token is None else checked_fence(fencing_token)
        length_s = None if lease_s is None else checked_lease(lease_s)
        request = wire.renew_request(queue_name(action, group_key), execution_id, token, length_s)
        return (yield from self.ask(request, wire.read_state))

    def leave(self, action: str, execution_id: str, fencing_token: int | None, group_key: str | None) -> Asking[Left]:
        """Give an execution's slot back, or take it out of the line; says what was given up."""
        token = None if fencing_token is None else checked_fence(fencing_token)
        request = wire.leave_request(queue_name(action, group_key), execution_id, token)
        return (yield from self.ask(request, wire.read_left))

    def cancel(self, action: str, execution_id: str, group_key: str | None) -> Asking[bool]:
        """Take an execution out of the line. True if it waited."""
        request = wire.leave_request(queue_name(action, group_key), execution_id, only_queued=True)
        return (yield from self.ask(request, wire.read_left)) == "cancelled"

    def stats(self, action: str, group_key: str | None, listed: int) -> Asking[QueueStats]:
        """One queue."""
        request = wire.stats_request(queue_name(action, group_key), checked_listed(listed))
        return (yield from self.ask(request, wire.read_stats))

    def queues(self, listed: int) -> Asking[list[QueueStats]]:
        """All queues that were used within the last week."""
        return (yield from self.ask(wire.queues_request(checked_listed(listed)), wire.read_queues))

    def set_limit(self, action: str, max_concurrent: int | None, group_key: str | None) -> Asking[int]:
        """Set (None: remove) the queue's own limit; returns its version."""
        most = None if max_concurrent is None else checked_count("max_concurrent", max_concurrent)
        return (yield from self.ask(wire.limit_request(queue_name(action, group_key), most), wire.read_version))

    def clear(self, queue: str | None) -> Asking[Cleared]:
        """Take everybody out of a queue, of all (None)."""
        return (yield from self.ask(wire.clear_request(queue), wire.read_cleared))

    def policies(self) -> Asking[dict[Scope, StoredPolicy]]:
        """All policies that are set."""
        return (yield from self.ask(wire.policies_request(), wire.read_policies))

    def get_policy(self, scope: str) -> Asking[StoredPolicy | None]:
        """One policy, None if it is not set."""
        wanted = Scope.parse(scope)
        return (yield from self.policies()).get(wanted)

    def put_policy(self, scope: str, policy: Policy | None, expected_version: int | None) -> Asking[int]:
        """Set a policy, or remove it; returns its version."""
        checked = None if policy is None else checked_policy(policy)
        version = checked_version(expected_version)
        request = wire.policy_request(Scope.parse(scope), checked, version)
        return (yield from self.ask(request, wire.read_version))


def is_left_behind(acquisition: Acquisition, error: BaseException) -> bool:
    """Whether something of an acquisition that ended with `error` may be in the queue, for nobody."""
    if not isinstance(error, EventLogError):
        # It was interrupted, whatever was under way.
        return True
    if not isinstance(error, BackendUnavailable | LogClosed):
        return False
    # What certainly never arrived has left nothing, and the execution may hold a slot by another acquisition.
    unknown = isinstance(error, BackendUnavailable) and error.outcome_unknown
    return acquisition.heard_at > 0 or acquisition.doubtful or unknown


def _left_s(state: SlotState) -> float:
    """For how long a grant stands from the moment on that its answer was made."""
    return max(0.0, (state.lease_expires_at or 0.0) - state.time)


def _token(state: SlotState) -> int:
    return state.fencing_token or 0
