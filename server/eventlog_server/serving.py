"""Running the server: uvicorn set up for it, its socket, signals, and an end that closes streams at once."""

import asyncio
import contextlib
import logging
import math
import resource
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from types import FrameType

import uvicorn
from fastapi import FastAPI

from eventlog.errors import EventLogError

from .app import create_app
from .connection import Connections, GuardedConnection
from .hosts import is_loopback
from .settings import ServerSettings

_log = logging.getLogger("eventlog.server")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Clients that take their `closing` event do so at once; the others are not waited for any longer.
_FAREWELL_S = 0.5
_START_S = 60.0
# Open files that are not clients: connections to Redis, the log, the embedded server's.
_OWN_FILES = 128


class AddressUnavailable(EventLogError):
    """`host` and `port` cannot be listened on: in use, not allowed, or not of this machine."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        super().__init__(f"cannot listen on {host}:{port}: {reason}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; `url` has no slash at its end."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8707`"""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        return is_loopback(self.host)


def run(settings: ServerSettings | None = None, *, on_ready: Callable[[Address], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then return. `on_ready` is called with the address once requests are answered.

    Raises `AddressUnavailable`, or `EmbeddedRedisError` where the embedded Redis cannot be started.
    """
    settings = settings or ServerSettings.load()
    with _listening(settings) as listener:
        _Serving(settings, listener, on_ready).run()


@contextlib.contextmanager
def background(settings: ServerSettings | None = None) -> Iterator[Address]:
    """Serve from a thread of its own while the block runs. Raises as `run` does."""
    settings = settings or ServerSettings.load()
    with _listening(settings) as listener:
        ready = threading.Event()
        found: list[Address] = []
        failure: list[BaseException] = []

        def on_ready(address: Address) -> None:
            found.append(address)
            ready.set()

        serving = _Serving(settings, listener, on_ready)

        def serve() -> None:
            try:
                serving.run()
            except BaseException as error:
                failure.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve, name="eventlog-server", daemon=True)
        thread.start()
        try:
            ready.wait(_START_S)
            if failure:
                raise failure[0]
            if not found:
                raise AddressUnavailable(settings.host, settings.port, f"not ready within {_START_S:g} s")
            yield found[0]
        finally:
            serving.stop()
            thread.join(settings.grace_s + _START_S)


@contextlib.contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise AddressUnavailable(settings.host, settings.port, error.strerror or str(error)) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            raise AddressUnavailable(settings.host, settings.port, error.strerror or str(error)) from error
        listener.setblocking(False)
        yield listener


class _Serving:
    def __init__(
        self, settings: ServerSettings, listener: socket.socket, on_ready: Callable[[Address], None] | None
    ) -> None:
        self._listener = listener
        self._address = Address(settings.host, listener.getsockname()[1])
        self._on_ready = on_ready
        self.app = create_app(settings)
        most = min(settings.connections_max, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN_FILES))
        self.app.state.connections = Connections(most, settings.send_timeout_s, self.app.state.logs.room)
        self._server = _Server(_config(settings, self.app), self.app, self._ready)

    def _ready(self) -> None:
        if not self._address.is_loopback:
            _log.warning("listening on %s: all that can reach it can read and write every log", self._address.host)
        if self._on_ready is not None:
            self._on_ready(self._address)

    def run(self) -> None:
        factory = self._server.config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))

    def stop(self) -> None:
        """From any thread: end as a signal would."""
        self._server.should_exit = True


def _config(settings: ServerSettings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop" if find_spec("uvloop") else "asyncio",
        http=GuardedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="info" if settings.access_log else "warning",
        access_log=settings.access_log,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(settings.grace_s + settings.request_deadline_s) + 1,
    )


class _Server(uvicorn.Server):
    """Uvicorn's server, which closes streams before it ends, and does not raise the signal again."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Not left to the lifespan: uvicorn would log its failure with a traceback and end the process.
        await self._app.state.logs.open()
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        streams = self._app.state.streams
        streams.begin_closing()
        await self._app.state.logs.hub.close()
        logs = self._app.state.logs
        loop = asyncio.get_running_loop()
        timers = (
            loop.call_later(_FAREWELL_S, streams.abort),
            # Before uvicorn cancels what is left, each with a traceback: a request that lost its client ends by itself.
            loop.call_later(logs.settings.grace_s, self._drop_connections),
        )
        try:
            await super().shutdown(sockets=sockets)
            if self.force_exit:
                # A second Ctrl-C means that requests are not waited for; what is open is closed all the same.
                self._drop_connections()
                if self.server_state.tasks:
                    await asyncio.wait(self.server_state.tasks, timeout=logs.answer_s)
                await self.lifespan.shutdown()
        finally:
            for timer in timers:
                timer.cancel()

    def _drop_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
