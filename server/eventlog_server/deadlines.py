"""Time limits for very many short waits, at the price of one timer for all of them.

`asyncio.timeout` sets a timer of its own each time, which costs as much as the rest of an append together. Here one
timer looks around every `TICK_S` while anybody waits, so a limit is kept to that precision.
"""

import asyncio
from types import TracebackType

TICK_S = 0.05


class Deadlines:
    """The limits of one event loop: `with deadlines.within(2.0): await …` raises `TimeoutError` when time is up."""

    def __init__(self) -> None:
        self._limits: set[Limit] = set()
        self._ticking = False

    def within(self, seconds: float) -> "Limit":
        """A limit for the current task, from the moment that its block is entered."""
        return Limit(self, seconds)

    def add(self, limit: "Limit", loop: asyncio.AbstractEventLoop) -> None:
        """Watch a limit."""
        self._limits.add(limit)
        if not self._ticking:
            self._ticking = True
            loop.call_later(TICK_S, self._tick, loop)

    def remove(self, limit: "Limit") -> None:
        """Its block has ended."""
        self._limits.discard(limit)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for limit in [limit for limit in self._limits if limit.ends_at <= now]:
            self._limits.remove(limit)
            limit.expire()
        self._ticking = bool(self._limits)
        if self._ticking:
            loop.call_later(TICK_S, self._tick, loop)


class Limit:
    """One block's limit. It cancels the task as `asyncio.timeout` does, and other cancellations pass it by."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_task", "ends_at", "seconds")

    _task: "asyncio.Task[object]"

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self.seconds = seconds
        self._expired = False
        self._cancelling = 0
        self.ends_at = 0.0

    def expire(self) -> None:
        """Time is up."""
        self._expired = True
        self._task.cancel()

    def restart(self, seconds: float) -> None:
        """End the block `seconds` from now, whatever was said before."""
        self.seconds = seconds
        self.ends_at = self._task.get_loop().time() + seconds

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        loop = task.get_loop()
        self.ends_at = loop.time() + self.seconds
        self._deadlines.add(self, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
