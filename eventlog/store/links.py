"""Connections to Redis, blocking and on asyncio: send one command, return its undecoded reply.

redis-py supplies the connection (URL, TLS, authentication, parser); its retries are off, because a repeated
write is only safe under a key that the script knows, which is decided in `calls.py`.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import hiredis
import redis.asyncio.connection as aioredis
import redis.connection as syncredis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.retry import Retry

from ..errors import LogClosed
from ..plan.drive import running_loop
from ..plan.effects import Command
from ..plan.interrupts import raised_by_a_handler
from . import restarts
from .urls import parsed_url

_log = logging.getLogger("eventlog")

CONNECT_TIMEOUT_S = 2.0
# What was used a moment ago is taken to stand still: to look costs more than it is worth in a busy process.
_LOOK_AFTER_S = 0.005


class LinkLost(Exception):
    """No reply: not connected, cut off or timed out. If it was `sent`, whether it was carried out is unknown."""

    def __init__(self, problem: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(problem)


class Refused(Exception):
    """Redis answered with an error, to the command or as the connection was made; it carried nothing out.

    `code` is the first word of the answer, `problem` are the others. What was not `sent` had no connection yet.
    """

    def __init__(self, error: RedisError, *, sent: bool) -> None:
        self.sent = sent
        # redis-py cuts the code off the answers that it has a class for.
        known = error.status_code
        self.code, _, self.problem = (str(error) if known is None else f"{known} {error}").partition(" ")
        super().__init__(f"{self.code} {self.problem}".rstrip())

    @property
    def lacks_right(self) -> bool:
        """This Redis does not have the command, or its user no right to it or to the key."""
        return self.code == "NOPERM" or _LACKING.search(str(self)) is not None


# Within a script a lacking right loses its code; hosted services and proxies have words of their own.
_LACKING = re.compile(
    r"ACL failure|(unknown|unsupported)( redis)? command|command (is )?not (supported|available|allowed)", re.IGNORECASE
)


class SyncLink:
    """At most `size` connections, shared by threads; more callers wait for one to be free.

    `on_lost` is called when one is lost, before the `LinkLost` is raised; what it raises is raised instead.
    """

    def __init__(self, url: str, size: int = 8, on_lost: Callable[[], None] | None = None) -> None:
        self._make, kwargs = parsed_url(syncredis.ConnectionPool, url)
        self._kwargs = {**kwargs, **_OPTIONS, "retry": Retry(NoBackoff(), 0)}
        self._size = size
        self._on_lost = on_lost
        self._closed = False
        self._start_over()

    def _start_over(self) -> None:
        """Hold no connections: at first, and in a forked child, as the parent's are the parent's."""
        self._pid = os.getpid()
        self._free: list[tuple[Any, float]] = []
        self._looked = False
        # What is in use is counted, not what was given back: a caller may be interrupted anywhere.
        self._in_use: set[object] = set()
        self._came_free: SimpleQueue[None] = SimpleQueue()

    def execute(self, command: Command) -> Any:
        """Send one command and wait for its reply; connecting, sending and every read take `command.timeout_s`."""
        if self._pid != os.getpid():
            self._start_over()
        if self._closed:
            raise LogClosed("the log was closed")
        in_use, came_free = self._in_use, self._came_free
        if len(in_use) >= self._size:
            self._wait(command.timeout_s)
        connection = self._take()
        sent = False
        try:
            in_use.add(connection)
            try:
                if connection.socket_timeout != command.timeout_s:
                    _bound(connection, command.timeout_s)
                if connection._sock is None:
                    if command.goes_on:
                        raise Disconnected("the connection was closed")
                    connection.connect()
                if not self._looked:
                    self._looked = True
                    self._look(connection)
                sent = True
                connection.send_packed_command((_packed(command),), check_health=False)
                reply = connection.read_response(disable_decoding=True)
            except BaseException as error:
                if sent and isinstance(error, ResponseError):
                    self._keep(connection)
                else:
                    connection.disconnect()
                translated = _translated(error, sent)
                if isinstance(translated, LinkLost):
                    self._drop_idle()
                    if self._on_lost is not None:
                        self._on_lost()
                raise translated from None
            self._keep(connection)
            return reply
        finally:
            in_use.discard(connection)
            if came_free.qsize() < self._size:
                came_free.put(None)

    def _wait(self, timeout_s: float) -> None:
        until = monotonic() + timeout_s
        while len(self._in_use) >= self._size:
            try:
                self._came_free.get(timeout=max(until - monotonic(), 0.0))
            except Empty:
                problem = f"none of {self._size} connections came free within {timeout_s:.1f} s"
                raise LinkLost(problem, sent=False) from None

    def _look(self, connection: Any) -> None:
        """Ask a Redis that has started anew to rewrite its file, see `restarts`; one that forbids it is left alone."""
        try:
            connection.send_command(*restarts.QUESTION, check_health=False)
            if restarts.may_hold_half(restarts.parsed_info(connection.read_response(disable_decoding=True))):
                connection.send_command(*restarts.REWRITE, check_health=False)
                connection.read_response(disable_decoding=True)
                _log.info(_ASKED_TO_REWRITE)
        except (ResponseError, Disconnected):
            # It does not know the question or may not answer it. A stand-in for Redis then closes the connection.
            connection.disconnect()
            connection.connect()

    def _take(self) -> Any:
        try:
            connection, kept_at = self._free.pop()
        except IndexError:
            return self._make(**self._kwargs)
        if monotonic() - kept_at > _LOOK_AFTER_S and not _stands(connection):
            connection.disconnect()
            self._drop_idle()
        return connection

    def _keep(self, connection: Any) -> None:
        if self._closed:
            connection.disconnect()
        else:
            self._free.append((connection, monotonic()))

    def _drop_idle(self) -> None:
        """What cut one connection has mostly cut them all: to try each in turn would use up a deadline."""
        self._looked = False
        with contextlib.suppress(IndexError):
            while True:
                self._free.pop()[0].disconnect()

    def close(self) -> None:
        """Close the idle connections now and those in use after their reply. Idempotent."""
        self._closed = True
        self._drop_idle()


class AsyncLink:
    """At most `size` connections, shared by the tasks of one event loop. `on_lost`, as for `SyncLink`, may block."""

    def __init__(self, url: str, size: int = 8, on_lost: Callable[[], None] | None = None) -> None:
        self._make, kwargs = parsed_url(aioredis.ConnectionPool, url)
        self._kwargs = {**kwargs, **_OPTIONS, "retry": _async_retry()}
        self._size = size
        self._on_lost = on_lost
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free: list[Any] = []

    def _enter(self) -> None:
        """Begin on a loop; what a former one, closed by now, has left is let go."""
        loop = running_loop(self._loop, "this connection to Redis")
        self._let_go()
        self._loop = loop
        self._looked = False
        self._room = asyncio.Semaphore(self._size)

    async def execute(self, command: Command) -> Any:
        """Send one command and wait for its reply, at most `command.timeout_s`."""
        if self._closed:
            raise LogClosed("the log was closed")
        if self._loop is not asyncio.get_running_loop():
            self._enter()
        connection = transport = None
        sent = False
        try:
            async with asyncio.timeout(command.timeout_s), self._room:
                connection = self._free.pop() if self._free else self._make(**self._kwargs)
                if connection.is_connected and connection._reader.at_eof():
                    # What is sent into a connection that Redis has closed has an unknown outcome.
                    await connection.disconnect(nowait=True)
                    await self._drop_idle()
                if not connection.is_connected:
                    if command.goes_on:
                        raise Disconnected("the connection was closed")
                    await connection.connect()
                transport = connection._writer.transport
                if not self._looked:
                    self._looked = True
                    await self._look(connection)
                    transport = connection._writer.transport
                sent = True
                await connection.send_packed_command(_packed(command), check_health=False)
                reply = await connection.read_response(disable_decoding=True)
        except BaseException as error:
            if sent and isinstance(error, ResponseError):
                await self._keep(connection)
                raise _translated(error, sent) from None
            if transport is not None:
                # Closing would keep the socket until a server that hangs has taken all that was to be sent.
                transport.abort()
            if connection is not None:
                await connection.disconnect(nowait=True)
                if not isinstance(error, asyncio.CancelledError):
                    await self._drop_idle()
            translated = _translated(error, sent)
            if self._on_lost is not None and isinstance(translated, LinkLost):
                await asyncio.to_thread(self._on_lost)
            raise translated from None
        await self._keep(connection)
        return reply

    async def _keep(self, connection: Any) -> None:
        if self._closed:
            await connection.disconnect(nowait=True)
        else:
            self._free.append(connection)

    async def _look(self, connection: Any) -> None:
        """See `SyncLink._look`."""
        try:
            await connection.send_command(*restarts.QUESTION, check_health=False)
            if restarts.may_hold_half(restarts.parsed_info(await connection.read_response(disable_decoding=True))):
                await connection.send_command(*restarts.REWRITE, check_health=False)
                await connection.read_response(disable_decoding=True)
                _log.info(_ASKED_TO_REWRITE)
        except (ResponseError, Disconnected):
            await connection.disconnect(nowait=True)
            await connection.connect()

    async def _drop_idle(self) -> None:
        self._looked = False
        while self._free:
            await self._free.pop().disconnect(nowait=True)

    async def close(self) -> None:
        """Close the idle connections now and those in use after their reply. Idempotent."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            await self._drop_idle()
        else:
            self._let_go()

    def _let_go(self) -> None:
        """Close the idle connections of a loop that does not run here."""
        while self._free:
            connection = self._free.pop()
            writer, connection._writer, connection._reader = connection._writer, None, None
            assert self._loop is not None
            if writer is None:
                continue
            try:
                self._loop.call_soon_threadsafe(_abort, writer)
            except RuntimeError:
                # A closed loop does not close the transport, which would warn that it was left open.
                with contextlib.suppress(RuntimeError):
                    writer.transport.abort()
                with contextlib.suppress(RuntimeError, AttributeError):
                    writer.transport._call_connection_lost(None)


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


