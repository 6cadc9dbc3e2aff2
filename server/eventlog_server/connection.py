"""One HTTP connection, as uvicorn's but guarded: what one client sends, or does not read, must not cost the others.

Heads have a size and a deadline. Of requests that are sent ahead of their answers few are parsed at a time: the others
wait as bytes, of which the process has a bound, and then in the client, for nothing more is read. An answer that is not
taken ends the connection. Offers to speak another protocol are passed over, and HTTP/1.0 gets no chunks.
"""

import asyncio
from asyncio import Transport
from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from eventlog.errors import EventLogError, InvalidInput, Overloaded

from .answers import ABORT
from .problems import MEDIA_TYPE, HeadTooLarge, problem_of
from .room import Room

HEAD_TIMEOUT_S = 10.0
HEAD_MAX_BYTES = 16 * 1024
HEAD_MAX_FIELDS = 100
# So much is parsed before it shows that requests wait: some ten as clients send them, a hundred of the shortest.
_PARSED_AT_ONCE = 2048
_TOO_LARGE = HeadTooLarge(HEAD_MAX_BYTES, HEAD_MAX_FIELDS)
_NOT_HTTP = InvalidInput("request", "is not HTTP/1.1 as it should be")


class Connections:
    """What all connections of a server share: how many there may be, what they hold, how long they may read nothing."""

    def __init__(self, most: int, send_timeout_s: float, room: Room) -> None:
        self.most = most
        self.send_timeout_s = send_timeout_s
        self.room = room


class _Reading(FlowControl):
    """Reading goes on only where nothing that was read waits."""

    waits = False

    def resume_reading(self) -> None:
        if not self.waits:
            super().resume_reading()


