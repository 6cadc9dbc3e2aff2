"""Telemetry of a run: samples of what it uses, in a ring of its own."""

import orjson
from fastapi import APIRouter, Request, Response

from .. import schemas
from ..bodies import receive_object
from ..deps import Json, RunId, Workspace, logs_of
from ..parsing import no_query
from ..run_requests import MOST_SAMPLES_READ, TELEMETRY_KEYS, TELEMETRY_PARAMETERS, pushed, telemetry_request

router = APIRouter(prefix="/v1/workspaces/{workspace}/runs/{run_id}/telemetry", tags=["runs"])

_MEANINGS = {"limit": "At most so many samples.", "stage_name": "Only samples of this stage."}


@router.get(
    "",
    summary="Read samples",
    response_class=Response,
    responses={200: schemas.answer("The samples.", schemas.TelemetryOut), **schemas.problems(400, 404, 503)},
    openapi_extra={
        "parameters": schemas.parameters(*TELEMETRY_PARAMETERS, limit=(0, MOST_SAMPLES_READ), meanings=_MEANINGS)
    },
)
async def telemetry(request: Request, workspace: Workspace, run_id: RunId) -> Response:
    """The samples after `from_seq`, oldest first. Pass `next_seq` as `from_seq` to go on.

    `missed` says how many samples after `from_seq` are gone: evicted, or freed with the ring.
    """
    asked = telemetry_request(request.scope["query_string"])
    logs = logs_of(request)
    page = await logs.bounded(logs.of(workspace).telemetry(run_id, **asked), writes=False)
    return Json(orjson.dumps(page.to_dict()))


@router.post(
    "",
    summary="Add samples",
    status_code=201,
    response_class=Response,
    responses={
        200: schemas.answer("A repetition: what the first push stored, marked `duplicate`.", schemas.SamplesOut),
        201: schemas.answer("Added: the samples with their places in the ring.", schemas.SamplesOut),
        **schemas.problems(400, 404, 408, 413, 415, 422, 503),
    },
    openapi_extra={
        "parameters": schemas.parameters(
            headers={
                "Idempotency-Key": "A repetition under the same key adds nothing; the answer has what the first stored."
            }
        ),
        "requestBody": schemas.body(schemas.SamplesIn),
    },
)
async def push(request: Request, workspace: Workspace, run_id: RunId) -> Response:
    """Samples of the host, of guests, or both. The ring keeps the newest `capacity` from now on; 0 keeps none."""
    no_query(request.scope["query_string"])
    logs = logs_of(request)
    asked = pushed(await receive_object(logs, request.scope, request.receive, TELEMETRY_KEYS), request.scope)
    samples = await logs.bounded(logs.of(workspace).push_telemetry(run_id, **asked))
    duplicate = bool(samples) and samples[0].duplicate
    answer = {"samples": [sample.to_dict() for sample in samples], **({"duplicate": True} if duplicate else {})}
    return Json(orjson.dumps(answer), status_code=200 if duplicate else 201)