# redis-py's packer calls this too, but goes over the arguments first, which takes twice as long again.
_pack: Any = hiredis.pack_command


def _packed(command: Command) -> bytes:
    return _pack(command.args)  # type: ignore[no-any-return]


def _bound(connection: Any, timeout_s: float) -> None:
    """Bound sends and reads of a connection, those of its handshake too if it is not connected yet."""
    connection.socket_timeout = timeout_s
    if connection._sock is not None:
        connection._sock.settimeout(timeout_s)


def _stands(connection: Any) -> bool:
    """False if Redis has closed an idle connection: what is sent into it has an unknown outcome."""
    try:
        return not connection.can_read(0)
    except (OSError, RedisError):
        return False


_ASKED_TO_REWRITE = "Redis has started anew: asked it to rewrite its append-only file, which a crash may have torn"
_OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": None,
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "decode_responses": False,
}


def _async_retry() -> Any:
    from redis.asyncio.retry import Retry as AsyncRetry

    return AsyncRetry(NoBackoff(), 0)


def _translated(error: BaseException, sent: bool) -> BaseException:
    """The store's own error with `error` as its cause; what is not about Redis stays as it is."""
    if (raised := raised_by_a_handler(error)) is not None:
        return raised
    if not sent and isinstance(error.__cause__, RedisError):
        error = error.__cause__  # redis-py wraps what a handshake on a unix socket is answered
    if isinstance(error, ResponseError | AuthenticationError | BusyLoadingError):
        translated: Exception = Refused(error, sent=sent)
    elif isinstance(error, OSError | RedisError):
        translated = LinkLost(str(error) or type(error).__name__, sent=sent)
    else:
        return error
    translated.__cause__ = error
    return translated
