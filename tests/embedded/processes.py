"""Real processes for the tests: users of an embedded Redis that leave when asked, or are killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import redis

from eventlog.embedded import EmbeddedRedis

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0

USER = """
import json, sys
from pathlib import Path
from eventlog.embedded import EmbeddedRedis
sys.stdin.readline()
{before}
server = EmbeddedRedis.start(Path(sys.argv[1]))
{after}
print(json.dumps({{"url": server.url, "pid": server.pid}}), flush=True)
sys.stdin.readline()
server.close()
"""


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until `holds()`; fail, naming `what`, if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.01)


def lives(pid: int | None) -> bool:
    """Whether a process runs; a zombie does not."""
    if pid is None:
        return False
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def pid_in(data_dir: Path, name: str) -> int:
    """The pid that a pid file of the data directory names."""
    return int((data_dir / name).read_text())


def supervisor_pid(server: EmbeddedRedis) -> int:
    return pid_in(server.data_dir, "supervisor.pid")


def server_pid(server: EmbeddedRedis) -> int:
    pid = server.pid
    assert pid is not None
    return pid


def answering_pid(url: str) -> int:
    """The pid of the server that answers."""
    with client(url) as connection:
        return int(connection.info("server")["process_id"])


def client(url: str) -> "redis.Redis[str]":
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5.0)


def put(url: str, key: str, value: str) -> None:
    with client(url) as connection:
        connection.set(key, value)


def get(url: str, key: str) -> object:
    with client(url) as connection:
        return connection.get(key)


def pongs(url: str) -> bool:
    try:
        with client(url) as connection:
            return bool(connection.ping())
    except redis.RedisError:
        return False


class User:
    """Another process that uses the embedded Redis of `data_dir`, from `begin` until `leave` or `kill`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        before: str = "",
        after: str = "",
        env: dict[str, str] | None = None,
        own_session: bool = False,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.url = ""
        self.server_pid = 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER.format(before=before, after=after), str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            text=True,
            start_new_session=own_session,
            pass_fds=pass_fds,
        )

    def begin(self) -> None:
        """Let it start; `wait_ready` returns when it has."""
        self._send("go")

    def wait_ready(self) -> "User":
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.url, self.server_pid = ready["url"], ready["pid"]
        return self

    def leave(self) -> None:
        """Let it close its share and end."""
        self._send("leave")
        assert self.process.wait(PATIENCE_S) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def __enter__(self) -> "User":
        self.begin()
        return self.wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
