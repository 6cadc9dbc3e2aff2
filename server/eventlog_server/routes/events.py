"""Events: append, read, look up, clear."""

from functools import partial

from fastapi import APIRouter, Request, Response

from eventlog.log.reading import read_page

from .. import schemas
from ..bodies import JSON
from ..deps import Handover, Json, Workspace, logs_of
from ..hot import handle_append
from ..ingest import CLOUDEVENT, CLOUDEVENTS, NDJSON
from ..pages import encode_cloudevents, encode_page, page_headers
from ..parsing import PAGE_PARAMETERS, accepts, no_query, page_request

router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["events"])

_EVENT = schemas.reference(schemas.EventIn)
_ONE_OR_MANY = {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "maxItems": 1000}]}
_CLOUDEVENT = schemas.reference(schemas.CloudEvent)
_APPENDED = {
    "content": {JSON: {"schema": {"anyOf": [schemas.reference(schemas.EventOut), schemas.reference(schemas.BatchOut)]}}}
}
_LINES = {NDJSON: {"schema": {"type": "string", "description": "One result a line of input, in order."}}}


@router.post(
    "/events",
    summary="Append",
    status_code=201,
    response_class=Response,
    responses={
        201: {"description": "Appended: the event, or the batch's events.", **_APPENDED},
        200: {
            "description": "A repetition: the first append's result, marked `duplicate`. For NDJSON, the results.",
            "content": {**_APPENDED["content"], **_LINES},
        },
        **schemas.problems(400, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra={
        "parameters": schemas.parameters(
            "expected_offset",
            headers={"Idempotency-Key": "Repeating an append with the same key returns the first result."},
        ),
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _ONE_OR_MANY},
                NDJSON: {"schema": {"type": "string", "description": "One event a line."}},
                CLOUDEVENT: {"schema": _CLOUDEVENT},
                CLOUDEVENTS: {"schema": {"type": "array", "items": _CLOUDEVENT}},
            },
        },
    },
)
async def append(request: Request, workspace: Workspace) -> Response:
    """One event (an object), or an atomic batch (an array; an empty one appends nothing).

    As `application/x-ndjson`, one event a line: each is appended by itself and answered by a line with the event or
    with `{"error": problem, "line": n}`. CloudEvents 1.0 are taken structured, binary and batched.
    """
    return Handover(partial(handle_append, logs_of(request), workspace))


@router.get(
    "/events",
    summary="Read a page",
    response_class=Response,
    responses={
        200: schemas.answer(
            "A page.", schemas.PageOut, **{CLOUDEVENTS: {"schema": {"type": "array", "items": _CLOUDEVENT}}}
        ),
        **schemas.problems(400, 503),
    },
    openapi_extra={"parameters": schemas.parameters(*PAGE_PARAMETERS)},
)
async def read(request: Request, workspace: Workspace) -> Response:
    """The events after `since`, oldest first. A filtered page may be short: `cursor` moves on all the same.

    With `Accept: application/cloudevents-batch+json` the answer is CloudEvents, and the headers Eventlog-Cursor,
    Eventlog-At-End, Eventlog-Epoch and Eventlog-Gap say the rest.
    """
    wanted = page_request(request.scope["query_string"])
    page = await logs_of(request).run(workspace, lambda log: read_page(log.core.backend, wanted))
    if not accepts(request.scope, CLOUDEVENTS):
        return Json(encode_page(page))
    answer = Response(encode_cloudevents(page, workspace), media_type=CLOUDEVENTS)
    answer.raw_headers += page_headers(page)
    return answer


@router.get(
    "/events/{event_id}",
    summary="Look an event up",
    response_class=Response,
    responses={200: schemas.answer("The event.", schemas.EventOut), **schemas.problems(400, 404, 503)},
)
async def look_up(request: Request, workspace: Workspace, event_id: str) -> Response:
    """One event by its id, e.g. 1763720000123-41."""
    no_query(request.scope["query_string"])
    event = await logs_of(request).run(workspace, lambda log: log.core.get(event_id))
    return Json(event.to_json())


@router.delete(
    "/events",
    summary="Clear the log",
    response_class=Response,
    responses={200: schemas.answer("Cleared.", schemas.Cleared), **schemas.problems(400, 503)},
)
async def clear(request: Request, workspace: Workspace) -> Response:
    """Remove every event. The next one has the next offset; readers are told what they missed."""
    no_query(request.scope["query_string"])
    removed = await logs_of(request).run(workspace, lambda log: log.core.backend.clear())
    return Json(b'{"removed":%d}' % removed)
