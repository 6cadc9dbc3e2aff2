"""The calls of slot queues behind a server, as plans, whatever the colour: also how a slot is waited for."""

from collections.abc import Sequence
from typing import Unpack

from ..errors import AlreadyHeld, BackendUnavailable, InvalidInput, LeaseLost, NotFound, QueueTimeout, SlotCancelled
from ..model.numbers import checked_integer
from ..plan.effects import Pause
from ..slots.acts import ANY, Act, Answer, Cancelled, Gone, Granted, Release, Released, Renew, fence_key
from ..slots.operations import (
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
from ..slots.policy import Policy, Scope, StoredPolicy, checked_count, queue_name
from ..slots.protocol import Cleared, QueuesPage, QueueStats
from ..slots.request import Acquisition, SlotOptions, checked_lease, checked_timeout, moment
from ..slots.waiting import PATIENCE_S, Grant, Reply, valid_until
from . import slot_wire as wire
from .asking import Asker, Asking

_POLL_S = 20.0
_PAUSE_S = 0.2
_LEEWAY_S = 0.1
# A grant that was heard of later than this part of its lease is renewed before it is handed out.
_FRESH = 0.8

_LEFT: dict[Left, Answer] = {"released": Released(), "cancelled": Cancelled(), "none": Gone()}


class SlotCalls(Asker, SlotOperations):
    """Asks a server. No place there has to be attended to: the server waits with its callers."""

    def __init__(self, origin: str, deadline_s: float) -> None:
        Asker.__init__(self, origin, deadline_s)
        SlotOperations.__init__(self)

    # What the colours build on

    def wait_for(self, acquisition: Acquisition, *, adopt: bool = False) -> Asking[Grant]:
        """See `SlotOperations.wait_for`."""
        if adopt:
            raise InvalidInput("adopt", "a slot cannot be taken over through a server")
        return self._wait_for(acquisition)

    def _wait_for(self, acquisition: Acquisition) -> Asking[Grant]:
        began = moment()
        deadline = began + acquisition.queue_timeout_s
        while True:
            asked_at, state = yield from self._enter(acquisition, deadline)
            if state.state == "queued":
                asked_at, state = yield from self._stay(acquisition, asked_at, state, deadline)
                acquisition.limit = state.max_concurrent
            fence, left_s = _token(state), _left_s(state)
            if asked_at + left_s - moment() >= left_s * _FRESH:
                return _grant(acquisition, fence, asked_at, left_s, moment() - began)
            # The slot came somewhere within a long wait: hear from when on its lease runs.
            asked_at = moment()
            renewed = yield from self.carry_out(Renew(acquisition.queue, acquisition.execution_id, "-", fence=fence))
            if isinstance(renewed.answer, Granted):
                left_s = renewed.answer.remaining_ms / 1000
                return _grant(acquisition, fence, asked_at, left_s, moment() - began)

    def attempt(self, acquisition: Acquisition) -> Asking[Grant | None]:
        """See `SlotOperations.attempt`."""
        try:
            asked_at, state = yield from self._enter(acquisition, moment())
        except QueueTimeout:
            return None
        return _grant(acquisition, _token(state), asked_at, _left_s(state), 0.0)

    def _enter(self, acquisition: Acquisition, deadline: float) -> Asking[tuple[float, SlotState]]:
        """Ask for the slot, or for a place. Returns when that was, and the answer."""
        asked_at = moment()
        timeout_s = max(0.0, deadline - asked_at)
        request = wire.place_request(acquisition, timeout_s)

        def repeated() -> None:
            acquisition.doubtful = True

        state = yield from self.ask(request, wire.read_state, on_repeat=repeated)
        acquisition.heard_at = moment()
        acquisition.limit, acquisition.warning = state.max_concurrent, state.warning
        if state.already and state.state == "granted" and not acquisition.doubtful:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, state.fencing_token)
        if state.state == "queued" and timeout_s == 0:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, None)
        return asked_at, state

    def _stay(
        self, acquisition: Acquisition, asked_at: float, state: SlotState, deadline: float
    ) -> Asking[tuple[float, SlotState]]:
        """Wait in the line. Returns when the last look began, and the grant."""
        began = heard_at = asked_at
        queued_at = state.time
        ends_at = min(deadline, asked_at + ((state.queue_expires_at or state.time) - state.time))
        while state.state != "granted":
            if moment() >= ends_at or state.state == "none":
                return (yield from self._give_up(acquisition, began, ends_at, queued_at))
            asked_at = moment()
            # A little longer, so that the server ends the wait: it knows a time-out from a cancellation.
            wait_s = min(_POLL_S, ends_at - asked_at + _LEEWAY_S)
            try:
                state = yield from self._look(acquisition.queue, acquisition.execution_id, wait_s)
                heard_at = moment()
            except BackendUnavailable:
                if moment() - heard_at > PATIENCE_S:
                    raise
                yield Pause(_PAUSE_S)
        return asked_at, state

    def _give_up(
        self, acquisition: Acquisition, began: float, ends_at: float, queued_at: float
    ) -> Asking[tuple[float, SlotState]]:
        """Leave the line, unless the grant has come meanwhile: then it is used."""
        named = (acquisition.queue, acquisition.execution_id)
        in_time = moment() < ends_at
        if (yield from self.ask(wire.leave_request(*named, only_queued=True), wire.read_left)) == "none":
            asked_at = moment()
            state = yield from self._look(*named, 0.0)
            if state.state == "granted":
                return asked_at, state
            if state.lease_expires_at is not None and state.lease_expires_at >= queued_at:
                raise LeaseLost(*named)  # the slot came, and we did not hear of it in time
        if in_time:
            raise SlotCancelled(*named)
        # The error names the time that was asked for; how late its end was found out is of no use to the caller.
        raise QueueTimeout(*named, min(moment() - began, acquisition.queue_timeout_s))

    def _look(self, queue: str, execution_id: str, wait_s: float) -> Asking[SlotState]:
        try:
            request = wire.look_request(queue, execution_id, wait_s)
            return (yield from self.ask(request, wire.read_state, wait_s=wait_s))
        except NotFound as error:
            return SlotState("none", lease_expires_at=error.lease_expired_at)

    def carry_out(self, act: Act, deadline_s: float | None = None) -> Asking[Reply]:
        """See `SlotOperations.carry_out`."""
        if isinstance(act, Release):
            return (yield from self._release(act, deadline_s))
        assert isinstance(act, Renew)
        lease_s = None if act.lease_ms is None else act.lease_ms / 1000
        request = wire.renew_request(act.queue, act.execution, act.fence, lease_s)
        try:
            state = yield from self.ask(request, wire.read_state, deadline_s=deadline_s)
        except LeaseLost:
            return Reply(Gone())
        left_ms = round(_left_s(state) * 1000)
        return Reply(Granted(_token(state), left_ms, act.lease_ms or left_ms, act.key, "same"))

    def _release(self, act: Release, deadline_s: float | None) -> Asking[Reply]:
        repetitions: list[bool] = []
        token = None if act.key == ANY else int(act.key.removeprefix("f"))
        request = wire.leave_request(act.queue, act.execution, token)
        left = yield from self.ask(
            request, wire.read_left, deadline_s=deadline_s, on_repeat=lambda: repetitions.append(True)
        )
        return Reply(_LEFT[left], repeated=bool(repetitions))

    def carry_out_all(self, acts: Sequence[Act], deadline_s: float) -> Asking[Sequence[Answer]]:
        """See `SlotOperations.carry_out_all`; one request each."""
        until = moment() + deadline_s
        answers: list[Answer] = []
        for act in acts:
            reply = yield from self.carry_out(act, max(0.0, until - moment()))
            answers.append(reply.answer)
        return answers

    def release_act(self, acquisition: Acquisition, fencing_token: int | None) -> Release:
        """See `SlotOperations.release_act`; the server knows a slot by its fencing token."""
        key = ANY if fencing_token is None else fence_key(fencing_token)
        return Release(acquisition.queue, acquisition.execution_id, key)

    # What is asked by name

    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> Asking[SlotState]:
        """See `SlotOperations.enqueue`.

        If the answer was lost, and it was asked again under the hood, the state of its own place is marked `already`.
        """
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        acquisition = Acquisition.of(action, execution_id, patience_s, **options)
        state = yield from self.ask(wire.place_request(acquisition, patience_s), wire.read_state)
        acquisition.limit, acquisition.warning = state.max_concurrent, state.warning
        self.log_limit(acquisition)
        return state

    def state(
        self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0
    ) -> Asking[SlotState]:
        """See `SlotOperations.state`."""
        queue = queue_name(action, group_key)
        until = moment() + checked_wait(wait_s)
        while True:
            left_s = max(0.0, until - moment())
            state = yield from self._look(queue, execution_id, min(left_s, _POLL_S))
            if state.state != "queued" or moment() >= until:
                return state

    def renew(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        lease_s: float | None = None,
        group_key: str | None = None,
    ) -> Asking[SlotState]:
        """See `SlotOperations.renew`."""
        token = None if fencing_token is None else checked_fence(fencing_token)
        length_s = None if lease_s is None else checked_lease(lease_s)
        request = wire.renew_request(queue_name(action, group_key), execution_id, token, length_s)
        return self.ask(request, wire.read_state)

    def leave(
        self,
        action: str,
        execution_id: str,
        *,
        fencing_token: int | None = None,
        group_key: str | None = None,
        not_after_s: float | None = None,
    ) -> Asking[Left]:
        """See `SlotOperations.leave`.

        If the answer was lost, and it was asked again under the hood, it is `none` for what the first request took.
        """
        if not_after_s is not None:
            raise InvalidInput("not_after_s", "through a server a release cannot be kept from younger slots")
        token = None if fencing_token is None else checked_fence(fencing_token)
        return self.ask(wire.leave_request(queue_name(action, group_key), execution_id, token), wire.read_left)

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> Asking[bool]:
        """See `SlotOperations.cancel`."""
        request = wire.leave_request(queue_name(action, group_key), execution_id, only_queued=True)
        return (yield from self.ask(request, wire.read_left)) == "cancelled"

    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> Asking[QueueStats]:
        """See `SlotOperations.stats`."""
        return self.ask(wire.stats_request(queue_name(action, group_key), checked_listed(listed)), wire.read_stats)

    def queues_page(self, *, after: str | None = None, limit: int = 100, listed: int = LISTED) -> Asking[QueuesPage]:
        """See `SlotOperations.queues_page`."""
        most = checked_integer("limit", limit, 1, MOST_QUEUES)
        return self.ask(wire.queues_request(checked_after(after), most, checked_listed(listed)), wire.read_queues)

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> Asking[int]:
        """See `SlotOperations.set_limit`."""
        most = None if max_concurrent is None else checked_count("max_concurrent", max_concurrent)
        return self.ask(wire.limit_request(queue_name(action, group_key), most), wire.read_version)

    def clear(self, action: str, *, group_key: str | None = None) -> Asking[Cleared]:
        """See `SlotOperations.clear`."""
        return self.ask(wire.clear_request(queue_name(action, group_key)), wire.read_cleared)

    def clear_all(self) -> Asking[Cleared]:
        """See `SlotOperations.clear_all`."""
        return self.ask(wire.clear_request(None), wire.read_cleared)

    def policies(self) -> Asking[dict[Scope, StoredPolicy]]:
        """See `SlotOperations.policies`."""
        return self.ask(wire.policies_request(), wire.read_policies)

    def store_policy(self, scope: Scope, policy: Policy | None, expected_version: int | None) -> Asking[int]:
        """See `SlotOperations.store_policy`; raises `InvalidInput` for the scope of a queue."""
        return self.ask(wire.policy_request(scope, policy, expected_version), wire.read_version)


def _grant(acquisition: Acquisition, fence: int, asked_at: float, left_s: float, waited_s: float) -> Grant:
    return Grant(fence, valid_until(asked_at, round(left_s * 1000)), acquisition.lease_s, waited_s)


def _left_s(state: SlotState) -> float:
    """For how long a grant stands from the moment on that its answer was made."""
    return max(0.0, (state.lease_expires_at or 0.0) - state.time)


def _token(state: SlotState) -> int:
    return state.fencing_token or 0
