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
        self.supervisor_lock = data_dir / supervisor.SUPERVISOR_LOCK
        self.users_lock = data_dir / supervisor.USERS_LOCK
        self.server_lock = data_dir / supervisor.SERVER_LOCK
        self.supervisor_pid = data_dir / supervisor.SUPERVISOR_PID
        self.server_pid = data_dir / supervisor.SERVER_PID
        self.config = data_dir / supervisor.CONFIG
        self.log = data_dir / supervisor.LOG
        self.old_log = data_dir / f"{supervisor.LOG}.1"
        self.append_only = data_dir / supervisor.APPEND_ONLY
        self.snapshot = data_dir / "dump.rdb"


def prepare(data_dir: Path) -> Layout:
    """Make `data_dir` (and the socket's directory) exist, ours and private (0700).

    Raises EmbeddedRedisError if it is not a directory, is another user's, is shared like /tmp, is open to others and
    holds other files than ours, or has a link or another user's file where ours belong.
    """
    try:
        data_dir = Path(os.path.realpath(data_dir.expanduser()))
    except RuntimeError as error:  # an unknown user id without HOME, as containers have it
        raise EmbeddedRedisError(
            f"data directory {data_dir}: user id {os.geteuid()} has no home directory: give a directory in "
            "EVENTLOG_DATA_DIR, or the URL of a Redis in EVENTLOG_REDIS_URL"
        ) from error
    _make_private(data_dir)
    layout = Layout(data_dir, _socket_path(data_dir))
    _refuse_planted(layout)
    return layout


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


def _refuse_planted(layout: Layout) -> None:
    """A user that could write to the directory before it was private may have put links there, for us to follow."""
    ours = [path for path in vars(layout).values() if path != layout.data_dir]
    ours += [path.with_name(f"{path.name}{supervisor.HALF_DONE}") for path in ours]
    ours += layout.data_dir.glob("temp-*")
    if layout.append_only.is_dir():
        ours += layout.append_only.iterdir()
    for path in ours:
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
            what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else f"a file of user id {found.st_uid}"
            raise EmbeddedRedisError(
                f"data directory {layout.data_dir}: {path} is {what}, which is not followed or used: remove it, or "
                "give another directory"
            )


def _refuse_others_files(folder: Path) -> None:
    """Closing a directory that holds other things, such as /var/lib or a project, would do harm."""
    if not (folder / supervisor.USERS_LOCK).exists() and any(folder.iterdir()):
        raise EmbeddedRedisError(
            f"data directory {folder} holds other files and is open to other users: "
            f"give a directory of its own, such as {folder / 'redis'}, or `chmod 700` it"
        )


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _socket_path(data_dir: Path) -> Path:
    beside_the_data = data_dir / supervisor.SOCKET
    # In URLs a path is UTF-8, and a home directory of Latin-1 times is not.
    if len(os.fsencode(beside_the_data)) <= LONGEST_SOCKET_PATH and _is_utf8(beside_the_data):
        return beside_the_data
    # Not $TMPDIR or $XDG_RUNTIME_DIR: every process must find the same path in any environment.
    ours = Path(f"/tmp/eventlog-{os.geteuid()}")
    folder = ours / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    _make_private(ours)
    _make_private(folder)
    return folder / supervisor.SOCKET
