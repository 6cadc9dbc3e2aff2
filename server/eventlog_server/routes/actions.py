"""Actions: their queues as operators see them, a queue's own limit, and the emergency reset."""

from typing import Annotated

from fastapi import Query, Response

from ..answers import Json
from ..route import Action, Slots, problems, routes
from ..schemas.slots import (
    ActionsOut,
    ActionsQuery,
    GroupQuery,
    LimitIn,
    LimitOut,
    QueuesCleared,
    QueueStatsOut,
    StatsQuery,
)

router = routes("/{workspace}/actions", "slots")


@router.get("", summary="All queues", response_model=ActionsOut)
async def list_actions(slots: Slots, query: Annotated[ActionsQuery, Query()]) -> Response:
    """The queues that were used within the last week, by name, 100 unless `limit` says otherwise.

    Pass `cursor` as `after` for the next page.
    """
    page = await slots.queues_page(**dict(query))
    return Json(page.to_dict())


@router.get("/{ref}/queue-stats", summary="One queue", response_model=QueueStatsOut)
async def get_queue_stats(slots: Slots, ref: Action, query: Annotated[StatsQuery, Query()]) -> Response:
    """How many hold and wait, and their names; one that was never used is empty."""
    stats = await slots.stats(ref, group_key=query.group_key, listed=query.listed)
    return Json(stats.to_dict())


@router.put(
    "/{ref}/limit", summary="Set a queue's own limit", response_model=LimitOut, responses=problems(408, 413, 415)
)
async def set_limit(slots: Slots, ref: Action, query: Annotated[GroupQuery, Query()], asked: LimitIn) -> Response:
    """Above all policies and callers. Raised, it hands slots out at once; lowered, it takes none away."""
    version = await slots.set_limit(ref, asked.max_concurrent, group_key=query.group_key)
    return _limit(ref, query, asked.max_concurrent, version)


@router.delete("/{ref}/limit", summary="Remove a queue's own limit", response_model=LimitOut)
async def delete_limit(slots: Slots, ref: Action, query: Annotated[GroupQuery, Query()]) -> Response:
    """From now on policies and callers decide. Idempotent."""
    version = await slots.set_limit(ref, None, group_key=query.group_key)
    return _limit(ref, query, None, version)


def _limit(ref: str, query: GroupQuery, limit: int | None, version: int) -> Response:
    return Json({"action": ref, "group_key": query.group_key, "max_concurrent": limit, "version": version})


@router.delete("/{ref}/queue", summary="Emergency reset of one queue", response_model=QueuesCleared)
async def clear_queue(slots: Slots, ref: Action, query: Annotated[GroupQuery, Query()]) -> Response:
    """Take everybody out: holders lose their lease, waiters their place. Limits, counters and fences stay."""
    cleared = await slots.clear(ref, group_key=query.group_key)
    return Json(cleared._asdict())


@router.delete("", summary="Emergency reset of all queues", response_model=QueuesCleared)
async def clear_queues(slots: Slots) -> Response:
    """Take everybody out of every queue."""
    cleared = await slots.clear_all()
    return Json(cleared._asdict())
