"""File locks between processes: flock, which the kernel frees however its holder dies."""

import fcntl
import os
from pathlib import Path

from ..plan.forks import call_in_child


class FileLock:
    """One open file description of a lock file: locks of the same file conflict also within a process.

    Nothing here blocks. The file stays when the lock goes: deleting it would let two hold "the" lock.
    With `shared_with_forks` a forked child holds the lock too, until it exits or releases its copy; without, it lets
    go of it: while a child held a copy of `start.lock`, no process could start a server.
    """

    def __init__(self, path: Path, *, shared_with_forks: bool = False) -> None:
        self._path = path
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not shared_with_forks:
            call_in_child(self.release)

    def fileno(self) -> int:
        """The file descriptor; ValueError after `release`."""
        if self._fd is None:
            raise ValueError("the lock was released")
        return self._fd

    @property
    def is_open(self) -> bool:
        """False after `release`."""
        return self._fd is not None

    def is_in_place(self) -> bool:
        """Whether the file still is where it was, neither deleted nor replaced."""
        try:
            return os.path.samestat(os.fstat(self.fileno()), os.stat(self._path))
        except OSError:
            return False

    def try_exclusive(self) -> bool:
        """Take, or convert to, the exclusive lock; if that fails, no lock is held."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take, or convert to, the shared lock; if that fails, no lock is held."""
        return self._try(fcntl.LOCK_SH)

    def release(self) -> None:
        """Close the file, which frees the lock unless a forked child shares it. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.fileno(), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether the lock at `path` is held at this instant."""
    try:
        with FileLock(path) as probe:
            return not probe.try_exclusive()
    except FileNotFoundError:
        return False  # its directory was deleted
