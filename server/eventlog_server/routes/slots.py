"""Slots: ask for one, look where one stands, renew its lease, leave."""

from typing import Annotated

from fastapi import Query, Request, Response

from ..answers import Json
from ..places import look_at_place, take_place
from ..route import Action, Execution, Slots, problems, routes
from ..schemas.slots import GroupQuery, LeaseIn, LeaveQuery, LeftOut, SlotIn, SlotOut, StateQuery

router = routes("/{workspace}/actions/{ref}/slots", "slots")

_AS_IT_IS = LeaseIn()
_STATUS = {"granted": 200, "queued": 202}


@router.post(
    "",
    summary="Ask for a slot",
    response_model=SlotOut,
    responses={202: {"model": SlotOut, "description": "It waits."}, **problems(408, 409, 413, 415, 429)},
)
async def acquire_slot(request: Request, slots: Slots, ref: Action, asked: SlotIn) -> Response:
    """A slot if one is free and nobody waits, else a place in the line: first come, first served.

    With `wait_seconds` the answer waits for the slot. A client that goes away keeps its place until
    `queue_timeout_seconds`; once it is granted, the lease runs. Repeated, it says where the execution stands.
    """
    state = await take_place(request, slots, ref, asked)
    return Json(state.to_dict(), _STATUS[state.state])


@router.get("/{execution_id}", summary="Where an execution stands", response_model=SlotOut, responses=problems(404))
async def get_slot(
    request: Request, slots: Slots, ref: Action, execution_id: Execution, query: Annotated[StateQuery, Query()]
) -> Response:
    """Granted or queued, 404 if neither. With `wait_seconds` the answer waits while it is queued."""
    state = await look_at_place(request, slots, ref, execution_id, query)
    return Json(state.to_dict())


@router.put(
    "/{execution_id}/lease", summary="Renew a lease", response_model=SlotOut, responses=problems(408, 409, 413, 415)
)
async def renew_lease(
    slots: Slots,
    ref: Action,
    execution_id: Execution,
    query: Annotated[GroupQuery, Query()],
    asked: LeaseIn = _AS_IT_IS,
) -> Response:
    """The lease runs anew from now on. 409 `LEASE_LOST` if the execution does not hold the slot (any more)."""
    state = await slots.renew(
        ref,
        execution_id,
        fencing_token=asked.fencing_token,
        lease_s=asked.lease_seconds,
        group_key=query.group_key,
    )
    return Json(state.to_dict())


@router.delete("/{execution_id}", summary="Release or cancel", response_model=LeftOut)
async def release_slot(
    slots: Slots, ref: Action, execution_id: Execution, query: Annotated[LeaveQuery, Query()]
) -> Response:
    """Give the slot back (`released`), or leave the line (`cancelled`). Repeated, it does nothing (`none`).

    With a `fencing_token` only the slot that was granted with it is given back; with `only_queued=true` a slot is kept.
    """
    if query.only_queued:
        cancelled = await slots.cancel(ref, execution_id, group_key=query.group_key)
        return Json({"result": "cancelled" if cancelled else "none"})
    left = await slots.leave(ref, execution_id, fencing_token=query.fencing_token, group_key=query.group_key)
    return Json({"result": left})
