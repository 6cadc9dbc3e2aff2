"""Slots: ask for one, look where one stands, renew its lease, leave."""

import orjson
from fastapi import APIRouter, Request, Response

from eventlog.slots.operations import SlotState

from .. import schemas
from ..bodies import receive_object
from ..deps import Action, Execution, Json, Workspace, logs_of
from ..parsing import no_query
from ..places import Visit, leave_place, look_at_place, renew_lease, take_place
from ..slot_requests import (
    LEASE_KEYS,
    LEAVE_PARAMETERS,
    LOOK_PARAMETERS,
    PLACE_KEYS,
    QUEUE_PARAMETERS,
    group_of,
    lease_of,
    leave_request,
    look_request,
    place_request,
)

router = APIRouter(prefix="/v1/workspaces/{workspace}/actions/{ref}/slots", tags=["slots"])

_STATUS = {"granted": 200, "queued": 202}


def _answer(state: SlotState, status: int = 200) -> Response:
    return Json(orjson.dumps(state.to_dict()), status_code=status)


@router.post(
    "",
    summary="Ask for a slot",
    response_class=Response,
    responses={
        200: schemas.answer("It holds a slot.", schemas.SlotOut),
        202: schemas.answer("It waits.", schemas.SlotOut),
        **schemas.problems(400, 408, 409, 413, 415, 429, 503),
    },
    openapi_extra={"requestBody": schemas.body(schemas.SlotIn)},
)
async def take(request: Request, workspace: Workspace, ref: Action) -> Response:
    """A slot if one is free and nobody waits, else a place in the line: first come, first served.

    With `wait_seconds` the answer waits for the slot. A client that goes away keeps its place until
    `queue_timeout_seconds`; once it is granted, the lease runs. Repeated, it says where the execution stands.
    """
    no_query(request.scope["query_string"])
    body = await receive_object(logs_of(request), request.scope, request.receive, PLACE_KEYS)
    state = await take_place(Visit.of(request, workspace), place_request(ref, body, request.scope))
    return _answer(state, _STATUS[state.state])


@router.get(
    "/{execution_id}",
    summary="Where an execution stands",
    response_class=Response,
    responses={200: schemas.answer("Its state.", schemas.SlotOut), **schemas.problems(400, 404, 503)},
    openapi_extra={"parameters": schemas.parameters(*LOOK_PARAMETERS)},
)
async def look(request: Request, workspace: Workspace, ref: Action, execution_id: Execution) -> Response:
    """Granted or queued, 404 if neither. With `wait_seconds` the answer waits while it is queued."""
    asked = look_request(ref, execution_id, request.scope["query_string"])
    return _answer(await look_at_place(Visit.of(request, workspace), asked))


@router.put(
    "/{execution_id}/lease",
    summary="Renew a lease",
    response_class=Response,
    responses={
        200: schemas.answer("It holds the slot until `lease_expires_at`.", schemas.SlotOut),
        **schemas.problems(400, 408, 409, 413, 415, 503),
    },
    openapi_extra={
        "parameters": schemas.parameters(*QUEUE_PARAMETERS),
        "requestBody": schemas.body(schemas.LeaseIn, required=False),
    },
)
async def renew(request: Request, workspace: Workspace, ref: Action, execution_id: Execution) -> Response:
    """The lease runs anew from now on. 409 `LEASE_LOST` if the execution does not hold the slot (any more)."""
    group_key = group_of(request.scope["query_string"])
    body = await receive_object(logs_of(request), request.scope, request.receive, LEASE_KEYS)
    return _answer(await renew_lease(Visit.of(request, workspace), ref, execution_id, group_key, *lease_of(body)))


@router.delete(
    "/{execution_id}",
    summary="Release or cancel",
    response_class=Response,
    responses={200: schemas.answer("What was done.", schemas.LeftOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*LEAVE_PARAMETERS)},
)
async def leave(request: Request, workspace: Workspace, ref: Action, execution_id: Execution) -> Response:
    """Give the slot back (`released`), or leave the line (`cancelled`). Repeated, it does nothing (`none`).

    With a `fencing_token` only the slot that was granted with it is given back; with `only_queued=true` a slot is kept.
    """
    asked = leave_request(ref, execution_id, request.scope["query_string"])
    left = await leave_place(Visit.of(request, workspace), asked)
    return Json(orjson.dumps({"result": left}))
