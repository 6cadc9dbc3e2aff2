"""Connections to one server: they carry out the effects of `asking.py`, blocking and on asyncio.

httpx's errors become the library's errors here, so that no plan depends on httpx.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

from ..errors import BackendUnavailable, EventLogError, LogClosed, Overloaded
from ..extras import imports_of
from ..plan.forks import call_in_child
from ..plan.interrupts import raised_by_a_handler
from ..plan.records import is_ours, leave_out_requests, within
from ..plan.threads import Waiters
from . import wire
from .address import AT_ONCE, ServerAddress, opened
from .asking import CloseStream, Effect, Exchange, OpenStream, ReadStream

with imports_of("client", "the HTTP client"):
    import httpx

T = TypeVar("T")
_PATIENCE_S = 2.0
_CUT_S = 0.5
_CLOSED = "the connection to the server was closed"
leave_out_requests()
_NOT_SENT = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout),
    *(httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError),
)


class _Line:
    """A connection to a server for one call at a time, so that no lock within httpx is ever waited for.

    A call that is interrupted leaves its line in any state; one that is made within another has a line of its own.
    """

    def __init__(self, address: ServerAddress) -> None:
        self._client = opened(httpx.Client, address.base_url)
        _bear_interrupts(self._client)
        self._is_cut = False
        self._sockets: deque[Any] = deque(maxlen=2)

    def send(self, request: wire.Request, timeout_s: float, *, stream: bool = False) -> httpx.Response:
        built = _built(self._client, request, timeout_s, {"trace": self._noted})
        return self._client.send(built, stream=stream)

    def _noted(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the sockets (httpx's `trace`): a reader is woken by shutting its socket down, not by closing it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.append(info["return_value"])
            if self._is_cut:
                _cut(info["return_value"])

    def cut(self) -> None:
        """End what is under way in another thread; closing would have to wait for it."""
        self._is_cut = True
        for stream in tuple(self._sockets):
            _cut(stream)

    def close(self) -> None:
        """Close it, in use by nobody."""
        self._client.close()

    def drop(self) -> None:
        """Close it, interrupted: httpx may believe that its locks are held."""
        for stream in tuple(self._sockets):
            connection = stream.get_extra_info("socket")
            if connection is not None:
                connection.close()


def _bear_interrupts(client: httpx.Client) -> None:
    """Let a call that is interrupted just when it took httpcore's lock take it again, to clean up: it would hang there.

    A line is used by one thread at a time, so that the lock keeps nobody else out.
    """
    for transport in (client._transport, *client._mounts.values()):
        lock: Any = getattr(getattr(transport, "_pool", None), "_optional_thread_lock", None)
        if lock is not None:
            lock._lock = threading.RLock()


class Connection:
    """Connections to a server, for blocking callers. Safe under threads; a forked child opens its own."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._closed = False
        self._open()
        # The sockets are the parent's.
        call_in_child(self._open)

    def _open(self) -> None:
        self._changed = Waiters()
        self._idle = [_Line(self.address)]
        # By the thread that uses them. What is in use is counted: a caller may be interrupted anywhere.
        self._asking: dict[_Line, int] = {}
        self._waiting: dict[_Line, int] = {}
        self._reading: dict[_Line, int] = {}
        self._streams: set[_Line] = set()

    def execute(self, effect: Effect) -> Any:
        """Carry out an effect; raises `BackendUnavailable`, or what a problem says."""
        return within(is_ours, self._carry_out, effect)

    def _carry_out(self, effect: Effect) -> Any:
        match effect:
            case Exchange():
                return self._exchange(effect)
            case OpenStream():
                return self._open_stream(effect)
            case ReadStream(stream):
                return self._read(stream)
            case CloseStream(stream):
                stream.response.close()
                stream.pieces.close()  # else it is logged that it was collected
                self._streams.discard(stream.line)
                stream.line.close()
        return None

    def _exchange(self, exchange: Exchange) -> bytes:
        if exchange.waits:
            return self._ask(exchange, self._waiting)
        if len(self._asking) >= AT_ONCE and not self._changed.wait_for(self._may_ask, exchange.timeout_s):
            raise _overloaded()
        return self._ask(exchange, self._asking)

    def _may_ask(self) -> bool:
        return self._closed or len(self._asking) < AT_ONCE

    def _ask(self, exchange: Exchange, under_way: dict[_Line, int]) -> bytes:
        line = self._line()
        try:
            under_way[line] = threading.get_ident()
            wrote = exchange.request.method != "GET"
            answer = self._used(line, wrote, lambda: line.send(exchange.request, exchange.timeout_s))
            self._keep(line)
            return _content(answer)
        finally:
            under_way.pop(line, None)
            self._changed.wake()

    def _open_stream(self, opening: OpenStream) -> "Stream":
        line = self._line()
        try:
            self._reading[line] = threading.get_ident()
            response = self._used(line, False, lambda: _opened(line, opening))
            if not response.is_success:
                self._keep(line)
                raise _problem(response)
            self._streams.add(line)
            return Stream(response, response.iter_raw(), line)
        finally:
            self._reading.pop(line, None)
            self._changed.wake()

    def _read(self, stream: "Stream") -> bytes:
        line = stream.line
        assert line is not None
        try:
            self._reading[line] = threading.get_ident()
            return self._used(line, False, lambda: next(stream.pieces, b""))
        finally:
            self._reading.pop(line, None)
            self._changed.wake()

    def _used(self, line: _Line, wrote: bool, use: Callable[[], T]) -> T:
        """What comes of this use of a line, which is closed if it fails."""
        try:
            if self._closed:
                raise LogClosed(_CLOSED)
            with _transport_errors(self.address, wrote=wrote):
                return use()
        except EventLogError:
            line.close()
            raise
        except BaseException:
            line.drop()
            raise

    def _line(self) -> _Line:
        try:
            return self._idle.pop()
        except IndexError:
            return _Line(self.address)

    def _keep(self, line: _Line) -> None:
        if self._closed or len(self._idle) >= AT_ONCE:
            line.close()
        else:
            self._idle.append(line)

    def close(self, patience_s: float = _PATIENCE_S) -> None:
        """Refuse new calls, give those under way `patience_s` seconds, then close all connections. Idempotent.

        A call that is cut off raises `BackendUnavailable`, with `outcome_unknown` if it may have been carried out.
        """
        if self._closed:
            return
        self._closed = True
        me = threading.get_ident()
        asking, waiting, reading = self._asking, self._waiting, self._reading

        def others_ask() -> bool:
            # What this thread has under way itself goes on only after this call: it is a signal handler.
            return any(one != me for under_way in (asking, waiting) for one in tuple(under_way.values()))

        self._changed.wait_for(lambda: not others_ask(), patience_s)
        for line in (*asking, *waiting, *reading):
            line.cut()
        # The number of a closed socket may be reused while a thread still reads it: the reader closes it.
        self._changed.wait_for(lambda: not (others_ask() or any(one != me for one in tuple(reading.values()))), _CUT_S)
        for line in (*self._idle, *(line for line in tuple(self._streams) if line not in reading)):
            line.close()


