"""Which files the embedded Redis keeps where, and that their directory is private."""

import hashlib
import os
import stat
from pathlib import Path

from ..errors import EmbeddedRedisError
from . import supervisor

# sun_path has 104 bytes on macOS and 108 on Linux, with the closing NUL.
LONGEST_SOCKET_PATH = 103
LOG_ROTATION_BYTES = 1_000_000


class Layout:
    """The files of one data directory. Those that the supervisor uses too have their names there."""

    def __init__(self, data_dir: Path, socket: Path) -> None:
        self.data_dir = data_dir
        self.socket = socket
        self.start_lock = data_dir / "start.lock"
        self.supervisor_lock = data_dir / "supervisor.lock"
        self.users_lock = data_dir / supervisor.USERS_LOCK
        self.server_lock = data_dir / supervisor.SERVER_LOCK
        self.supervisor_pid = data_dir / supervisor.SUPERVISOR_PID
        self.server_pid = data_dir / supervisor.SERVER_PID
        self.config = data_dir / supervisor.CONFIG
        self.log = data_dir / supervisor.LOG
        self.old_log = data_dir / f"{supervisor.LOG}.1"


def prepare(data_dir: Path) -> Layout:
    """Make `data_dir` (and the socket's directory) exist, ours and private (0700).

    Raises EmbeddedRedisError if it is not a directory, is another user's, is shared like /tmp, or is
    open to others and holds other files than ours.
    """
    data_dir = Path(os.path.realpath(data_dir.expanduser()))
    _make_private(data_dir)
    return Layout(data_dir, _socket_path(data_dir))


def read_pid(path: Path) -> int | None:
    """The process id in a pid file, None if there is none. It may be stale: only locks show which process lives."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        _refuse_foreign(folder, found)
        if stat.S_IMODE(found.st_mode) != 0o700:
            _refuse_others_files(folder)
            folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedRedisError(f"data directory {folder} cannot be used: {error}") from error


def _refuse_foreign(folder: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedRedisError(f"data directory {folder} is not a directory")
    if found.st_uid != os.geteuid():
        raise EmbeddedRedisError(
            f"data directory {folder} belongs to user id {found.st_uid}, and this process runs as "
            f"{os.geteuid()}: give a directory of this user's own"
        )
    if found.st_mode & stat.S_ISVTX or folder.parent == folder:
        raise EmbeddedRedisError(f"data directory {folder} is shared with others: give a directory within it")


def _refuse_others_files(folder: Path) -> None:
    """Closing a directory that holds other things, such as /var/lib or a project, would do harm."""
    if not (folder / supervisor.USERS_LOCK).exists() and any(folder.iterdir()):
        raise EmbeddedRedisError(
            f"data directory {folder} holds other files and is open to other users: "
            f"give a directory of its own, such as {folder / 'redis'}, or `chmod 700` it"
        )


def _socket_path(data_dir: Path) -> Path:
    beside_the_data = data_dir / supervisor.SOCKET
    if len(os.fsencode(beside_the_data)) <= LONGEST_SOCKET_PATH:
        return beside_the_data
    # Not $TMPDIR or $XDG_RUNTIME_DIR: every process must find the same path in any environment.
    ours = Path(f"/tmp/eventlog-{os.geteuid()}")
    folder = ours / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    _make_private(ours)
    _make_private(folder)
    return folder / supervisor.SOCKET
