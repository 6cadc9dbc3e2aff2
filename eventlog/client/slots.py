"""`RemoteSlots`: a workspace's slot queues through a server, for blocking callers."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, Unpack

from ..errors import (
    AlreadyHeld,
    BackendUnavailable,
    EventLogError,
    InvalidInput,
    LeaseLost,
    NotFound,
    QueueTimeout,
    SlotCancelled,
)
from ..slots.acts import ANY, Act, Answer, Cancelled, Gone, Granted, Release, Released, Renew, fence_key
from ..slots.base import Cleared, QueueStats
from ..slots.keeper import Keeper
from ..slots.policy import Policy, Scope, StoredPolicy, checked_count, queue_name
from ..slots.queue import Slot
from ..slots.service import LISTED, Left, SlotState, checked_fence, checked_wait
from ..slots.terms import Acquisition, SlotOptions, checked_lease, checked_timeout, moment
from ..slots.waiting import PATIENCE_S, Grant
from . import slot_wire as wire
from .server import Server

_POLL_S = 20.0
_PAUSE_S = 0.2
_ABANDON_S = 1.0
# A grant that was heard of later than this part of its lease is renewed before it is handed out.
_FRESH = 0.8

_LEFT: dict[Left, Answer] = {"released": Released(), "cancelled": Cancelled(), "none": Gone()}


class RemoteSlot(Slot):
    """A slot that is held through a server: see `Slot`. It is known there by its fencing token."""

    def release_act(self) -> Release:
        """The act that gives this slot back, and no other of the execution."""
        return Release(self.acquisition.queue, self.execution_id, fence_key(self.fencing_token))


class RemoteSlots:
    """A workspace's slot queues behind the server at `url`. Safe under threads. Close it, or use it in a `with`.

    The calls are those of `SlotQueue`, with the same results; each is bounded by `deadline_s` seconds. One thing is
    different: places are nobody's to attend to. Who waits and dies without a word keeps its place until its time-out,
    and a slot that comes to it until the end of its lease.
    """

    backend = "http"

    def __init__(self, url: str, *, workspace: str = "default", deadline_s: float = 5.0) -> None:
        self._server = Server(url, workspace, deadline_s)
        self.workspace = self._server.workspace
        self.keeper = Keeper(self.perform)

    def perform(self, acts: Sequence[Act], deadline_s: float | None = None) -> list[Answer]:
        """Carry out renewals and releases, one request each."""
        return [self._perform(act, deadline_s) for act in acts]

    def give_back(self, release: Release) -> bool:
        """Release a slot that was held until now. True if it is given back by this call."""
        return isinstance(self._perform(release, None), Released)

    def _perform(self, act: Act, deadline_s: float | None) -> Answer:
        if isinstance(act, Release):
            token = None if act.key == ANY else int(act.key.removeprefix("f"))
            request = wire.leave_request(act.queue, act.execution, token)
            return _LEFT[self._server.ask(request, wire.read_left, deadline_s=deadline_s)]
        assert isinstance(act, Renew)
        lease_s = None if act.lease_ms is None else act.lease_ms / 1000
        request = wire.renew_request(act.queue, act.execution, act.fence, lease_s)
        try:
            state = self._server.ask(request, wire.read_state, deadline_s=deadline_s)
        except LeaseLost:
            return Gone()
        left_ms = round(_left_s(state) * 1000)
        return Granted(_token(state), left_ms, act.lease_ms or left_ms, act.key, "same")

    def acquire(
        self,
        action: str,
        execution_id: str | None = None,
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[Slot], None] | None = None,
        **options: Unpack[SlotOptions],
    ) -> Slot:
        """Wait for a slot; see `SlotQueue.acquire`. There is no `adopt` through a server."""
        acquisition = Acquisition.of(action, execution_id, timeout_s, **options)
        try:
            return self._kept(acquisition, self._wait(acquisition), on_lost)
        except BaseException as error:
            if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
                self._abandon(acquisition)
            raise

    def _wait(self, acquisition: Acquisition) -> Grant:
        began = moment()
        deadline = began + acquisition.queue_timeout_s
        while True:
            asked_at, state = self._enter(acquisition, deadline)
            if state.state == "queued":
                asked_at, state = self._sit(acquisition, asked_at, state, deadline)
            fence, left_s = _token(state), _left_s(state)
            valid_until = asked_at + left_s
            if valid_until - moment() >= left_s * _FRESH:
                return Grant(fence, valid_until, acquisition.lease_s, moment() - began)
            # The slot came somewhere within a long wait: hear from when on its lease runs.
            asked_at = moment()
            answer = self.perform((Renew(acquisition.queue, acquisition.execution_id, "-", fence=fence),))[0]
            if isinstance(answer, Granted):
                valid_until = asked_at + answer.remaining_ms / 1000
                return Grant(fence, valid_until, acquisition.lease_s, moment() - began)

    def _enter(self, acquisition: Acquisition, deadline: float) -> tuple[float, SlotState]:
        """Ask for the slot, or for a place. Returns when that was, and the answer."""
        asked_at = moment()
        timeout_s = max(0.0, deadline - asked_at)
        request = wire.place_request(acquisition, timeout_s)

        def repeated() -> None:
            acquisition.doubtful = True

        state = self._server.ask(request, wire.read_state, on_repeat=repeated)
        if state.already and state.state == "granted" and not acquisition.doubtful:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, state.fencing_token)
        if state.state == "queued" and timeout_s == 0:
            raise AlreadyHeld(acquisition.queue, acquisition.execution_id, None)
        return asked_at, state

    def _sit(
        self, acquisition: Acquisition, asked_at: float, state: SlotState, deadline: float
    ) -> tuple[float, SlotState]:
        """Wait in the line. Returns when the last look began, and the grant."""
        began = heard_at = asked_at
        ends_at = min(deadline, asked_at + ((state.queue_expires_at or state.time) - state.time))
        while state.state != "granted":
            if moment() >= ends_at or state.state == "none":
                return self._give_up(acquisition, began, ends_at)
            asked_at = moment()
            wait_s = min(_POLL_S, ends_at - asked_at)
            try:
                state = self._look(acquisition.queue, acquisition.execution_id, wait_s)
                heard_at = moment()
            except BackendUnavailable:
                if moment() - heard_at > PATIENCE_S:
                    raise
                time.sleep(_PAUSE_S)
        return asked_at, state

    def _give_up(self, acquisition: Acquisition, began: float, ends_at: float) -> tuple[float, SlotState]:
        """Leave the line, unless the grant has come meanwhile: then it is used."""
        who = (acquisition.queue, acquisition.execution_id)
        in_time = moment() < ends_at
        if self._server.ask(wire.leave_request(*who, only_queued=True), wire.read_left) == "none":
            asked_at = moment()
            state = self._look(*who, 0.0)
            if state.state == "granted":
                return asked_at, state
        raise SlotCancelled(*who) if in_time else QueueTimeout(*who, moment() - began)

    def _look(self, queue: str, execution_id: str, wait_s: float) -> SlotState:
        try:
            return self._server.ask(wire.look_request(queue, execution_id, wait_s), wire.read_state, wait_s=wait_s)
        except NotFound:
            return SlotState("none")

    def _kept(self, acquisition: Acquisition, grant: Grant, on_lost: Callable[[Slot], None] | None) -> Slot:
        slot = RemoteSlot(self, acquisition, grant, on_lost)
        try:
            self.keeper.keep(slot)
            return slot
        except BaseException:
            # A signal: nobody will ever release what nobody got.
            self.keeper.drop(slot)
            raise

    def _abandon(self, acquisition: Acquisition) -> None:
        """Nobody waits any more, and what became of the last request is not known."""
        release = Release(acquisition.queue, acquisition.execution_id, ANY)
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
        """A slot if one is free and nobody waits, else None; see `SlotQueue.try_acquire`."""
        acquisition = Acquisition.of(action, execution_id, 0, **options)
        try:
            asked_at, state = self._enter(acquisition, moment())
            grant = Grant(_token(state), asked_at + _left_s(state), acquisition.lease_s, 0.0)
            return self._kept(acquisition, grant, on_lost)
        except QueueTimeout:
            return None
        except BaseException as error:
            if not isinstance(error, EventLogError) or isinstance(error, BackendUnavailable):
                self._abandon(acquisition)
            raise

    def enqueue(
        self,
        action: str,
        execution_id: str,
        *,
        queue_timeout_s: float | None = None,
        **options: Unpack[SlotOptions],
    ) -> SlotState:
        """Take a place in the line, or a free slot, and do not wait; see `SlotQueue.enqueue`.

        If the answer was lost, and it was asked again under the hood, it says `already` of its own place.
        """
        patience_s = checked_timeout(queue_timeout_s, "queue_timeout_s")
        acquisition = Acquisition.of(action, execution_id, patience_s, **options)
        return self._server.ask(wire.place_request(acquisition, patience_s), wire.read_state)

    def state(self, action: str, execution_id: str, *, group_key: str | None = None, wait_s: float = 0.0) -> SlotState:
        """Where an execution stands; while it is queued, wait at most `wait_s` for that to change."""
        queue = queue_name(action, group_key)
        until = moment() + checked_wait(wait_s)
        while True:
            left_s = max(0.0, until - moment())
            state = self._look(queue, execution_id, min(left_s, _POLL_S))
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
    ) -> SlotState:
        """Renew a lease, with a new length if one is given; raises `LeaseLost`."""
        token = None if fencing_token is None else checked_fence(fencing_token)
        length_s = None if lease_s is None else checked_lease(lease_s)
        request = wire.renew_request(queue_name(action, group_key), execution_id, token, length_s)
        return self._server.ask(request, wire.read_state)

    def release(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> bool:
        """Give an execution's slot back, or take it out of the line. True if it held a slot; see `SlotQueue.release`.

        If the answer was lost, and it was asked again under the hood, it is False for what the first request released.
        """
        return self.leave(action, execution_id, fencing_token=fencing_token, group_key=group_key) == "released"

    def leave(
        self, action: str, execution_id: str, *, fencing_token: int | None = None, group_key: str | None = None
    ) -> Left:
        """As `release`; says what was given up."""
        token = None if fencing_token is None else checked_fence(fencing_token)
        request = wire.leave_request(queue_name(action, group_key), execution_id, token)
        return self._server.ask(request, wire.read_left)

    def cancel(self, action: str, execution_id: str, *, group_key: str | None = None) -> bool:
        """Take an execution out of the line. True if it waited; if it holds a slot it keeps it."""
        request = wire.leave_request(queue_name(action, group_key), execution_id, only_queued=True)
        return self._server.ask(request, wire.read_left) == "cancelled"

    def stats(self, action: str, *, group_key: str | None = None, listed: int = LISTED) -> QueueStats:
        """Who holds and who waits, with counts and limits; at most `listed` of each are named."""
        return self._server.ask(wire.stats_request(queue_name(action, group_key), listed), wire.read_stats)

    def queues(self, *, listed: int = LISTED) -> list[QueueStats]:
        """All queues that were used within the last week, by name."""
        return self._server.ask(wire.queues_request(listed), wire.read_queues)

    def set_limit(self, action: str, max_concurrent: int | None, *, group_key: str | None = None) -> int:
        """Set (None: remove) the queue's own limit; see `SlotQueue.set_limit`."""
        most = None if max_concurrent is None else checked_count("max_concurrent", max_concurrent)
        return self._server.ask(wire.limit_request(queue_name(action, group_key), most), wire.read_version)

    def clear(self, action: str, *, group_key: str | None = None) -> Cleared:
        """Emergency: take everybody out of a queue."""
        return self._server.ask(wire.clear_request(queue_name(action, group_key)), wire.read_cleared)

    def clear_all(self) -> Cleared:
        """Emergency: `clear` every queue of the workspace."""
        return self._server.ask(wire.clear_request(None), wire.read_cleared)

    def policies(self) -> dict[Scope, StoredPolicy]:
        """All policies that are set, by scope."""
        return self._server.ask(wire.policies_request(), wire.read_policies)

    def get_policy(self, scope: str) -> StoredPolicy | None:
        """The policy of a scope, None if it is not set."""
        return self.policies().get(Scope.parse(scope))

    def put_policy(self, scope: str, policy: Policy, *, expected_version: int | None = None) -> int:
        """Set a policy; returns its version. Raises `VersionConflict`; `InvalidInput` for the scope of a queue."""
        return self._put(scope, policy, expected_version)

    def delete_policy(self, scope: str, *, expected_version: int | None = None) -> int:
        """Remove a policy, if it is set; raises `VersionConflict`."""
        return self._put(scope, None, expected_version)

    def _put(self, scope: str, policy: Policy | None, expected_version: int | None) -> int:
        if expected_version is not None and (isinstance(expected_version, bool) or not expected_version >= 0):
            raise InvalidInput("expected_version", f"{expected_version!r} is not a version")
        request = wire.policy_request(Scope.parse(scope), policy, expected_version)
        return self._server.ask(request, wire.read_version)

    def close(self) -> None:
        """Renew nothing any more and close all connections. What is still held ends with its lease. Idempotent."""
        self.keeper.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _left_s(state: SlotState) -> float:
    """For how long a grant stands from the moment on that its answer was made."""
    return max(0.0, (state.lease_expires_at or 0.0) - state.time)


def _token(state: SlotState) -> int:
    return state.fencing_token or 0
