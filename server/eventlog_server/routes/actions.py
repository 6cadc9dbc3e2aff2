"""Actions: their queues as operators see them, a queue's own limit, and the emergency reset."""

import orjson
from fastapi import APIRouter, Request, Response

from .. import schemas
from ..bodies import receive_object
from ..deps import Action, Json, Workspace, logs_of
from ..parsing import no_query
from ..slot_requests import LIMIT_KEYS, LIST_PARAMETERS, QUEUE_PARAMETERS, group_of, limit_of, stats_of

router = APIRouter(prefix="/v1/workspaces/{workspace}/actions", tags=["slots"])

_CLEARED = {200: schemas.answer("Reset.", schemas.QueuesCleared), **schemas.problems(400, 503)}
_STATS_PARAMETERS = (*QUEUE_PARAMETERS, *LIST_PARAMETERS)


@router.get(
    "",
    summary="All queues",
    response_class=Response,
    responses={200: schemas.answer("The queues.", schemas.ActionsOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*LIST_PARAMETERS)},
)
async def actions(request: Request, workspace: Workspace) -> Response:
    """Every queue that was used within the last week, by name: how many hold and wait, and who."""
    _, listed = stats_of(request.scope["query_string"], LIST_PARAMETERS)
    logs = logs_of(request)
    found = await logs.bounded(logs.slots(workspace).queues(listed=listed), writes=False)
    return Json(orjson.dumps({"actions": [stats.to_dict() for stats in found]}))


@router.get(
    "/{ref}/queue-stats",
    summary="One queue",
    response_class=Response,
    responses={200: schemas.answer("The queue.", schemas.QueueStatsOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*_STATS_PARAMETERS)},
)
async def queue_stats(request: Request, workspace: Workspace, ref: Action) -> Response:
    """How many hold and wait, and who; one that was never used is empty."""
    group_key, listed = stats_of(request.scope["query_string"], _STATS_PARAMETERS)
    logs = logs_of(request)
    stats = logs.slots(workspace).stats(ref, group_key=group_key, listed=listed)
    return Json(orjson.dumps((await logs.bounded(stats, writes=False)).to_dict()))


@router.put(
    "/{ref}/limit",
    summary="Set a queue's own limit",
    response_class=Response,
    responses={200: schemas.answer("Set.", schemas.LimitOut), **schemas.problems(400, 408, 413, 415, 503)},
    openapi_extra={
        "parameters": schemas.parameters(*QUEUE_PARAMETERS),
        "requestBody": schemas.body(schemas.LimitIn),
    },
)
async def set_limit(request: Request, workspace: Workspace, ref: Action) -> Response:
    """Above all policies and callers. Raised, it hands slots out at once; lowered, it takes none away."""
    group_key = group_of(request.scope["query_string"])
    body = await receive_object(logs_of(request), request.scope, request.receive, LIMIT_KEYS)
    return await _limited(request, workspace, ref, group_key, limit_of(body))


@router.delete(
    "/{ref}/limit",
    summary="Remove a queue's own limit",
    response_class=Response,
    responses={200: schemas.answer("Removed.", schemas.LimitOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*QUEUE_PARAMETERS)},
)
async def delete_limit(request: Request, workspace: Workspace, ref: Action) -> Response:
    """From now on policies and callers decide. Idempotent."""
    return await _limited(request, workspace, ref, group_of(request.scope["query_string"]), None)


async def _limited(request: Request, workspace: str, ref: str, group_key: str | None, limit: int | None) -> Response:
    logs = logs_of(request)
    version = await logs.bounded(logs.slots(workspace).set_limit(ref, limit, group_key=group_key))
    document = {"action": ref, "group_key": group_key, "max_concurrent": limit, "version": version}
    return Json(orjson.dumps(document))


@router.delete(
    "/{ref}/queue",
    summary="Emergency reset of one queue",
    response_class=Response,
    responses=_CLEARED,
    openapi_extra={"parameters": schemas.parameters(*QUEUE_PARAMETERS)},
)
async def clear(request: Request, workspace: Workspace, ref: Action) -> Response:
    """Take everybody out: holders lose their lease, waiters their place. Limits, counters and fences stay."""
    group_key = group_of(request.scope["query_string"])
    logs = logs_of(request)
    cleared = await logs.bounded(logs.slots(workspace).clear(ref, group_key=group_key))
    return Json(orjson.dumps(cleared._asdict()))


@router.delete("", summary="Emergency reset of all queues", response_class=Response, responses=_CLEARED)
async def clear_all(request: Request, workspace: Workspace) -> Response:
    """Take everybody out of every queue."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    cleared = await logs.bounded(logs.slots(workspace).clear_all())
    return Json(orjson.dumps(cleared._asdict()))
