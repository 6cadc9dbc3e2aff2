"""Connections to one server: they carry out the effects of `asking.py`, blocking and on asyncio.

httpx's errors become the library's errors here, so that no plan depends on httpx.
"""

import asyncio
import contextlib
import math
import os
import socket
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import BackendUnavailable, EventLogError, InvalidInput, LogClosed, Overloaded
from ..extras import imports_of
from ..model.ids import checked_workspace
from ..plan.forks import call_in_child
from ..plan.records import is_ours, leave_out_requests, within
from . import wire
from .asking import CloseStream, Effect, Exchange, OpenStream, ReadStream

with imports_of("client", "the HTTP client"):
    import httpx

C = TypeVar("C", bound=httpx.Client | httpx.AsyncClient)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PATIENCE_S = 2.0
_CUT_S = 0.5
_CLOSED = "the connection to the server was closed"
_AT_ONCE = 32
# A follower or a waiter for a slot occupies a connection for as long; only other requests are limited.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=_AT_ONCE)
leave_out_requests()
# Trusts nobody: for connections that are not encrypted.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_NOT_SENT = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout),
    *(httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError),
)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A workspace behind a server."""

    base_url: str
    origin: str
    workspace: str
    deadline_s: float

    @classmethod
    def of(cls, url: str, workspace: str, deadline_s: float) -> "ServerAddress":
        """Check what a caller gives; raises `InvalidInput` naming what is wrong."""
        name = checked_workspace(workspace)
        base = _checked_url(url)
        return cls(
            base_url=str(base).rstrip("/") + wire.prefix(name),
            origin=f"{base.scheme}://{base.netloc.decode('ascii')}",
            workspace=name,
            deadline_s=_checked_deadline(deadline_s),
        )


def _checked_url(url: object) -> httpx.URL:
    if not isinstance(url, str):
        raise InvalidInput("url", f"must be a string, not a {type(url).__name__}")
    try:
        # Each of the two accepts something that the other refuses.
        urlsplit(url)
        found = httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInput("url", f"{url[:80]!r} is not a URL: {error}") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise InvalidInput("url", f"{url[:80]!r} is not the http:// or https:// URL of a server")
    return found


def _checked_deadline(deadline_s: object) -> float:
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or not 0 < deadline_s < math.inf:
        raise InvalidInput("deadline_s", f"{deadline_s!r} is not a number of seconds above 0")
    return float(deadline_s)


def opened(kind: type[C], url: str) -> C:
    """A client of httpx for the server at `url`, with what of the environment concerns that: its proxy, certificates.

    Left to itself httpx would read all of it, and fail at a proxy of others or at certificates that no plain http
    needs. Raises `InvalidInput` naming the variable that is wrong.
    """
    variable, proxy = _proxy(httpx.URL(url))
    encrypted = "https://" in (url[:8].lower(), (proxy or "")[:8].lower())
    try:
        return kind(base_url=url, limits=_LIMITS, trust_env=False, proxy=proxy, verify=_tls() if encrypted else _NO_TLS)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(variable, f"names a proxy that cannot be used: {error}") from error


def _proxy(url: httpx.URL) -> tuple[str, str | None]:
    """The variable that names a proxy for the address, and the proxy."""
    # A proxy is meant for other machines.
    if url.host not in _LOOPBACK and not proxy_bypass(url.netloc.decode("ascii")):
        proxies = getproxies()
        for scheme in (url.scheme, "all"):
            if found := proxies.get(scheme):
                return f"{scheme.upper()}_PROXY", found if "://" in found else f"http://{found}"
    return "", None


@cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes longer than most requests do.
    for name in _TLS_FILES:
        path = os.environ.get(name)
        if path and not os.path.exists(os.path.dirname(path) or "." if name == "SSLKEYLOGFILE" else path):
            raise InvalidInput(name, f"names {path!r}, which does not exist")
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        names = " or ".join(name for name in _TLS_FILES if os.environ.get(name)) or "certificates"
        raise InvalidInput(names, f"cannot be read: {error}") from error


class Connection:
    """Connections to a server, for blocking callers. Safe under threads; a forked child opens its own."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._closed = False
        self._open()
        # The sockets are the parent's, and one of its threads may have held the locks.
        call_in_child(self._open)

    def _open(self) -> None:
        address = self.address
        self._changed = threading.Condition()
        self._under_way = {"exchange": 0, "stream": 0}
        self._gate = threading.Semaphore(_AT_ONCE)
        self._sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self._client = opened(httpx.Client, address.base_url)

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
                with self._counted("stream"), _transport_errors(self.address, wrote=False):
                    return next(stream.pieces, b"")
            case CloseStream(stream):
                stream.response.close()
                stream.pieces.close()  # else it is logged that it was collected
        return None

    def _exchange(self, exchange: Exchange) -> bytes:
        with self._counted("exchange"), self._turn(exchange):
            with _transport_errors(self.address, wrote=exchange.request.method != "GET"):
                answer = self._client.send(self._built(exchange.request, exchange.timeout_s))
            return _content(answer)

    @contextlib.contextmanager
    def _turn(self, exchange: Exchange) -> Iterator[None]:
        """Wait until one of the limited requests may be sent."""
        if exchange.waits:
            yield
            return
        if not self._gate.acquire(timeout=exchange.timeout_s):
            raise _overloaded()
        try:
            if self._closed:
                raise LogClosed(_CLOSED)
            yield
        finally:
            self._gate.release()

    def _open_stream(self, opening: OpenStream) -> "Stream":
        with self._counted("stream"), _transport_errors(self.address, wrote=False):
            request = self._built(opening.request, opening.timeout_s)
            response = self._client.send(request, stream=True)
            if response.is_success:
                request.extensions["timeout"]["read"] = opening.silence_s
                return Stream(response, response.iter_raw())
            try:
                response.read()
            finally:
                response.close()
        raise _problem(response)

    def _built(self, request: wire.Request, timeout_s: float) -> httpx.Request:
        return _built(self._client, request, timeout_s, {"trace": self._noted})

    def _noted(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep all sockets (httpx's `trace`): a reader is woken by shutting its socket down, not by closing it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._changed:
                self._sockets.add(info["return_value"])
            if self._closed:
                _cut(info["return_value"])

    @contextlib.contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise LogClosed(_CLOSED)
            self._under_way[kind] += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way[kind] -= 1
                self._changed.notify_all()
                over = self._is_over()
            if over:
                self._client.close()

    def _is_over(self) -> bool:
        return self._closed and not any(self._under_way.values())

    def close(self, patience_s: float = _PATIENCE_S) -> None:
        """Refuse new calls, give those under way `patience_s` seconds, then close all connections. Idempotent.

        A call that is cut off raises `BackendUnavailable`, with `outcome_unknown` if it may have been carried out.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.wait_for(lambda: not self._under_way["exchange"], patience_s)
            for stream in list(self._sockets):
                _cut(stream)
            # The number of a closed socket may be reused while a thread still reads it: the last reader closes.
            over = self._changed.wait_for(self._is_over, _CUT_S)
        if over:
            self._client.close()


class Stream:
    """An open stream; `pieces` is an iterator of its content, in the colour of the connection."""

    def __init__(self, response: httpx.Response, pieces: Any) -> None:
        self.response = response
        self.pieces = pieces

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
        self._gate = asyncio.Semaphore(_AT_ONCE)
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
    return Overloaded(f"{_AT_ONCE} requests are under way already, and none of them ended in time")


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
        reason = str(error) or type(error).__name__
        unknown = wrote and not isinstance(error, _NOT_SENT)
        raise BackendUnavailable(f"no answer from {address.origin}: {reason}", outcome_unknown=unknown) from error
