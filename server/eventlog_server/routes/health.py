"""Health: whether the process lives, and whether it can do its work."""

import orjson
from fastapi import APIRouter, Request, Response

from eventlog import __version__

from .. import schemas
from ..deps import Json, logs_of

router = APIRouter(tags=["health"])

_NOT_SHARED = "The backend is {}: nothing is kept on disk or shared with other processes."


@router.get(
    "/healthz",
    summary="Is the process alive?",
    response_class=Response,
    responses={200: schemas.answer("It is.", schemas.Alive)},
)
async def healthz() -> Response:
    """Always 200: it says nothing of Redis."""
    return Json(orjson.dumps({"ok": True, "version": __version__}))


@router.get(
    "/readyz",
    summary="Can it append and read?",
    response_class=Response,
    responses={200: schemas.answer("It can.", schemas.Ready), **schemas.problems(503)},
)
async def readyz(request: Request) -> Response:
    """200 with what Redis keeps on disk, and warnings about what may cost events; 503 while Redis does not answer."""
    logs = logs_of(request)
    redis = await logs.redis_info()
    warnings = [_NOT_SHARED.format(logs.backend)] if redis is None else redis.warnings()
    document = {
        "ready": True,
        "backend": logs.backend,
        "redis": None if redis is None else redis.to_dict(),
        "warnings": warnings,
    }
    return Json(orjson.dumps(document))
