"""Events: read, follow, look up, clear, and the latest activity. Appending is in `append.py`."""

from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response

from ..answers import Handover, Json
from ..ndjson import NDJSON
from ..pages import encode_activity, encode_cloudevents, encode_page, page_headers
from ..requests import accepts
from ..route import Log, Workspace, logs_of, problems, routes, streams_of
from ..schemas.base import CURSOR, Absent
from ..schemas.events import ActivityOut, ActivityQuery, Cleared, EventOut, PageOut, PageQuery, StreamQuery
from ..streaming import serve_stream
from .append import CLOUDEVENTS

router = routes("/{workspace}", "events")


@router.get(
    "/events",
    summary="Read a page",
    response_model=PageOut,
    response_description="A page.",
)
async def read_events(
    request: Request, workspace: Workspace, log: Log, query: Annotated[PageQuery, Query()]
) -> Response:
    """The events after `since`, oldest first. A filtered page may be short: `cursor` moves on all the same.

    With `Accept: application/cloudevents-batch+json` the answer is CloudEvents, and the headers Eventlog-Cursor,
    Eventlog-At-End, Eventlog-Epoch and Eventlog-Gap say the rest.
    """
    page = await log.page(**dict(query))
    if not accepts(request.scope, CLOUDEVENTS):
        return Json(encode_page(page))
    return Json(encode_cloudevents(page, workspace), headers=page_headers(page), media_type=CLOUDEVENTS)


@router.get(
    "/events/stream",
    summary="Follow",
    response_class=Response,
    response_description="Server-Sent Events, or lines; it has no end of its own.",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}}},
    },
)
async def follow_events(
    request: Request,
    log: Log,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[
        str | Absent,
        Header(
            alias="Last-Event-ID",
            pattern=f"^$|{CURSOR}",
            description="Resume after this event; wins over `lastEventId` and `since`. Empty is the same as absent.",
        ),
    ] = None,
) -> Response:
    """What is appended, as it happens, from `Last-Event-ID` or `since` on (absent: from now).

    Log events are unnamed messages with their id. Control events are named: `gap` (what was missed), `caught_up`
    (from here on live), `closing` (the server ends the stream; resume). A comment comes every 15 s when nothing else
    does. `Accept: application/x-ndjson` gives one JSON object a line; control lines have a key `control`.
    """
    return Handover(partial(serve_stream, logs_of(request), streams_of(request), log, query, last_event_id))


# Behind the stream, whose path would else be an event's id.
@router.get("/events/{event_id}", summary="Look an event up", response_model=EventOut, responses=problems(404))
async def get_event(log: Log, event_id: str) -> Response:
    """One event by its id, e.g. 1763720000123-41."""
    event = await log.get(event_id)
    return Json(event.to_json())


@router.delete("/events", summary="Clear the log", response_model=Cleared)
async def clear_log(log: Log) -> Response:
    """Remove every event. The next one has the next offset; readers get to know what they missed."""
    return Json({"removed": await log.clear()})


@router.get("/activity", summary="Latest activity", response_model=ActivityOut)
async def read_activity(log: Log, query: Annotated[ActivityQuery, Query()]) -> Response:
    """Newest first, 50 unless `limit` says otherwise, each with a one-line `summary`.

    Pass `cursor` as `until` to go further back.
    """
    page = await log.page(order="desc", **dict(query))
    return Json(encode_activity(page))
