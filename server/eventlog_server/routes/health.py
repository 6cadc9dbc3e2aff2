"""Health: whether the process lives, and whether it can do its work."""

from fastapi import APIRouter, Request, Response

from eventlog import __version__

from ..answers import Json
from ..route import logs_of, problems
from ..schemas.service import Alive, Ready

# Not of class `Route`: probes may add parameters as they like.
router = APIRouter(tags=["health"], default_response_class=Json)

_NOT_SHARED = "The backend is {}: nothing is kept on disk or shared with other processes."


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
    """200 with what Redis keeps on disk, and warnings about what may cost events; 503 while Redis does not answer."""
    logs = logs_of(request)
    redis = await logs.in_time(logs.redis_info(), writes=False)
    warnings = [_NOT_SHARED.format(logs.backend)] if redis is None else redis.warnings()
    document = None if redis is None else redis.to_dict()
    return Json({"ready": True, "backend": logs.backend, "redis": document, "warnings": warnings})
