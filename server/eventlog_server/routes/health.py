"""Health: whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request, Response

from eventlog import __version__

from ..answers import Json
from ..route import logs_of, problems
from ..schemas.service import Alive, Ready

# Not of class `Route`: probes may add parameters as they like.
router = APIRouter(tags=["health"], default_response_class=Json)


@router.get("/healthz", summary="Is the process alive?", response_model=Alive, response_description="It is.")
async def healthz() -> Response:
    """Always 200: it says nothing of Redis."""
    return Json({"ok": True, "version": __version__})


@router.get(
    "/readyz",
    summary="Can it append and read?",
    response_model=Ready,
    response_description="It can.",
    responses=problems(503),
)
async def readyz(request: Request) -> Response:
    """200 if an append would be taken: what Redis keeps on disk, and warnings. 503 with the reason if it would not."""
    logs = logs_of(request)
    redis, warnings = await logs.in_time(logs.readiness(), writes=False)
    document = None if redis is None else redis.to_dict()
    return Json({"ready": True, "backend": logs.backend, "redis": document, "warnings": warnings})
