"""Lending the terminal to a process group. A group reads from its terminal only while that is lent to it."""

import contextlib
import os
import signal
from collections.abc import Iterator


class Terminal:
    """Our controlling terminal, if we have one. It is lent only if it is ours to lend."""

    def __init__(self) -> None:
        self._lent = False
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def lend(self, group: int) -> bool:
        """Let the process group `group` read and write; returns whether it may."""
        if not self._lent and self._is_with(os.getpgrp()):
            self._lent = self._give(group)
        return self._lent

    def take_back(self) -> bool:
        """Returns whether it was lent. Idempotent."""
        lent, self._lent = self._lent, False
        return lent and self._give(os.getpgrp())

    def close(self) -> None:
        """Take it back for good."""
        self.take_back()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_with(self, group: int) -> bool:
        with contextlib.suppress(OSError):
            return self._fd >= 0 and os.tcgetpgrp(self._fd) == group
        return False

    def _give(self, group: int) -> bool:
        with _undisturbed(), contextlib.suppress(OSError):
            os.tcsetpgrp(self._fd, group)
            return True
        return False


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A process that passes the terminal on without having it is stopped, unless it blocks SIGTTOU."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
