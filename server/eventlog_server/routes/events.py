"""Events: read, look up, clear, and the latest activity. Appending is in `append.py`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ..answers import Json
from ..pages import encode_activity, encode_cloudevents, encode_page, page_headers
from ..requests import accepts
from ..route import Log, Route, Workspace, problems, reference
from ..schemas.events import ActivityOut, ActivityQuery, Cleared, CloudEvent, EventOut, PageOut, PageQuery
from .append import CLOUDEVENTS

router = APIRouter(prefix="/v1/workspaces/{workspace}", route_class=Route, default_response_class=Json)

_BATCH = {CLOUDEVENTS: {"schema": {"type": "array", "items": reference(CloudEvent)}}}


@router.get(
    "/events",
    tags=["events"],
    summary="Read a page",
    response_model=PageOut,
    responses={200: {"description": "A page.", "content": _BATCH}, **problems(400, 503)},
)
async def read(request: Request, workspace: Workspace, log: Log, query: Annotated[PageQuery, Query()]) -> Response:
    """The events after `since`, oldest first. A filtered page may be short: `cursor` moves on all the same.

    With `Accept: application/cloudevents-batch+json` the answer is CloudEvents, and the headers Eventlog-Cursor,
    Eventlog-At-End, Eventlog-Epoch and Eventlog-Gap say the rest.
    """
    page = await log.page(**dict(query))
    if not accepts(request.scope, CLOUDEVENTS):
        return Json(encode_page(page))
    return Json(encode_cloudevents(page, workspace), headers=page_headers(page), media_type=CLOUDEVENTS)


@router.get(
    "/events/{event_id}",
    tags=["events"],
    summary="Look an event up",
    response_model=EventOut,
    response_description="The event.",
    responses=problems(400, 404, 503),
)
async def look_up(log: Log, event_id: str) -> Response:
    """One event by its id, e.g. 1763720000123-41."""
    event = await log.get(event_id)
    return Json(event.to_json())


@router.delete(
    "/events",
    tags=["events"],
    summary="Clear the log",
    response_model=Cleared,
    response_description="Cleared.",
    responses=problems(400, 503),
)
async def clear(log: Log) -> Response:
    """Remove every event. The next one has the next offset; readers get to know what they missed."""
    return Json({"removed": await log.clear()})


@router.get(
    "/activity",
    tags=["activity"],
    summary="Latest activity",
    response_model=ActivityOut,
    response_description="The newest events.",
    responses=problems(400, 503),
)
async def activity(log: Log, query: Annotated[ActivityQuery, Query()]) -> Response:
    """Newest first, 50 unless `limit` says otherwise, each with a one-line `summary`.

    Pass `cursor` as `until` to go further back.
    """
    page = await log.page(order="desc", **dict(query))
    return Json(encode_activity(page))
