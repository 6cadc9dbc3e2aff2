"""The log itself: how much it holds, and for how long."""

import orjson
from fastapi import APIRouter, Request, Response

from .. import schemas
from ..deps import Json, Workspace, logs_of
from ..parsing import no_query

router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["log"])


@router.get(
    "/log",
    summary="State of the log",
    response_class=Response,
    responses={200: schemas.answer("The state.", schemas.LogOut), **schemas.problems(400, 503)},
)
async def log(request: Request, workspace: Workspace) -> Response:
    """Length, first and last id, epoch, how many were trimmed, bytes, retention."""
    no_query(request.scope["query_string"])
    info = await logs_of(request).run(workspace, lambda log: log.core.info())
    return Json(orjson.dumps(info.to_dict()))
