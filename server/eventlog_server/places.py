"""Places in slot queues, as clients of the server have them: taken, and waited on in long polls.

A client may be gone: its place stays until the queue time-out, and a slot that comes to it until the end of the lease.
"""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import Request
from starlette.types import Receive

from eventlog.errors import EventLogError, LeaseLost, NotFound, QueueTimeout, SlotCancelled
from eventlog.slots.awaited import AsyncSlotQueue
from eventlog.slots.operations import SlotState
from eventlog.slots.policy import queue_name

from .requests import Disconnected
from .route import allow_wait, streams_of
from .schemas.slots import SlotIn, StateQuery


async def take_place(request: Request, slots: AsyncSlotQueue, action: str, asked: SlotIn) -> SlotState:
    """Get a slot, or a place in the line, and wait for the slot as long as was asked for. Raises a `SlotRefused`."""
    origin = f"http:{request.client.host}" if request.client else "http"
    state = await slots.enqueue(action, asked.execution_id, **asked.options(origin))
    if state.state != "queued" or not asked.wait_seconds:
        return state
    later = await _wait(request, slots, action, asked.execution_id, asked.group_key, asked.wait_seconds)
    if later.state == "none":
        raise _left_the_line(queue_name(action, asked.group_key), asked.execution_id, state, later)
    return replace(later, warning=state.warning)


async def look_at_place(
    request: Request, slots: AsyncSlotQueue, action: str, execution_id: str, query: StateQuery
) -> SlotState:
    """Where an execution stands; while it waits, at most `wait_seconds` for that to change. Raises `NotFound`."""
    if query.wait_seconds > 0:
        state = await _wait(request, slots, action, execution_id, query.group_key, query.wait_seconds)
    else:
        state = await slots.state(action, execution_id, group_key=query.group_key)
    if state.state == "none":
        queue = queue_name(action, query.group_key)
        problem = f"execution {execution_id} neither holds a slot of {queue} nor waits for one"
        raise NotFound(problem, state.lease_expires_at)
    return state


async def _wait(
    request: Request, slots: AsyncSlotQueue, action: str, execution_id: str, group_key: str | None, wait_s: float
) -> SlotState:
    """The state once it changes or time is up. Raises `Disconnected`, `Overloaded` where too many wait already."""
    allow_wait(request, wait_s)
    streams = streams_of(request)
    with streams.admit(request.scope):
        state = asyncio.create_task(slots.state(action, execution_id, group_key=group_key, wait_s=wait_s))
        gone = asyncio.create_task(_gone(request.receive))
        tasks: tuple[asyncio.Task[Any], ...] = (state, gone, asyncio.create_task(streams.closing.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if state.done():
                return state.result()
            if gone.done():
                raise Disconnected
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    # A server that closes reports how things stand now.
    return await slots.state(action, execution_id, group_key=group_key)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _left_the_line(queue: str, execution_id: str, before: SlotState, now: SlotState) -> EventLogError:
    if now.lease_expires_at is not None and now.lease_expires_at >= before.time:
        return LeaseLost(queue, execution_id)  # the slot came, and nobody heard of it in time
    if before.queue_expires_at is not None and now.time >= before.queue_expires_at:
        return QueueTimeout(queue, execution_id, now.time - before.time)
    return SlotCancelled(queue, execution_id)
