"""One HTTP connection, as uvicorn's but guarded: request heads have a deadline, and stalled clients can be dropped."""

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from eventlog.errors import InvalidInput

from .answers import ABORT
from .problems import MEDIA_TYPE, problem_of

HEAD_TIMEOUT_S = 15.0


class GuardedConnection(HttpToolsProtocol):
    """A client that connects and says nothing, or half of a request head, is let go after `head_timeout_s`."""

    head_timeout_s = HEAD_TIMEOUT_S
    _head_deadline: float | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A new connection owes a request head."""
        super().connection_made(transport)
        self._head_deadline = self.loop.time() + self.head_timeout_s
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Uvicorn's own timer stops with the first byte; this one goes on until the head is whole."""
        super().data_received(data)
        if self._head_deadline is not None and (self.cycle is None or self.cycle.response_complete):
            self._arm()

    def _arm(self) -> None:
        if self.timeout_keep_alive_task is None and self._head_deadline is not None:
            self.timeout_keep_alive_task = self.loop.call_at(self._head_deadline, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """The first byte of a request head."""
        super().on_message_begin()
        scope: Any = self.scope
        scope[ABORT] = self.transport.abort
        if self._head_deadline is None:
            self._head_deadline = self.loop.time() + self.head_timeout_s

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_deadline = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered with a problem too."""
        body = problem_of(InvalidInput("request", "is not HTTP/1.1 as it should be")).encode()
        head = (
            STATUS_LINE[400],
            b"content-type: %s\r\n" % MEDIA_TYPE.encode(),
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
        )
        self.transport.write(b"".join((*head, body)))
        self.transport.close()
