"""Places in slot queues, as clients of the server have them: taken, looked at, left. Nobody attends to them here.

A client may be gone: its place stays until the queue time-out, and a slot that comes to it until the end of the lease.
"""

from typing import NamedTuple

from fastapi import Request

from eventlog.errors import EventLogError, NotFound, QueueTimeout, SlotCancelled
from eventlog.slots.awaited import AsyncSlotQueue
from eventlog.slots.operations import Left, SlotState
from eventlog.slots.policy import queue_name

from .deps import logs_of, streams_of
from .logs import Logs
from .polls import waited_for
from .slot_requests import LeaveRequest, LookRequest, PlaceRequest


class Visit(NamedTuple):
    """One request, and the slot queues that it is about."""

    request: Request
    logs: Logs
    slots: AsyncSlotQueue

    @classmethod
    def of(cls, request: Request, workspace: str) -> "Visit":
        """A request to a workspace; raises `InvalidInput`, `Overloaded`."""
        logs = logs_of(request)
        return cls(request, logs, logs.slots(workspace))


async def take_place(visit: Visit, asked: PlaceRequest) -> SlotState:
    """Get a slot, or a place in the line, and if it may take time wait for the slot. Raises a `SlotRefused`."""
    enqueued = visit.slots.enqueue(
        asked.action, asked.execution_id, queue_timeout_s=asked.queue_timeout_s, **asked.options
    )
    state = await visit.logs.bounded(enqueued)
    if state.state != "queued" or asked.wait_s == 0:
        return state
    later = await _wait(visit, LookRequest(asked.action, asked.execution_id, asked.options["group_key"], asked.wait_s))
    if later.state == "none":
        raise _left_the_line(asked, state, later)
    return later


async def look_at_place(visit: Visit, asked: LookRequest) -> SlotState:
    """Where an execution stands; while it waits, at most `wait_s` for that to change. Raises `NotFound`."""
    state = await _wait(visit, asked) if asked.wait_s > 0 else await _look(visit, asked)
    if state.state == "none":
        queue = queue_name(asked.action, asked.group_key)
        raise NotFound(f"execution {asked.execution_id} neither holds a slot of {queue} nor waits for one")
    return state


async def renew_lease(
    visit: Visit,
    action: str,
    execution_id: str,
    group_key: str | None,
    lease_s: float | None,
    fencing_token: int | None,
) -> SlotState:
    """The lease runs anew. Raises `LeaseLost`."""
    renewed = visit.slots.renew(action, execution_id, fencing_token=fencing_token, lease_s=lease_s, group_key=group_key)
    return await visit.logs.bounded(renewed)


async def leave_place(visit: Visit, asked: LeaveRequest) -> Left:
    """Give the slot back, or leave the line. Idempotent."""
    slots, who = visit.slots, (asked.action, asked.execution_id)
    if asked.only_queued:
        cancelled = await visit.logs.bounded(slots.cancel(*who, group_key=asked.group_key))
        return "cancelled" if cancelled else "none"
    return await visit.logs.bounded(slots.leave(*who, fencing_token=asked.fencing_token, group_key=asked.group_key))


async def _look(visit: Visit, asked: LookRequest) -> SlotState:
    state = visit.slots.state(asked.action, asked.execution_id, group_key=asked.group_key)
    return await visit.logs.bounded(state, writes=False)


async def _wait(visit: Visit, asked: LookRequest) -> SlotState:
    async def change() -> SlotState:
        state = visit.slots.state(asked.action, asked.execution_id, group_key=asked.group_key, wait_s=asked.wait_s)
        return await visit.logs.bounded(state, wait_s=asked.wait_s, writes=False)

    request = visit.request
    state = await waited_for(streams_of(request), request.scope, request.receive, change)
    # A server that closes says how things stand now.
    return await _look(visit, asked) if state is None else state


def _left_the_line(asked: PlaceRequest, before: SlotState, now: SlotState) -> EventLogError:
    queue = queue_name(asked.action, asked.options["group_key"])
    if before.queue_expires_at is not None and now.time >= before.queue_expires_at:
        return QueueTimeout(queue, asked.execution_id, now.time - before.time)
    return SlotCancelled(queue, asked.execution_id)
