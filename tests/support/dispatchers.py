"""Both dispatchers behind one face, so that each test is written once; and sinks that wait until they may go on."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from eventlog.dispatch.backlog import DispatchStats
from eventlog.dispatch.dispatchers import AsyncEventDispatcher, EventDispatcher
from tests.support.redis_process import eventually

PATIENCE_S = 30.0


class Gate:
    """A sink that records what it is called with, and goes on when it is opened; at once but for those in `only`.

    It raises for those in `failing`.
    """

    def __init__(self, *, is_open: bool = False, only: frozenset[str] | None = None) -> None:
        self.began: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        self.failing: set[str] = set()
        self._only = only
        self._open = threading.Event()
        if is_open:
            self.open()

    def open(self) -> None:
        """Let all go on, and all that come."""
        self._open.set()

    @property
    def names(self) -> list[str]:
        """The events that were delivered, in order."""
        return [each["event_name"] for each in self.ended]

    def track(self, **given: Any) -> None:
        self.began.append(given)
        assert self._passes(given) or self._open.wait(PATIENCE_S)
        self._end(given)

    async def atrack(self, **given: Any) -> None:
        self.began.append(given)
        while not (self._passes(given) or self._open.is_set()):  # noqa: ASYNC110  (it is opened from other threads)
            await asyncio.sleep(0.002)
        self._end(given)

    def _passes(self, given: dict[str, Any]) -> bool:
        return self._only is not None and given["event_name"] not in self._only

    def _end(self, given: dict[str, Any]) -> None:
        if given["event_name"] in self.failing:
            raise ConnectionError("the sink is away")
        self.ended.append(given)


class Dispatching(Protocol):
    """Either dispatcher, blocking."""

    def dispatch(self, event_name: str, data: Any = None, operation_id: Any = None) -> None: ...

    def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool: ...

    def stats(self) -> DispatchStats: ...

    def end(self) -> None:
        """Let go of everything, at the end of a test."""


class Threads:
    """The blocking dispatcher as it is."""

    name = "threads"

    def __init__(self, sink: Any, **options: Any) -> None:
        self.inner = EventDispatcher(sink, **options)

    def dispatch(self, event_name: str, data: Any = None, operation_id: Any = None) -> None:
        self.inner.dispatch(event_name=event_name, data=data, operation_id=operation_id)

    def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        return self.inner.shutdown(wait, timeout_s=timeout_s)

    def stats(self) -> DispatchStats:
        return self.inner.stats()

    def end(self) -> None:
        self.inner.shutdown(timeout_s=0)


class Coroutines(Threads):
    """The blocking dispatcher before a coroutine function."""

    name = "coroutines"


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that runs on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def end(self) -> None:
        """Stop and close the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class Tasks:
    """The asyncio dispatcher on a loop of its own, driven from outside; events are handed over in the test's thread."""

    name = "tasks"

    def __init__(self, sink: Any, *, loop: Any = None, **options: Any) -> None:
        self._owns_loop = loop is None
        self.loop = loop or Loop()
        self.inner: AsyncEventDispatcher = self.loop.wait_for(self._made(sink, options))

    @staticmethod
    async def _made(sink: Any, options: dict[str, Any]) -> AsyncEventDispatcher:
        return AsyncEventDispatcher(sink, **options)

    def dispatch(self, event_name: str, data: Any = None, operation_id: Any = None) -> None:
        self.inner.dispatch(event_name=event_name, data=data, operation_id=operation_id)

    def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        answer: bool = self.loop.wait_for(self.inner.shutdown(wait, timeout_s=timeout_s))
        return answer

    def stats(self) -> DispatchStats:
        return self.inner.stats()

    def end(self) -> None:
        self.shutdown(timeout_s=0)
        if self._owns_loop:
            self.loop.end()


def until(dispatching: Dispatching, holds: Callable[[DispatchStats], object], what: str) -> None:
    """Wait until the dispatcher's counters are so."""
    eventually(lambda: holds(dispatching.stats()), what)
