"""Sending whole answers and problems straight through ASGI."""

from .parsing import Send
from .problems import MEDIA_TYPE, Headers, Problem

JSON_TYPE = b"application/json"


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
