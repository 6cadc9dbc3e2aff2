"""The workspaces that have a log."""

import orjson
from fastapi import APIRouter, Request, Response

from .. import schemas
from ..deps import Json, logs_of
from ..parsing import no_query

router = APIRouter(prefix="/v1", tags=["workspaces"])


@router.get(
    "/workspaces",
    summary="List workspaces",
    response_class=Response,
    responses={200: schemas.answer("The workspaces.", schemas.WorkspacesOut), **schemas.problems(400, 503)},
)
async def workspaces(request: Request) -> Response:
    """Every workspace that has a log, the latest active first; at most 1000."""
    no_query(request.scope["query_string"])
    return Json(orjson.dumps({"workspaces": await logs_of(request).workspaces()}))
