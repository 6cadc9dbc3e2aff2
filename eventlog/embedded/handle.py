"""What a user of the embedded Redis holds: `EmbeddedRedis`, one user's share of the server."""

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from ..errors import EmbeddedRedisError
from . import settings, supervisor, wire
from .binary import find_redis_server
from .layout import LOG_ROTATION_BYTES, Layout, prepare, read_pid
from .locks import FileLock, is_locked

logger = logging.getLogger("eventlog.embedded")

POLL_S = 0.005
ANSWER_S = 2.0
# The supervisor gives the server 10 s to stop before it kills it.
CLOSE_S = supervisor.STOP_S + 2.0
LOG_TAIL_LINES = 15


class EmbeddedRedis:
    """One user's share of the private server of a data directory.

    The server runs as long as any process holds a share of it, and stops by itself when the last one is
    closed or its process dies in any way. Thread-safe; several shares in one process are fine. A
    forked child has its own claim on the server until it exits or closes its copy.

    `url` is "unix:///…/redis.sock", percent-encoded; `data_dir` is absolute; `server_name` is "redis" or
    "valkey" and `server_version` its version, as it was when this share was opened.
    """

    def __init__(self, layout: Layout, share: FileLock, server: dict[str, str]) -> None:
        """Internal: use `start`."""
        self.data_dir = layout.data_dir
        self.url = f"unix://{quote(str(layout.socket))}"
        self.server_name = server.get("server_name", "redis")
        self.server_version = server.get("valkey_version") or server.get("redis_version", "unknown")
        self._layout = layout
        self._share = share
        self._opened_in = os.getpid()
        self._closing = threading.Lock()
        # A handle that is dropped without `close` gives its share back, but does not wait.
        self._abandon = weakref.finalize(self, share.release)
        self._abandon.atexit = False
        _open_handles.add(self)

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        timeout_s: float = 15,
        appendfsync: str = "everysec",
        maxmemory: str | None = None,
    ) -> "EmbeddedRedis":
        """A share of the server of `data_dir`, which is started unless it runs already.

        The directory is created where needed and made private (0700). `appendfsync` is "always",
        "everysec" or "no"; `maxmemory` is a size such as "256mb". Both apply to a server that is
        started, not to one that runs. `timeout_s` bounds the whole call, loading the data included.
        Raises EmbeddedRedisError, with the end of the server's log where that shows why.
        """
        settings.check(appendfsync, maxmemory)
        layout = prepare(data_dir)
        start = _Start(layout, time.monotonic() + timeout_s, timeout_s, appendfsync, maxmemory)
        try:
            share, server = start.run()
        except OSError as error:
            raise EmbeddedRedisError(f"data directory {layout.data_dir} cannot be used: {error}") from error
        return cls(layout, share, server)

    @property
    def pid(self) -> int | None:
        """The process id of the server, by its own answer; None where there is none within 2 s.

        It changes when the server is restarted after a crash.
        """
        try:
            number = wire.info(self._layout.socket, "server", timeout_s=ANSWER_S).get("process_id", "")
        except wire.NoAnswer:
            return None
        return int(number) if number.isdecimal() else None

    def close(self) -> None:
        """Give the share back; the last one waits until the server is gone, some seconds at most.

        Idempotent. In a forked child it never waits.
        """
        if os.getpid() != self._opened_in:
            # Not under the lock: a thread that the child does not have may have held it.
            self._share.release()
            return
        with self._closing:
            # Detached instead of called: at exit a finalizer no longer does anything.
            if self._abandon.detach() is not None:
                stopping = read_pid(self._layout.supervisor_pid)
                self._share.release()
                _await_stop(self._layout, stopping)

    def __enter__(self) -> "EmbeddedRedis":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedRedis {self.url} {self.server_name} {self.server_version}>"


_open_handles: "weakref.WeakSet[EmbeddedRedis]" = weakref.WeakSet()


@atexit.register
def _close_forgotten() -> None:
    for handle in list(_open_handles):
        with contextlib.suppress(OSError):
            handle.close()


