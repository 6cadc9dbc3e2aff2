"""Answers: JSON that is encoded already, problems, and what is left to an ASGI application."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .problems import MEDIA_TYPE, Headers, problem_of

ABORT = "eventlog.abort"
"""Where `connection.py` leaves, in a request's scope, the function that drops its connection at once."""


_JSON = b"application/json"


class Json(JSONResponse):
    """A JSON document, encoded already or not. It sets its few headers itself: the framework's way costs more."""

    def __init__(
        self, content: Any, status_code: int = 200, headers: Headers | None = None, media_type: str | None = None
    ) -> None:
        self.status_code = status_code
        self.body = content if type(content) is bytes else orjson.dumps(content)
        self.background = None
        kind = _JSON if media_type is None else media_type.encode()
        self.raw_headers = [(b"content-type", kind), (b"content-length", b"%d" % len(self.body))]
        if headers:
            self.raw_headers += headers


class ProblemAnswer(Json):
    """The problem that an error is over HTTP."""

    def __init__(self, error: BaseException) -> None:
        problem = problem_of(error)
        super().__init__(problem.document, problem.status, problem.headers, MEDIA_TYPE)


class Handover(Response):
    """Leaves the answer to an ASGI application."""

    def __init__(self, answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._answer(scope, receive, send)


def only_head(send: Send) -> Send:
    """Sends the head of an answer and nothing of its body. An answer without end has its end there."""
    is_over = False

    async def send_head(message: Message) -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


async def drop_connection(scope: Scope, receive: Receive) -> None:
    """Get rid of a client that reads nothing: what is buffered for it would be kept for ever."""
    abort = scope.get(ABORT)
    if abort is None:
        raise ConnectionAbortedError("the client does not read its answer")
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass
