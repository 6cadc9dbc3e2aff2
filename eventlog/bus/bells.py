"""Waking readers on event loops from other threads: one call into a loop at a time, for all who may go on there."""

import asyncio
import threading
import weakref
from collections import deque
from typing import Protocol


class Sleeper(Protocol):
    """Whoever waits on a loop."""

    def wake_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let what waits on this loop go on; called on it."""


class LoopBells:
    """One bell a loop. Keeps neither loops nor sleepers alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Bell] = weakref.WeakKeyDictionary()

    def ring(self, loop: asyncio.AbstractEventLoop, sleeper: weakref.ref[Sleeper]) -> None:
        """Have the sleeper woken on its loop; nothing happens if that is closed."""
        with self._lock:
            bell = self._bells.get(loop)
            if bell is None:
                bell = self._bells[loop] = _Bell()
        bell.rung.append(sleeper)
        if bell.pending:
            return  # the call that is under way looks at `rung` after it has taken this back
        bell.pending = True
        try:
            loop.call_soon_threadsafe(bell.wake, loop)
        except RuntimeError:  # the loop is closed, and nobody waits there any more
            bell.rung.clear()
            bell.pending = False


class _Bell:
    def __init__(self) -> None:
        self.rung: deque[weakref.ref[Sleeper]] = deque()
        self.pending = False

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pending = False
        for _ in range(len(self.rung)):
            sleeper = self.rung.popleft()()
            if sleeper is not None:
                sleeper.wake_on(loop)
