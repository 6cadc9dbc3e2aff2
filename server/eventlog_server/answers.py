"""Sending whole answers and problems straight through ASGI."""

from .parsing import Receive, Scope, Send
from .problems import MEDIA_TYPE, Headers, Problem

JSON_TYPE = b"application/json"
ABORT = "eventlog.abort"
"""Where `connection.py` leaves, in a request's scope, the function that drops its connection at once."""


async def drop_connection(scope: Scope, receive: Receive) -> None:
    """Get rid of a client that reads nothing: what is buffered for it would be kept for ever."""
    abort = scope.get(ABORT)
    if abort is None:
        raise ConnectionAbortedError("the client does not read its answer")
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_whole(
    send: Send, status: int, body: bytes, content_type: bytes = JSON_TYPE, headers: Headers | None = None
) -> None:
    """Send a body that is complete."""
    fields = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if headers:
        fields += headers
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem as its document."""
    await send_whole(send, problem.status, problem.encode(), MEDIA_TYPE.encode(), problem.headers)
