"""Open streams: from the hub's follower to the client's socket, with heartbeats, deadlines and an orderly end."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from starlette.types import Receive, Scope, Send

from eventlog.errors import Overloaded
from eventlog.log.awaited import AsyncEventLog
from eventlog.model.events import Event
from eventlog.model.filters import EventFilter
from eventlog.model.ids import parse_cursor
from eventlog.tail.hub import Closing, HubFollower

from .answers import ABORT, drop_connection
from .logs import Logs
from .requests import accepts
from .schemas.events import StreamQuery
from .sse import FrameCache, Framing, Lines, ServerSentEvents, encode

Abort = Callable[[], None]


class Streams:
    """All open streams and long polls of a server, and the frames they share. `closing` is set when they are to end."""

    def __init__(self, most: int) -> None:
        self.cache = FrameCache()
        self._most = most
        self._open: dict[int, Abort] = {}
        self._numbers = 0
        self.closing = asyncio.Event()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextlib.contextmanager
    def admit(self, scope: Scope) -> Iterator[None]:
        """Count a stream in while it lasts; raises `Overloaded` if there are too many."""
        if len(self._open) >= self._most:
            raise Overloaded(f"{len(self._open)} streams and long polls are open already")
        self._numbers += 1
        number = self._numbers
        self._open[number] = scope.get(ABORT) or _no_abort
        try:
            yield
        finally:
            # What a closing server has sent may still be on its way to a client that does not read.
            if not self.closing.is_set():
                del self._open[number]

    def begin_closing(self) -> None:
        """From now on streams that end are still known to `abort`."""
        self.closing.set()

    def abort(self) -> None:
        """Drop the connections of all streams at once."""
        for abort in self._open.values():
            abort()


def _no_abort() -> None:
    """On a server that is not ours, a stalled client is the server's to deal with."""


async def serve_stream(
    logs: Logs,
    streams: Streams,
    log: AsyncEventLog,
    query: StreamQuery,
    last_event_id: str | None,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Answer `GET …/events/stream`. Raises the library's errors only before the answer has begun."""
    # A browser that has seen no id yet sends none; some clients send an empty one.
    given = (("Last-Event-ID", last_event_id), ("lastEventId", query.lastEventId), ("since", query.since))
    since = next((parse_cursor(value, name) for name, value in given if value), None)
    framing: Framing = Lines() if accepts(scope, Lines.media_type) else ServerSentEvents()
    with streams.admit(scope):
        following = logs.hub.follow(
            log.workspace,
            log.core.backend,
            since,
            EventFilter.of(**query.filters()),
            epoch=query.epoch,
            until_terminal=query.until_terminal,
        )
        follower = await logs.in_time(following, writes=False)
        try:
            await _Stream(logs, streams.cache, framing, follower, scope, receive, send).run()
        finally:
            follower.close()


class _Stream:
    def __init__(
        self,
        logs: Logs,
        cache: FrameCache,
        framing: Framing,
        follower: HubFollower,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._settings = logs.settings
        self._cache = cache
        self._framing = framing
        self._follower = follower
        self._scope = scope
        self._receive = receive
        self._send = send
        self._gone = False

    async def run(self) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            await self._begin()
            await self._relay()
        except TimeoutError:
            await drop_connection(self._scope, self._receive)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._follower.interrupt()

    async def _begin(self) -> None:
        headers = [
            (b"content-type", self._framing.content_type),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _relay(self) -> None:
        follower = self._follower
        more, announced = True, follower.cursor
        while more:
            items = await follower.next(self._settings.heartbeat_s)
            if self._gone:
                return
            more = not follower.ended and not (items and isinstance(items[-1], Closing))
            place = {"cursor": follower.cursor, "epoch": follower.epoch}
            data = encode(self._framing, self._cache, items, place) if items else b""
            if more and not items:
                data = self._framing.heartbeat(place, moved=follower.cursor != announced)
            announced = items[-1].id if items and isinstance(items[-1], Event) else follower.cursor
            async with asyncio.timeout(self._settings.send_timeout_s):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
