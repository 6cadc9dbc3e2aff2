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
from typing import NamedTuple
from urllib.parse import quote

from ..errors import BackendUnavailable, EmbeddedRedisError
from ..plan.forks import call_in_child
from . import settings, supervisor, wire
from .binary import find_redis_server
from .data import take_over_snapshot
from .layout import LOG_ROTATION_BYTES, Layout, prepare, read_pid
from .locks import FileLock, is_locked

logger = logging.getLogger("eventlog.embedded")

POLL_S = 0.005
ANSWER_S = 2.0
# The supervisor gives the server 10 s to stop before it kills it.
CLOSE_S = supervisor.STOP_S + 2.0
LOG_TAIL_LINES = 15
REVIVE_S = 2.0
REVIVE_EVERY_S = 1.0


class EmbeddedRedis:
    """One user's share of the private server of a data directory.

    The server runs as long as any process holds a share of it, and stops by itself when the last one is
    closed or its process dies in any way. Thread-safe; several shares in one process are fine. A
    forked child has its own claim on the server until it exits or closes its copy.

    `url` is "unix:///…/redis.sock", percent-encoded; `data_dir` is absolute; `server_name` is "redis" or
    "valkey" and `server_version` its version, as it was when this share was opened.
    """

    def __init__(self, layout: Layout, share: FileLock, server: dict[str, str], options: "_Options") -> None:
        """Internal: use `start`."""
        self.data_dir = layout.data_dir
        self.url = f"unix://{quote(str(layout.socket))}"
        self.server_name = server.get("server_name", "redis")
        self.server_version = server.get("valkey_version") or server.get("redis_version", "unknown")
        self._layout = layout
        self._share = share
        self._options = options
        self._revived_at = 0.0
        self._opened_in = os.getpid()
        self._closing = threading.Lock()
        # A handle that is dropped without `close` gives its share back, but does not wait.
        self._abandon = weakref.finalize(self, share.release)
        self._abandon.atexit = False
        _open_handles.add(self)
        self._start_over()
        call_in_child(self._start_over)

    def _start_over(self) -> None:
        self._reviving = threading.Lock()

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
        "everysec" or "no"; `maxmemory` is a size such as "256mb", by default half of the machine's, and "0" is no
        bound. Both apply to a server that is started, not to one that runs. `timeout_s` bounds the whole call; only a
        server that loads its data may take longer, for as long as it gets on with that. Raises EmbeddedRedisError,
        with the end of the server's log where that shows why.
        """
        settings.check(appendfsync, maxmemory)
        layout = prepare(data_dir)
        options = _Options(appendfsync, maxmemory)
        try:
            share, server = _Start(layout, timeout_s, options).run()
        except OSError as error:
            raise EmbeddedRedisError(f"data directory {layout.data_dir} cannot be used: {error}") from error
        return cls(layout, share, server, options)

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

    def revive(self) -> None:
        """Start the server again if it is gone together with its supervisor: for users that lost their connection.

        Returns before the server answers, and does nothing where it runs or is being started, or after `close`.
        Raises BackendUnavailable if the data directory was deleted.
        """
        if not self._share.is_open or not self._reviving.acquire(blocking=False):
            return
        try:
            if not self._share.is_in_place():
                raise BackendUnavailable(
                    f"the data directory {self.data_dir} of the embedded Redis was deleted while it was in use: "
                    "close the log and open it again, to begin an empty one there"
                )
            if time.monotonic() >= self._revived_at + REVIVE_EVERY_S and not is_locked(self._layout.supervisor_lock):
                self._revived_at = time.monotonic()
                logger.warning("the server of %s is gone with its supervisor: starting it again", self.data_dir)
                _Start(self._layout, REVIVE_S, self._options).start_again()
        except (EmbeddedRedisError, OSError) as error:
            logger.warning("the server of %s cannot be started again: %s", self.data_dir, error)
        finally:
            self._reviving.release()

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


class _Options(NamedTuple):
    appendfsync: str
    maxmemory: str | None


class _Start:
    """One attempt to get a share of a running server, within `timeout_s` seconds."""

    def __init__(self, layout: Layout, timeout_s: float, options: _Options) -> None:
        self._layout = layout
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._options = options
        self._log_began = 0
        self._loaded: str | None = None
        self._told_at = time.monotonic()

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

    def start_again(self) -> None:
        """Start a supervisor for the holders of a share, unless another process is about to."""
        with FileLock(self._layout.start_lock) as starting:
            if starting.try_exclusive() and not is_locked(self._layout.supervisor_lock):
                self._start_supervisor()

    def _await_server(self) -> dict[str, str]:
        started = False
        why = ""
        while True:
            if not is_locked(self._layout.supervisor_lock):
                if started:
                    raise self._failure("the server could not be started")
                self._start_supervisor()
                started = True
            try:
                if wire.is_ready(self._layout.socket, timeout_s=self._answer_s()):
                    return self._introduction(started)
            except wire.NoAnswer as error:
                why = str(error)
                if error.code == "LOADING":
                    why = "it is still loading its data"
                    self._allow_for_loading()
            if time.monotonic() > self._deadline:
                raise self._failure(f"the server was not ready within {self._timeout_s:g} s: {why}")
            time.sleep(POLL_S)

    def _allow_for_loading(self) -> None:
        """Have the deadline wait while data is loaded: giving up would stop the server, and the next begin anew."""
        with contextlib.suppress(wire.NoAnswer):
            loading = wire.info(self._layout.socket, "persistence", timeout_s=ANSWER_S)
            loaded = loading.get("loading_loaded_bytes")
            if loaded not in (None, self._loaded):
                self._loaded = loaded
                self._deadline = time.monotonic() + self._timeout_s
                if time.monotonic() > self._told_at + self._timeout_s:
                    self._told_at = time.monotonic()
                    percent = loading.get("loading_loaded_perc")
                    logger.warning("the server of %s has loaded %s %% of its data", self._layout.data_dir, percent)

    def _introduction(self, started: bool) -> dict[str, str]:
        server = wire.info(self._layout.socket, "server", timeout_s=self._answer_s())
        if started:
            for line in _log_lines(self._layout, self._log_began):
                if supervisor.TORN in line:
                    logger.warning("%s", line[line.index(supervisor.TORN) :])
        else:
            in_force = wire.setting(self._layout.socket, "appendfsync", timeout_s=self._answer_s())
            if in_force != self._options.appendfsync:
                logger.warning(
                    "the server of %s was started with appendfsync %s and keeps it, instead of %s",
                    self._layout.data_dir,
                    in_force,
                    self._options.appendfsync,
                )
        return server

    def _start_supervisor(self) -> None:
        """Start a supervisor, and wait until it holds its lock or has failed. Only with `start.lock` held."""
        layout = self._layout
        if not sys.executable or getattr(sys, "frozen", False):
            raise EmbeddedRedisError("the embedded Redis needs a Python interpreter (sys.executable) to run")
        binary = find_redis_server(layout.data_dir)
        self._clear_orphan()
        if take_over_snapshot(layout.data_dir):
            logger.warning("%s has a dump.rdb and no append-only file: beginning one with it", layout.data_dir)
        settings.write(layout, binary, **self._options._asdict())
        self._log_began = _rotated_size(layout)
        logger.info("starting %s for %s", binary, layout.data_dir)
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(binary.path)]
        with open(layout.log, "ab") as log:
            detaching = subprocess.Popen(
                [*command, str(layout.data_dir), str(layout.socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=layout.data_dir,
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
                self._allow_for_loading()
            if time.monotonic() > self._deadline:
                raise self._failure(f"no answer within {self._timeout_s:g} s: {otherwise}")
            time.sleep(POLL_S)

    def _answer_s(self) -> float:
        return min(ANSWER_S, max(0.05, self._deadline - time.monotonic()))

    def _failure(self, problem: str) -> EmbeddedRedisError:
        tail = "\n".join(_log_lines(self._layout, self._log_began)[-LOG_TAIL_LINES:])
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


def _log_lines(layout: Layout, began: int) -> list[str]:
    """The log from its byte `began`."""
    try:
        return layout.log.read_bytes()[began:].decode(errors="replace").splitlines()
    except OSError:
        return []
