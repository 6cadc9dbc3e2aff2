"""The stream of events as they are appended."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from ..answers import Handover
from ..ndjson import NDJSON
from ..route import Log, Route, logs_of, problems, streams_of
from ..schemas.base import CURSOR, Absent
from ..schemas.events import StreamQuery
from ..streaming import serve_stream

router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["events"], route_class=Route)


@router.get(
    "/events/stream",
    summary="Follow",
    response_class=Response,
    response_description="Server-Sent Events, or lines; it has no end of its own.",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}}},
        **problems(400, 503),
    },
)
async def follow(
    request: Request,
    log: Log,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[
        str | Absent,
        Header(
            alias="Last-Event-ID",
            pattern=f"^$|{CURSOR}",
            description="Resume after this event; wins over `since`. Empty is the same as absent.",
        ),
    ] = None,
) -> Response:
    """What is appended, as it happens, from `Last-Event-ID` or `since` on (absent: from now).

    Log events are unnamed messages with their id. Control events are named: `gap` (what was missed), `caught_up`
    (from here on live), `closing` (the server ends the stream; resume). A comment comes every 15 s when nothing else
    does. `Accept: application/x-ndjson` gives one JSON object a line; control lines have a key `control`.
    """
    return Handover(partial(serve_stream, logs_of(request), streams_of(request), log, query, last_event_id))
