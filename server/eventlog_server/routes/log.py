"""The log itself, and the workspaces that have one."""

from typing import Annotated

from fastapi import Query, Request, Response

from ..answers import Json
from ..route import Log, logs_of, routes
from ..schemas.events import LogOut
from ..schemas.service import WorkspacesOut, WorkspacesQuery

router = routes("", "workspaces")


@router.get("/{workspace}/log", summary="State of the log", response_model=LogOut)
async def state(log: Log) -> Response:
    """Length, first and last id, epoch, how many were trimmed, bytes, retention."""
    info = await log.info()
    return Json(info.to_dict())


@router.get("", summary="List workspaces", response_model=WorkspacesOut)
async def workspaces(request: Request, query: Annotated[WorkspacesQuery, Query()]) -> Response:
    """Every workspace that has a log, the latest active first.

    Where there are more than `limit`, they come page by page, by name: pass `cursor` as `after` for the next page.
    """
    return Json(await logs_of(request).workspaces(query.after, query.limit))
