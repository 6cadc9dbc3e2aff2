"""The way of an append past the framework: an app that takes `POST …/events` itself.

The framework costs more than the append. What a request means is decided in `ingest.py` and `ndjson.py`, for this
way and the framework's alike.
"""

from fastapi import FastAPI

from .answers import send_problem, send_whole
from .ingest import NDJSON, ingest, read_head
from .logs import Logs
from .ndjson import ingest_lines
from .parsing import Disconnected, Receive, Scope, Send
from .problems import problem_of

PREFIX = "/v1/workspaces/"
SUFFIX = "/events"


class App(FastAPI):
    """Appends go straight to `handle_append`, all else through the framework. `state.logs` are its logs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            if path.startswith(PREFIX) and path.endswith(SUFFIX):
                workspace = path[len(PREFIX) : -len(SUFFIX)]
                if "/" not in workspace:
                    await handle_append(self.state.logs, workspace, scope, receive, send)
                    return
        await super().__call__(scope, receive, send)


async def handle_append(logs: Logs, workspace: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `POST /v1/workspaces/{workspace}/events`, whatever comes of it."""
    try:
        asked = read_head(scope)
        if asked.media_type == NDJSON:
            await ingest_lines(logs, workspace, asked, scope, receive, send)
            return
        answer = await ingest(logs, workspace, scope, receive, asked)
    except Disconnected:
        return
    except Exception as error:
        # Every failure is foreseen in `problem_of`, or logged and told as an internal error there.
        await send_problem(send, problem_of(error))
    else:
        await send_whole(send, answer.status, answer.body)
