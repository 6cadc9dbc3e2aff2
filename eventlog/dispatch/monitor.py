"""A lock for acts that must not overlap, of which signal handlers and destructors may ask for one at any moment."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Monitor:
    """Carries out one act at a time. Acts are short: they wait for nothing.

    An act that is asked for in the middle of another by the same thread, which happens where a signal handler or a
    destructor interrupts it, is carried out after that one; to wait for it would be to wait for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Held during an act. A lock and not a flag: whatever interrupts the act, `with` lets go of it.
        self._acting = threading.Lock()
        self._postponed: deque[Callable[[], object]] = deque()

    def perform(self, act: Callable[[], T]) -> T | None:
        """Carry out `act` and return what it returns, or None where it had to be postponed."""
        with self._lock:
            if self._acting.locked():
                self._postponed.append(act)
                return None
            # There are some only where the act that they interrupted failed.
            self._catch_up()
            with self._acting:
                result = act()
            self._catch_up()
            return result

    def _catch_up(self) -> None:
        while self._postponed:
            with self._acting:
                self._postponed.popleft()()

    def read(self, look: Callable[[], T]) -> T:
        """Look at what acts change. In the middle of an act of the same thread it is seen as it is."""
        with self._lock:
            return look()
