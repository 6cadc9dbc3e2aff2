"""Runs: what there is, how one stands, its events lane by lane, its stages."""

import orjson
from fastapi import APIRouter, Request, Response

from eventlog.runs.records import MOST_RUNS

from .. import schemas
from ..deps import Json, RunId, Workspace, logs_of
from ..pages import encode_replay
from ..parsing import no_query
from ..run_requests import REPLAY_PARAMETERS, RUNS_PARAMETERS, replay_request, runs_request

router = APIRouter(prefix="/v1/workspaces/{workspace}/runs", tags=["runs"])

_MEANINGS = {
    "limit": "At most so many runs.",
    "until": "Only runs that were active last before this: the `cursor` of a page.",
}


@router.get(
    "",
    summary="All runs",
    response_class=Response,
    responses={200: schemas.answer("The runs.", schemas.RunsOut), **schemas.problems(400, 503)},
    openapi_extra={"parameters": schemas.parameters(*RUNS_PARAMETERS, limit=(1, MOST_RUNS), meanings=_MEANINGS)},
)
async def runs(request: Request, workspace: Workspace) -> Response:
    """Those that have events in the log, the latest active first, 100 unless `limit` says otherwise.

    Pass `cursor` as `until` to go further back. A page with a `status` may be short before the end is reached.
    """
    asked = runs_request(request.scope["query_string"])
    logs = logs_of(request)
    page = await logs.bounded(logs.of(workspace).runs(**asked), writes=False)
    return Json(orjson.dumps(page.to_dict()))


@router.get(
    "/{run_id}",
    summary="One run",
    response_class=Response,
    responses={200: schemas.answer("The run.", schemas.RunOut), **schemas.problems(400, 404, 503)},
)
async def run(request: Request, workspace: Workspace, run_id: RunId) -> Response:
    """Its status, when it began and ended, how many events in which lanes. 404 once its last event has left the log."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    found = await logs.bounded(logs.of(workspace).run(run_id), writes=False)
    return Json(orjson.dumps(found.to_dict()))


@router.get(
    "/{run_id}/events",
    summary="Replay a run",
    response_class=Response,
    responses={200: schemas.answer("A page of its events.", schemas.ReplayOut), **schemas.problems(400, 404, 503)},
    openapi_extra={"parameters": schemas.parameters(*REPLAY_PARAMETERS)},
)
async def replay(request: Request, workspace: Workspace, run_id: RunId) -> Response:
    """Its events after `since_seq` of every lane, or of `lane_id`, oldest first.

    Pass `cursor` as `since` for the next page, with the same parameters otherwise. `missed` says for each lane how many
    events after `since_seq` are gone; a page with `since` leaves it empty.
    """
    asked = replay_request(request.scope["query_string"])
    logs = logs_of(request)
    page = await logs.bounded(logs.of(workspace).replay_page(run_id, **asked), writes=False)
    return Json(encode_replay(page))


@router.get(
    "/{run_id}/stages",
    summary="The stages of a run",
    response_class=Response,
    responses={200: schemas.answer("The stages.", schemas.StagesOut), **schemas.problems(400, 404, 503)},
)
async def stages(request: Request, workspace: Workspace, run_id: RunId) -> Response:
    """One view a stage, folded from the run's `stage.*` events: where it stands, which attempt, when, how it ended."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    found = await logs.bounded(logs.of(workspace).stages(run_id), writes=False)
    return Json(orjson.dumps({"run_id": run_id, "stages": [stage.to_dict() for stage in found]}))