def _opened(line: _Line, opening: OpenStream) -> httpx.Response:
    response = line.send(opening.request, opening.timeout_s, stream=True)
    if response.is_success:
        response.request.extensions["timeout"]["read"] = opening.silence_s
    else:
        response.read()
    return response


class Stream:
    """An open stream; `pieces` is an iterator of its content, in the colour of the connection."""

    def __init__(self, response: httpx.Response, pieces: Any, line: _Line | None = None) -> None:
        self.response = response
        self.pieces = pieces
        self.line = line

    def cut(self) -> None:
        """End a read that is under way in another thread; closing the response would have to wait for it."""
        _cut(self.response.extensions.get("network_stream"))


def _cut(stream: Any) -> None:
    connection = None if stream is None else stream.get_extra_info("socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class AsyncConnection:
    """The asyncio twin of `Connection`, for the tasks of one event loop: the one that uses it first."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: set[asyncio.Timeout] = set()
        self._reading: set[asyncio.Timeout] = set()
        self._nothing_asked = asyncio.Event()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._client = opened(httpx.AsyncClient, address.base_url)

    async def execute(self, effect: Effect) -> Any:
        """See `Connection.execute`."""
        before = is_ours.get()
        try:
            is_ours.set(True)
            return await self._carry_out(effect)
        finally:
            is_ours.set(before)

    async def _carry_out(self, effect: Effect) -> Any:
        match effect:
            case Exchange():
                return await self._exchange(effect)
            case OpenStream():
                return await self._open_stream(effect)
            case ReadStream(stream):
                async with self._cut_by_closing(self._reading, wrote=False):
                    return await anext(stream.pieces, b"")
            case CloseStream(stream):
                await stream.response.aclose()
                await stream.pieces.aclose()
        return None

    async def _exchange(self, exchange: Exchange) -> bytes:
        self._refuse_if_closed()
        async with self._cut_by_closing(self._asking, wrote=exchange.request.method != "GET"), self._turn(exchange):
            answer = await self._client.send(_built(self._client, exchange.request, exchange.timeout_s, {}))
        return _content(answer)

    @contextlib.asynccontextmanager
    async def _cut_by_closing(self, under_way: set[asyncio.Timeout], *, wrote: bool) -> AsyncIterator[None]:
        """Let `close` end what is done within: closing the pool does not end a request that is still connecting."""
        try:
            async with asyncio.timeout(None) as scope:
                under_way.add(scope)
                try:
                    with _transport_errors(self.address, wrote=wrote):
                        yield
                finally:
                    under_way.discard(scope)
                    if not self._asking:
                        self._nothing_asked.set()
        except TimeoutError:
            raise BackendUnavailable(
                f"no answer from {self.address.origin}: {_CLOSED}", outcome_unknown=wrote
            ) from None

    @contextlib.asynccontextmanager
    async def _turn(self, exchange: Exchange) -> AsyncIterator[None]:
        if exchange.waits:
            yield
            return
        try:
            async with asyncio.timeout(exchange.timeout_s):
                await self._gate.acquire()
        except TimeoutError:
            raise _overloaded() from None
        try:
            if self._closed:
                raise LogClosed(_CLOSED)
            yield
        finally:
            self._gate.release()

    async def _open_stream(self, opening: OpenStream) -> "Stream":
        self._refuse_if_closed()
        async with self._cut_by_closing(self._reading, wrote=False):
            request = _built(self._client, opening.request, opening.timeout_s, {})
            response = await self._client.send(request, stream=True)
            if response.is_success:
                request.extensions["timeout"]["read"] = opening.silence_s
                return Stream(response, response.aiter_raw())
            try:
                await response.aread()
            finally:
                await response.aclose()
        raise _problem(response)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogClosed(_CLOSED)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("this client belongs to the event loop that used it first: give each loop its own")
            self._loop = loop

    async def close(self, patience_s: float = _PATIENCE_S) -> None:
        """See `Connection.close`."""
        if self._closed:
            return
        self._closed = True
        if self._loop not in (None, asyncio.get_running_loop()):
            with contextlib.suppress(RuntimeError):
                await self._client.aclose()
            return
        _end(self._reading)
        await self._until_nothing_is_asked(patience_s)
        _end(self._asking)
        await self._until_nothing_is_asked(_CUT_S)
        await self._client.aclose()

    async def _until_nothing_is_asked(self, patience_s: float) -> None:
        if self._asking:
            self._nothing_asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._nothing_asked.wait()


def _end(under_way: set[asyncio.Timeout]) -> None:
    for scope in under_way:
        scope.reschedule(asyncio.get_running_loop().time())


def _built(
    client: httpx.Client | httpx.AsyncClient, request: wire.Request, timeout_s: float, extensions: dict[str, Any]
) -> httpx.Request:
    return client.build_request(
        request.method,
        request.path,
        params=request.params,
        content=request.content,
        headers=request.headers,
        timeout=timeout_s,
        extensions=extensions,
    )


def _overloaded() -> Overloaded:
    return Overloaded(f"{AT_ONCE} requests are under way already, and none of them ended in time")


def _content(answer: httpx.Response) -> bytes:
    if answer.is_success:
        return answer.content
    raise _problem(answer)


def _problem(answer: httpx.Response) -> EventLogError:
    return wire.problem(answer.status_code, answer.content, answer.headers.get("Retry-After"))


@contextlib.contextmanager
def _transport_errors(address: ServerAddress, *, wrote: bool) -> Iterator[None]:
    """Turn httpx's transport errors into `BackendUnavailable`."""
    try:
        yield
    except (httpx.TransportError, httpx.StreamError) as error:
        if (raised := raised_by_a_handler(error)) is not None:
            raise raised from None
        reason = str(error) or type(error).__name__
        unknown = wrote and not isinstance(error, _NOT_SENT)
        raise BackendUnavailable(f"no answer from {address.origin}: {reason}", outcome_unknown=unknown) from error
