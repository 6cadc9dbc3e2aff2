"""The log itself, and the workspaces that have one."""

from typing import Annotated

from fastapi import Query, Request, Response

from eventlog.model.log_values import LogInfo

from ..answers import Json
from ..route import Log, logs_of, problems, routes
from ..schemas.events import LogOut, RetentionIn, RetentionOut
from ..schemas.service import WorkspacesOut, WorkspacesQuery

router = routes("", "workspaces")


@router.get("/{workspace}/log", summary="State of the log", response_model=LogOut)
async def get_log(log: Log) -> Response:
    """Length, first and last id, epoch, how many were trimmed, bytes, retention."""
    info = await log.info()
    return Json(info.to_dict())


@router.get("/{workspace}/log/retention", summary="What a log keeps", response_model=RetentionOut)
async def retention(log: Log) -> Response:
    """How long and how many events are kept."""
    return _retention(await log.info())


@router.put(
    "/{workspace}/log/retention",
    summary="Change what a log keeps",
    response_model=RetentionOut,
    responses=problems(408, 413, 415),
)
async def set_retention(log: Log, asked: RetentionIn) -> Response:
    """What is left out stays as it is. The settings of the server are for logs that are new."""
    return _retention(await log.set_retention(**asked.given()))


def _retention(info: LogInfo) -> Response:
    return Json(info.to_dict()["retention"])


@router.get("", summary="List workspaces", response_model=WorkspacesOut)
async def list_workspaces(request: Request, query: Annotated[WorkspacesQuery, Query()]) -> Response:
    """Every workspace that has a log, the latest active first.

    Where there are more than `limit`, they come page by page, by name: pass `cursor` as `after` for the next page.
    """
    return Json(await logs_of(request).workspaces(query.after, query.limit))
