"""Watching what a command uses while it runs: the interface. Measuring and sending samples is the caller's."""

from collections.abc import Callable
from typing import Protocol


class Watching(Protocol):
    """Watches a command and all that it starts, by itself, from a thread of its own."""

    def sample(self) -> object:
        """Look now, too."""

    def stop(self, timeout_s: float) -> object:
        """Send what is not sent yet, and end, within so many seconds. Idempotent."""


Watch = Callable[[int], Watching]
"""Begins to watch the process of this id."""


class _Unwatched:
    def sample(self) -> None: ...

    def stop(self, timeout_s: float) -> None: ...


def unwatched(_: int) -> Watching:
    """Watch nothing."""
    return _Unwatched()
