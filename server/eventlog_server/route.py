"""What all routes have in common: strict requests, answers in time, the workspace's log and slots, documentation."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from eventlog.errors import BackendUnavailable, InvalidInput
from eventlog.log.awaited import AsyncEventLog
from eventlog.model.ids import WORKSPACE_PATTERN
from eventlog.slots.awaited import AsyncSlotQueue

from .answers import Json
from .deadlines import Limit
from .logs import Logs
from .problems import MEDIA_TYPE
from .requests import JSON, header, query_pairs, receive_json
from .schemas.base import NAME, RUN, Problem
from .streaming import Streams

_LIMIT = "eventlog.limit"

Workspace = Annotated[str, Path(pattern=f"^{WORKSPACE_PATTERN}$", description="The tenant whose log it is.")]
Action = Annotated[str, Path(pattern=NAME, description="What is competed for.")]
RunId = Annotated[str, Path(pattern=RUN, description="The run.")]
Execution = Annotated[str, Path(pattern=NAME, description="The execution that competes.")]


def logs_of(request: Request) -> Logs:
    """The logs of the app that serves `request`."""
    logs: Logs = request.app.state.logs
    return logs


def streams_of(request: Request) -> Streams:
    """The open streams of the app that serves `request`."""
    streams: Streams = request.app.state.streams
    return streams


async def _log(request: Request, workspace: Workspace) -> AsyncEventLog:
    return logs_of(request).of(workspace)


async def _slots(request: Request, workspace: Workspace) -> AsyncSlotQueue:
    return logs_of(request).slots(workspace)


Log = Annotated[AsyncEventLog, Depends(_log)]
Slots = Annotated[AsyncSlotQueue, Depends(_slots)]


class Route(APIRoute):
    """A route whose parameters and body are read strictly before FastAPI sees them, and whose answer has a deadline.

    Refused are parameters that the route does not declare, repeated ones, and bodies that are no strict JSON.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()
        takes_query = bool(_declared(self.dependant, "query_params"))
        headers = [field.alias.lower().encode() for field in _declared(self.dependant, "header_params")]
        takes_body = self.body_field is not None

        async def answer(request: Request) -> Response:
            logs = logs_of(request)
            pairs = query_pairs(request.scope["query_string"])
            if pairs and not takes_query:
                raise InvalidInput(pairs[0][0][:64] or "query", "unknown query parameter; there are none here")
            for name in headers:
                header(request.scope, name)
            if takes_body:
                request = _ParsedRequest(request, await receive_json(logs, request.scope, request.receive))
            limit = logs.deadlines.within(logs.answer_s)
            request.scope[_LIMIT] = limit
            try:
                with limit:
                    return await handle(request)
            except TimeoutError:
                unknown = request.method != "GET"
                raise BackendUnavailable(f"no answer within {limit.seconds:g} s", outcome_unknown=unknown) from None

        return answer


def allow_wait(request: Request, wait_s: float) -> None:
    """The answer to `request` may wait for so long; its deadline begins anew behind that."""
    limit: Limit = request.scope[_LIMIT]
    limit.restart(logs_of(request).answer_s + wait_s)


def _declared(dependant: Dependant, kind: str) -> list[Any]:
    within = [field for inner in dependant.dependencies for field in _declared(inner, kind)]
    return [*getattr(dependant, kind), *within]


class _ParsedRequest(Request):
    """A request whose JSON body was read already: FastAPI would read it without bounds, and not strictly."""

    def __init__(self, request: Request, data: Any) -> None:
        headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
        scope = {**request.scope, "headers": [(b"content-type", JSON.encode()), *headers]}
        super().__init__(scope, request.receive)
        self._data = data

    async def body(self) -> bytes:
        """Not empty, so that FastAPI asks for its content."""
        return b"{}"

    async def json(self) -> Any:
        """The content."""
        return self._data


def routes(path: str, tag: str) -> APIRouter:
    """A router for routes of this module's class, below `path` of a workspace."""
    return APIRouter(
        prefix=f"/v1/workspaces{path}",
        tags=[tag],
        route_class=Route,
        default_response_class=Json,
        responses=problems(400, 503),
    )


_PROBLEMS = {
    400: "What was sent is wrong: `field` says where. Nothing was changed.",
    404: "It is not, or no longer, there.",
    408: "The body did not arrive in time.",
    409: "It is not as was expected (`CONFLICT`), or the slot is not held any more (`LEASE_LOST`).",
    413: "A body, a batch or a payload is over its limit. Nothing was changed.",
    415: "The type of the body is not taken.",
    422: "The payload carries hidden chain-of-thought: `field` says where. Nothing was appended.",
    429: "No slot, and no place: the line is full, its time-out ran out, or a rate or a quota stands in the way.",
    503: "Redis does not answer, or the server closes. Try again after `Retry-After` seconds.",
}
Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """The responses that are problems, for a route's documentation."""
    content = {MEDIA_TYPE: {"schema": reference(Problem)}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a model's schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}
