"""Real redis-servers for tests: started in a private directory, reached by their own socket, stopped by their own pid.

Nothing here knows about pytest or the event log.
"""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from eventlog.embedded import find_redis_server
from eventlog.embedded.binary import installed_wheels

PATIENCE_S = 20.0
_OLDEST = (7, 0)
_VERSION = re.compile(r"(\w+) server v=(\d+)\.(\d+)")


def eventually(holds: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until `holds()`; fail, naming `what`, if it does not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Binary:
    """An executable server, what it calls itself (`redis`, `valkey`), and its version, `(major, minor)`."""

    path: Path
    kind: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        """`redis-8.2`, for test ids."""
        return f"{self.kind}-{self.version[0]}.{self.version[1]}"


@cache
def binaries() -> tuple[Binary, ...]:
    """The servers that the suite runs on: the one that the library itself would start, or those that were named.

    `EVENTLOG_TEST_REDIS` names executables, with `:` between them as in PATH. The first serves every test that needs
    one server; what all engines promise is tested on each.
    """
    named = os.environ.get("EVENTLOG_TEST_REDIS")
    found = [find_redis_server().path] if not named else [Path(path).absolute() for path in named.split(os.pathsep)]
    return tuple({path.resolve(): _binary(path) for path in found}.values())


@cache
def all_engines() -> tuple[Binary, ...]:
    """A server of each engine that is at hand: for what only one of them does wrong."""
    at_hand = (*binaries(), *(_binary(path) for _, path in installed_wheels()))
    return tuple({binary.kind: binary for binary in at_hand}.values())


def _binary(path: Path) -> Binary:
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PATIENCE_S).stdout
    version = _VERSION.search(shown)
    assert version is not None, f"{path} is no Redis: {shown}"
    binary = Binary(path, version[1].lower(), (int(version[2]), int(version[3])))
    assert binary.version >= _OLDEST, f"{path} is too old: {shown}"
    return binary


class RedisProcess:
    """A redis-server of one's own; use it with `with`, which starts it and leaves nothing behind.

    It listens on a unix socket, or with `tcp=True` on a loopback port that stays the same over restarts. What was
    acknowledged survives `restart` and `kill` (append-only file), unless `appendonly=False`. `args` are further
    redis-server options, such as `"--maxmemory", "10mb"`.
    """

    def __init__(
        self,
        *args: str,
        binary: Binary | None = None,
        tcp: bool = False,
        appendonly: bool = True,
        appendfsync: str = "everysec",
    ) -> None:
        self.binary = binary or binaries()[0]
        # A unix socket's path is bounded to about 100 characters, so the usual test directories are too deep.
        self.home = Path(tempfile.mkdtemp(prefix="el-", dir="/tmp"))
        self.data_dir = self.home / "data"
        self.data_dir.mkdir()
        self.port = _free_port() if tcp else 0
        self._socket = self.home / "s"
        self._log = self.home / "log"
        self._options = [
            *("--dir", str(self.data_dir), "--logfile", str(self._log)),
            *("--save", "", "--appendonly", "yes" if appendonly else "no", "--appendfsync", appendfsync),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *(() if tcp else ("--unixsocket", str(self._socket), "--unixsocketperm", "700")),
            *args,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients reach it; the same over restarts."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """The pid of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers with its data loaded."""
        assert self._process is None, "the server is running already"
        self._process = subprocess.Popen(
            [str(self.binary.path), *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is for the tests; they stop the server
        )
        atexit.register(self.close)
        eventually(lambda: self._answers() or not self.running, "the server answers")
        assert self.running, f"the server ended at once:\n{self._said()}"
        return self

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else "(it wrote no log)"

    def client(self) -> redis.Redis:
        """A plain client, for looking at and tampering with what is stored. Close it."""
        return redis.Redis.from_url(self.url, socket_timeout=PATIENCE_S)

    def user(self, rules: str, password: str = "pw") -> str:
        """The URL of a user who may do all but what `rules` (of an ACL) take away."""
        with self.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "app", "reset", "on", f">{password}", "~*", "+@all", *rules.split()
            )
        return self.url.replace("://", f"://app:{password}@", 1)

    def stop(self) -> None:
        """End it orderly (SIGTERM); its data stays. Does nothing if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); its data stays."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Stop and start on the same data and address."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang (SIGSTOP): connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def save_data(self, name: str = "backup") -> Path:
        """Copy the data as it is on disk now, for `restore_data`. Call it while the server is stopped."""
        assert self._process is None, "a copy of a running server's files is torn"
        copy = self.home / name
        shutil.copytree(self.data_dir, copy)
        return copy

    def restore_data(self, copy: Path) -> None:
        """Put an earlier copy of the data in place of today's. Call it while the server is stopped."""
        assert self._process is None, "the running server would write over it"
        shutil.rmtree(self.data_dir)
        shutil.copytree(copy, self.data_dir)

    def close(self) -> None:
        """Stop it and remove its files. Idempotent."""
        self.stop()
        atexit.unregister(self.close)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_replica(primary: RedisProcess, replica: RedisProcess) -> None:
    """Wait until `replica` has all that `primary` has.

    `WAIT` is no help: it also counts a replica that has connected and has loaded nothing yet.
    """
    with primary.client() as source, replica.client() as copy:

        def has_all() -> bool:
            link = copy.info("replication")
            written = source.info("replication")["master_repl_offset"]
            return bool(link["master_link_status"] == "up" and link["slave_repl_offset"] >= written)

        eventually(has_all, "the replica has all")