class GuardedConnection(HttpToolsProtocol):
    """A client that connects and says nothing, or half of a request head, is let go after `head_timeout_s`."""

    head_timeout_s = HEAD_TIMEOUT_S
    flow: _Reading
    _head_deadline: float | None = None
    # What was sent since a head began, or since the last piece of its body.
    _overhead = 0
    _in_work: RequestResponseCycle | None = None
    _waiting = b""
    _refusal: EventLogError | None = None
    _stalling: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A new connection owes a request head."""
        super().connection_made(transport)
        self.flow = _Reading(transport)
        self._shared: Connections = self.config.app.state.connections  # type: ignore[union-attr]
        self._head_deadline = self.loop.time() + self.head_timeout_s
        self._arm()
        if len(self.connections) > self._shared.most:
            self._refuse(Overloaded(f"{self._shared.most} connections are open already"))

    def connection_lost(self, exc: Exception | None) -> None:
        """What it held is free. Uvicorn tells only the request that was read last; another one may be in work."""
        self._wait(b"")
        self.resume_writing()
        if self._in_work is not None and not self._in_work.response_complete:
            self._in_work.disconnected = True
            self._in_work.message_event.set()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Let it go: nothing was heard for long, or no whole head."""
        super().timeout_keep_alive_handler()
        self._take_leave()

    def _take_leave(self) -> None:
        """A connection that closes stays for what the client has not read yet, but not for ever."""
        if self._stalling is None and self.transport.get_write_buffer_size():
            self._watch_reader(self.transport.get_write_buffer_size() + 1)

    def _arm(self) -> None:
        if self.timeout_keep_alive_task is None and self._head_deadline is not None:
            self.timeout_keep_alive_task = self.loop.call_at(self._head_deadline, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """The client does not read: it may for a while."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size() + 1)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None

    def _watch_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._stalling = self.loop.call_later(self._shared.send_timeout_s, self._watch_reader, left)
        else:
            self.transport.abort()

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Parse it, or keep it until what came before is answered."""
        if self._refusal is not None:
            return
        if self._waiting:
            self._wait(self._waiting + data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        for start in range(0, len(data), _PARSED_AT_ONCE):
            if self.pipeline:
                self._wait(data[start:])
                break
            self._feed(data[start : start + _PARSED_AT_ONCE])
            if self._refusal is not None or self.transport.is_closing():
                return
        if self.pipeline:
            self.flow.waits = True
            self.flow.pause_reading()
        elif self.cycle is None or self.cycle.response_complete:
            # Uvicorn's own timer stops with the first byte; this one goes on until the next head is whole.
            if self._head_deadline is None:
                self._head_deadline = self.loop.time() + self.head_timeout_s
            self._arm()

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
            if self._overhead > HEAD_MAX_BYTES:
                raise _TOO_LARGE
        except httptools.HttpParserUpgrade as offered:
            self._decline(data[offered.args[0] :])
        except (httptools.HttpParserError, HeadTooLarge) as error:
            too_large = isinstance(error, HeadTooLarge) or isinstance(error.__context__, HeadTooLarge)
            self._refuse(_TOO_LARGE if too_large else _NOT_HTTP)

    def _wait(self, data: bytes) -> None:
        try:
            self._shared.room.change(len(data) - len(self._waiting))
            self._waiting = data
        except Overloaded:
            self.transport.abort()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """The first byte of a request head."""
        super().on_message_begin()
        scope: Any = self.scope
        scope[ABORT] = self.transport.abort
        if self._head_deadline is None:
            self._head_deadline = self.loop.time() + self.head_timeout_s

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if len(self.headers) > HEAD_MAX_FIELDS:
            raise _TOO_LARGE
        if not self.url.startswith((b"/", b"*")):
            self._take_host(httptools.parse_url(self.url).host)
        # The scope has its fields; trailers, which nobody asked for, are none of them.
        self.headers = []
        self._overhead, self._head_deadline = 0, None
        super().on_headers_complete()

    def _take_host(self, host: bytes) -> None:
        """A target that names its host, as proxies are sent, goes before `Host`."""
        named = b"[%s]" % host if b":" in host else host
        others = [field for field in self.headers if field[0] != b"host"]
        self.headers[:] = [*others, *[(b"host", named)] * max(1, len(self.headers) - len(others))]

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._overhead = 0
        super().on_body(body)

    def _should_upgrade(self) -> bool:
        """Asked where an upgrade is offered: the request as it was sent is not carried out, see `_decline`."""
        return True

    def _decline(self, rest: bytes) -> None:
        """The parser takes what follows an offer for the other protocol: have it read the request without the offer."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(_NOT_HTTP)
            return
        fields = [b"%s: %s\r\n" % field for field in self.scope["headers"] if field[0] != b"upgrade"]
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self._overhead = 0
        self._feed(b"".join((line, *fields, b"\r\n", rest)))

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._in_work = cycle
        if cycle.scope["http_version"] != "1.1":
            app = partial(_without_chunks, cycle, app)
        elif cycle.waiting_for_100_continue:
            app = partial(_without_body, cycle, app)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what waits: the next request, or what was not parsed yet."""
        has_next = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            self._take_leave()
        elif self._refusal is not None:
            if not has_next:
                self._say(self._refusal)
        elif not self.pipeline and self.flow.waits:
            self.flow.waits = False
            if data := self._waiting:
                self._wait(b"")
                self._parse(data)
            self.flow.resume_reading()

    def _refuse(self, error: EventLogError) -> None:
        """Read no more; answer so and close, once what was asked for before is answered."""
        self._refusal = error
        self.flow.waits = True
        self.flow.pause_reading()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._say(error)
        elif cycle.more_body and not self.pipeline:
            # It is wrong within this body, which must not be taken for whole.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
            else:
                self._say(error)
        elif cycle.more_body:
            self.pipeline.popleft()

    def _say(self, error: EventLogError) -> None:
        problem = problem_of(error)
        body = problem.encode()
        fields = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)), *problem.headers]
        head = [b"%s: %s\r\n" % field for field in fields if field[0] != b"connection"]
        self.transport.write(b"".join((STATUS_LINE[problem.status], *head, b"connection: close\r\n\r\n", body)))
        self.transport.close()
        self._take_leave()


async def _without_body(cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """A client that is answered before it gets `100 Continue` may still send its body, or not: close behind the answer.

    Else what it sends next on this connection could be taken for that body.
    """

    async def send_last(message: Message) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    await app(scope, receive, send_last)


async def _without_chunks(
    cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """HTTP/1.0 knows neither chunks nor `100 Continue`: an answer of unknown length ends with the connection."""
    cycle.waiting_for_100_continue = False
    of_known_length = False

    async def send_plain(message: Message) -> None:
        nonlocal of_known_length
        if message["type"] == "http.response.start":
            of_known_length = any(name == b"content-length" for name, _ in message["headers"])
            if not of_known_length:
                cycle.chunked_encoding = False
        elif not of_known_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    await app(scope, receive, send_plain)
