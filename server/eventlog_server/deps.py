"""What routes share: the state of the app, and answers that are ASGI applications or bytes that are ready."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Path, Request, Response

from .logs import Logs
from .parsing import Receive, Scope, Send
from .schemas import NAME, RUN, WORKSPACE
from .streaming import Streams

Workspace = Annotated[str, Path(pattern=WORKSPACE, description="The tenant whose log it is.")]
Action = Annotated[str, Path(pattern=NAME, description="What is competed for.")]
RunId = Annotated[str, Path(pattern=RUN, description="The run.")]
Execution = Annotated[str, Path(pattern=NAME, description="Who competes.")]


def logs_of(request: Request) -> Logs:
    """The logs of the app that serves `request`."""
    logs: Logs = request.app.state.logs
    return logs


def streams_of(request: Request) -> Streams:
    """The open streams of the app that serves `request`."""
    streams: Streams = request.app.state.streams
    return streams


class Json(Response):
    """JSON that is encoded already."""

    media_type = "application/json"


class Handover(Response):
    """Leaves the answer to an ASGI application."""

    def __init__(self, answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._answer(scope, receive, send)
