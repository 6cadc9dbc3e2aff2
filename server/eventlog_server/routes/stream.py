"""The stream of events as they are appended."""

from functools import partial

from fastapi import APIRouter, Request, Response

from .. import schemas
from ..deps import Handover, Workspace, logs_of, streams_of
from ..ingest import NDJSON
from ..parsing import STREAM_PARAMETERS
from ..streaming import serve_stream

router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["events"])


@router.get(
    "/events/stream",
    summary="Follow",
    response_class=Response,
    responses={
        200: {
            "description": "Server-Sent Events, or lines; it has no end of its own.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}},
        },
        **schemas.problems(400, 503),
    },
    openapi_extra={
        "parameters": schemas.parameters(
            *STREAM_PARAMETERS, headers={"Last-Event-ID": "Resume after this event; wins over `since`."}
        )
    },
)
async def follow(request: Request, workspace: Workspace) -> Response:
    """What is appended, as it happens, from `Last-Event-ID` or `since` on (absent: from now).

    Log events are unnamed messages with their id. Control events are named: `gap` (what was missed), `caught_up`
    (from here on live), `closing` (the server ends the stream; resume). A comment comes every 15 s when nothing else
    does. `Accept: application/x-ndjson` gives one JSON object a line; control lines have a key `control`.
    """
    return Handover(partial(serve_stream, logs_of(request), streams_of(request), workspace))