class _Start:
    """One attempt to get a share of a running server; `deadline` is of the monotonic clock, in seconds."""

    def __init__(
        self, layout: Layout, deadline: float, timeout_s: float, appendfsync: str, maxmemory: str | None
    ) -> None:
        self._layout = layout
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._appendfsync = appendfsync
        self._maxmemory = maxmemory
        self._log_began = 0

    def run(self) -> tuple[FileLock, dict[str, str]]:
        """The share, and the server's `INFO server`."""
        with FileLock(self._layout.start_lock) as starting:
            self._poll(starting.try_exclusive, "another process is still starting the server")
            share = FileLock(self._layout.users_lock, shared_with_forks=True)
            try:
                self._poll(share.try_shared, "the server that ran before is still stopping")
                return share, self._await_server()
            except BaseException:
                share.release()
                raise

    def _await_server(self) -> dict[str, str]:
        started = False
        why = ""
        while True:
            with FileLock(self._layout.supervisor_lock) as supervising:
                if supervising.try_exclusive():
                    if started:
                        raise self._failure("the server could not be started")
                    self._start_supervisor(supervising)
                    started = True
            try:
                if wire.is_ready(self._layout.socket, timeout_s=self._answer_s()):
                    return self._introduction(started)
            except wire.NoAnswer as error:
                why = "it is still loading its data" if error.loading else str(error)
            if time.monotonic() > self._deadline:
                raise self._failure(f"the server was not ready within {self._timeout_s:g} s: {why}")
            time.sleep(POLL_S)

    def _introduction(self, started: bool) -> dict[str, str]:
        server = wire.info(self._layout.socket, "server", timeout_s=self._answer_s())
        if not started:
            in_force = wire.setting(self._layout.socket, "appendfsync", timeout_s=self._answer_s())
            if in_force != self._appendfsync:
                logger.warning(
                    "the server of %s was started with appendfsync %s and keeps it, instead of %s",
                    self._layout.data_dir,
                    in_force,
                    self._appendfsync,
                )
        return server

    def _start_supervisor(self, supervising: FileLock) -> None:
        """Start a supervisor, which inherits the held lock, so that there are never two."""
        layout = self._layout
        if not sys.executable or getattr(sys, "frozen", False):
            raise EmbeddedRedisError("the embedded Redis needs a Python interpreter (sys.executable) to run")
        binary = find_redis_server(layout.data_dir)
        self._clear_orphan()
        settings.write(layout, binary, appendfsync=self._appendfsync, maxmemory=self._maxmemory)
        self._log_began = _rotated_size(layout)
        logger.info("starting %s for %s", binary, layout.data_dir)
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(supervising.fileno()), str(binary.path)]
        with open(layout.log, "ab") as log:
            detaching = subprocess.Popen(
                [*command, str(layout.data_dir), str(layout.socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=layout.data_dir,
                pass_fds=[supervising.fileno()],
                start_new_session=True,
                umask=0o077,
            )
        self._poll(lambda: detaching.poll() is not None, "its supervisor does not start")

    def _clear_orphan(self) -> None:
        """Stop a server that outlived its supervisor, and remove what a crash left behind."""
        with FileLock(self._layout.server_lock) as unused:
            if not unused.try_exclusive():
                with contextlib.suppress(wire.NoAnswer):
                    wire.send(self._layout.socket, "SHUTDOWN", timeout_s=self._answer_s())
                pid = read_pid(self._layout.server_pid)
                self._poll(unused.try_exclusive, f"a server (pid {pid}) left by a crash does not stop")
            for stale in (self._layout.socket, self._layout.server_pid, self._layout.supervisor_pid):
                stale.unlink(missing_ok=True)

    def _poll(self, done: Callable[[], bool], otherwise: str) -> None:
        while not done():
            if time.monotonic() > self._deadline:
                raise self._failure(f"no answer within {self._timeout_s:g} s: {otherwise}")
            time.sleep(POLL_S)

    def _answer_s(self) -> float:
        return min(ANSWER_S, max(0.05, self._deadline - time.monotonic()))

    def _failure(self, problem: str) -> EmbeddedRedisError:
        tail = _log_tail(self._layout, self._log_began)
        return EmbeddedRedisError(f"embedded Redis in {self._layout.data_dir}: {problem}", log_tail=tail)


def _await_stop(layout: Layout, stopping: int | None) -> None:
    """Wait until the supervisor `stopping` has stopped the server, unless others use it."""
    deadline = time.monotonic() + CLOSE_S
    seen_others = 0
    while is_locked(layout.supervisor_lock) and read_pid(layout.supervisor_pid) in (stopping, None):
        # Twice: another process that is closing takes the same locks for an instant.
        seen_others = seen_others + 1 if _has_users(layout) else 0
        if seen_others == 2:
            return
        if time.monotonic() > deadline:
            logger.warning("the server of %s has not stopped within %g s", layout.data_dir, CLOSE_S)
            return
        time.sleep(POLL_S)


def _has_users(layout: Layout) -> bool:
    """Whether there is a user. A refused shared lock means the supervisor has the exclusive one."""
    with FileLock(layout.users_lock) as probe:
        return not probe.try_exclusive() and probe.try_shared()


def _rotated_size(layout: Layout) -> int:
    """The length of the log in bytes, after it was put aside if it had grown long."""
    size = layout.log.stat().st_size if layout.log.exists() else 0
    if size <= LOG_ROTATION_BYTES:
        return size
    layout.log.replace(layout.old_log)
    return 0


def _log_tail(layout: Layout, began: int) -> str:
    """The last lines of the log, from its byte `began`."""
    try:
        text = layout.log.read_bytes()[began:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
