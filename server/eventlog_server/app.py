"""The app: routes, problems and documentation put together, over the logs of one Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from eventlog import __version__
from eventlog.errors import EventLogError

from .answers import ProblemAnswer, only_head
from .completions import Completions
from .hosts import Hosts
from .logs import Logs
from .problems import MEDIA_TYPE
from .requests import Disconnected, check_path, complaint
from .room import Room
from .route import reference
from .routes import actions, append, events, health, log, policies, runs, slots
from .schemas.base import Problem
from .schemas.events import EventIn
from .settings import ServerSettings
from .streaming import Streams

_ROUTERS = [one.router for one in (append, events, runs, log, slots, actions, policies, health)]
_DESCRIPTION = (
    "A shared, bounded event log for the processes of a workspace, and slots that they queue for, first come, first "
    "served. Every error is a problem (RFC 9457)."
)
_NOWHERE = 1 << 16
_BEFORE_WORKSPACE, _BEHIND_WORKSPACE = "/v1/workspaces/", "/events"


class App(FastAPI):
    """Calls the route of an append itself: what the framework does around a route costs more than the append."""

    hosts: Hosts
    room: Room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. A path means the same with a slash behind it: redirects would lead out of a proxy's TLS."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            self.hosts.check(scope)
            check_path(scope)
        except EventLogError as error:
            await ProblemAnswer(error)(scope, receive, send)
            return
        path: str = scope["path"]
        if path.endswith("/") and path != "/":
            scope["path"] = path = path[:-1]
        if scope["method"] == "POST" and path.startswith(_BEFORE_WORKSPACE) and path.endswith(_BEHIND_WORKSPACE):
            workspace = path[len(_BEFORE_WORKSPACE) : -len(_BEHIND_WORKSPACE)]
            if "/" not in workspace:
                await self._append(workspace, scope, receive, send)
                return
        elif scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, only_head(send)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.room.leave(scope)

    async def _append(self, workspace: str, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        try:
            answer = await append.append_event(Request(scope, receive), workspace)
            await answer(scope, receive, send)
        except Disconnected:
            return
        except Exception as error:
            # `problem_of` foresees every failure, or logs it and answers with an internal error.
            await ProblemAnswer(error)(scope, receive, send)
        finally:
            self.room.leave(scope)


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

    app = App(
        title="eventlog",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        # What is read strictly is documented as it is sent, what is answered too: nothing is there by default.
        separate_input_output_schemas=False,
        # Clients that are generated have a method of this name.
        generate_unique_id_function=lambda route: route.name,
    )
    app.hosts, app.room = Hosts(settings.host, settings.allowed_hosts), logs.room
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
        error = complaint(error.errors())
    elif isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, headers={"Allow": ", ".join(_methods(request))})
    return ProblemAnswer(error)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client is gone, and so nobody gets this answer."""
    return Response(status_code=400)


def _methods(request: Request) -> list[str]:
    """All that the path takes; the framework looks no further than the first route that has the path."""
    routes = [route for router in (request.app, *_ROUTERS) for route in router.routes if isinstance(route, Route)]
    found = {m for route in routes if route.matches(request.scope)[0] is not Match.NONE for m in route.methods or ()}
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _document(app: FastAPI) -> None:
    generate = app.openapi
    template = reference(Problem)["$ref"].replace(Problem.__name__, "{model}")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            found = document.setdefault("components", {}).setdefault("schemas", {})
            # Those that routes only refer to.
            models = [(model, "validation") for model in (Problem, EventIn)]
            found.update(models_json_schema(models, ref_template=template)[1]["$defs"])  # type: ignore[arg-type]
            for name in ("HTTPValidationError", "ValidationError"):
                found.pop(name, None)
            operations = [(path, operation) for path, ways in document["paths"].items() for operation in ways.values()]
            for path, operation in operations:
                _finish(operation["responses"], found)
                # Generated clients take arguments in this order.
                operation.get("parameters", []).sort(key=lambda one: path.find(f"{{{one['name']}}}") % _NOWHERE)
            for schema in found.values():
                for field in schema.get("properties", {}).values():
                    _say_default(field)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _finish(responses: dict[str, Any], schemas: dict[str, Any]) -> None:
    """An answer without a description has that of its schema. The framework's own 422 goes: errors are problems."""
    if MEDIA_TYPE not in responses.get("422", {}).get("content", {}):
        responses.pop("422", None)
    for answer in responses.values():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if answer["description"] == "Successful Response" and "$ref" in schema:
            answer["description"] = schemas[schema["$ref"].rpartition("/")[2]].get("description", "Done.")


def _say_default(field: dict[str, Any]) -> None:
    """In words: from a default, generators make a field that must be sent, or a value that an answer never had."""
    default = field.pop("default", None)
    if default:
        field["description"] = f"{field.get('description', '')} Default: {default}.".lstrip()
