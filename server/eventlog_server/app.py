"""The app: routes, problems and documentation put together, over the logs of one Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from eventlog import __version__
from eventlog.errors import EventLogError, InvalidInput

from . import schemas
from .completions import Completions
from .hot import App
from .logs import Logs
from .parsing import Disconnected
from .problems import MEDIA_TYPE, problem_of
from .routes import actions, activity, events, health, log, policies, runs, slots, stream, telemetry, workspaces
from .settings import ServerSettings
from .streaming import Streams

# The stream comes first: its path would else be an event's id.
_ROUTERS = (
    *(stream.router, events.router, activity.router, runs.router, telemetry.router, log.router),
    *(slots.router, actions.router, policies.router, workspaces.router, health.router),
)
_DESCRIPTION = (
    "A shared, bounded event log for the processes of a workspace, and slots that they queue for, first come, first "
    "served. Every error is a problem (RFC 9457)."
)


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The ASGI app; without `settings` they come from `EVENTLOG_*`. Its lifespan opens and closes what it needs."""
    settings = settings or ServerSettings.load()
    logs = Logs(settings)
    completions = Completions(logs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await logs.open()
        if settings.completions:
            completions.open()
        try:
            yield
        finally:
            await completions.close()
            await logs.close()

    app = App(title="eventlog", version=__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None)
    app.state.logs = logs
    app.state.completions = completions
    app.state.streams = Streams(settings.streams_max)
    for kind in (EventLogError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer_problem)
    app.add_exception_handler(Disconnected, _answer_nobody)
    for router in _ROUTERS:
        app.include_router(router)
    _document(app)
    return app


async def _answer_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = _invalid(error)
    elif isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, headers={"Allow": ", ".join(_methods(request))})
    problem = problem_of(error)
    answer = Response(problem.encode(), status_code=problem.status, media_type=MEDIA_TYPE)
    answer.raw_headers += problem.headers
    return answer


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client is gone; what is answered goes nowhere."""
    return Response(status_code=400)


def _invalid(error: RequestValidationError) -> InvalidInput:
    """What the framework checks is the path alone."""
    first = error.errors()[0]
    return InvalidInput(str(first["loc"][-1]), f"{str(first['input'])[:80]!r}: {first['msg']}")


def _methods(request: Request) -> list[str]:
    """All that the path takes; the framework looks no further than the first route that has the path."""
    routes = [route for router in (request.app, *_ROUTERS) for route in router.routes if isinstance(route, Route)]
    return sorted(
        {m for route in routes if route.matches(request.scope)[0] is not Match.NONE for m in route.methods or ()}
    )


def _document(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            found = document.setdefault("components", {}).setdefault("schemas", {})
            found.update(schemas.components())
            for name in ("HTTPValidationError", "ValidationError"):
                found.pop(name, None)
            for path in document["paths"].values():
                for operation in path.values():
                    # The framework's own; a route that refuses content has described its problem.
                    if MEDIA_TYPE not in operation["responses"].get("422", {}).get("content", {}):
                        operation["responses"].pop("422", None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
