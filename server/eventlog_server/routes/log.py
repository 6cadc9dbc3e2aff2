"""The log itself, and the workspaces that have one."""

from fastapi import APIRouter, Request, Response

from ..answers import Json
from ..route import Log, Route, logs_of, problems
from ..schemas.events import LogOut
from ..schemas.service import WorkspacesOut

router = APIRouter(prefix="/v1/workspaces", route_class=Route, default_response_class=Json)


@router.get(
    "/{workspace}/log",
    tags=["log"],
    summary="State of the log",
    response_model=LogOut,
    response_description="The state.",
    responses=problems(400, 503),
)
async def state(log: Log) -> Response:
    """Length, first and last id, epoch, how many were trimmed, bytes, retention."""
    info = await log.info()
    return Json(info.to_dict())


@router.get(
    "",
    tags=["workspaces"],
    summary="List workspaces",
    response_model=WorkspacesOut,
    response_description="The workspaces.",
    responses=problems(400, 503),
)
async def workspaces(request: Request) -> Response:
    """Every workspace that has a log, the latest active first; at most 1000."""
    return Json({"workspaces": await logs_of(request).workspaces()})
