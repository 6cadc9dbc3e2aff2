"""Who watches what a command uses while it runs. How that is measured, and where it is told, is not said here."""

from collections.abc import Callable
from typing import Protocol


class Watching(Protocol):
    """Watches a command and all that it starts, by itself, from a thread of its own."""

    def sample(self) -> object:
        """Look now, too."""

    def stop(self, timeout_s: float) -> object:
        """Tell what is not told yet, and end, within so many seconds. Idempotent."""


Watch = Callable[[int], Watching]
"""Begins to watch the process of this id."""


class _Nobody:
    def sample(self) -> None: ...

    def stop(self, timeout_s: float) -> None: ...


def unwatched(_: int) -> Watching:
    """Nobody watches."""
    return _Nobody()
