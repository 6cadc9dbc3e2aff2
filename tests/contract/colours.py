"""One way to talk to both colours of the log, so that each test body is written once.

`SyncColour` passes calls on to `EventLog`. `AsyncColour` carries out the same calls on an `AsyncEventLog` whose event
loop runs in a thread of its own, and waits for the answer.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from eventlog import AsyncEventLog, Event, EventLog, Gap, create_async_event_log, create_event_log
from eventlog.errors import EventLogError
from eventlog.log.awaited import AsyncFollower
from eventlog.model import Audit, LogInfo, Page
from eventlog.runs.fold import StageView
from eventlog.runs.records import ReplayPage, RunsPage, RunSummary
from eventlog.telemetry.sample import Sample, TelemetryPage

T = TypeVar("T")
PATIENCE_S = 30.0


class Following(Protocol):
    """An iteration over what a log is given, in either colour."""

    @property
    def cursor(self) -> str: ...

    @property
    def epoch(self) -> str | None: ...

    def __iter__(self) -> Iterator[Event]: ...

    def close(self) -> None: ...


class Colour(Protocol):
    """The calls of a log, blocking, whatever its colour."""

    def append(self, *args: Any, **kwargs: Any) -> Event: ...

    def append_many(self, *args: Any, **kwargs: Any) -> list[Event]: ...

    def append_each(self, *args: Any, **kwargs: Any) -> list[Event | EventLogError]: ...

    def query(self, *args: Any, **kwargs: Any) -> list[Event]: ...

    def page(self, *args: Any, **kwargs: Any) -> Page: ...

    def get(self, event_id: str) -> Event: ...

    def follow(self, *args: Any, **kwargs: Any) -> Following: ...

    def runs(self, *args: Any, **kwargs: Any) -> RunsPage: ...

    def run(self, run_id: str) -> RunSummary: ...

    def replay(self, *args: Any, **kwargs: Any) -> list[Event]: ...

    def replay_page(self, *args: Any, **kwargs: Any) -> ReplayPage: ...

    def stages(self, run_id: str) -> list[StageView]: ...

    def push_telemetry(self, *args: Any, **kwargs: Any) -> list[Sample]: ...

    def telemetry(self, *args: Any, **kwargs: Any) -> TelemetryPage: ...

    def clear(self) -> int: ...

    def info(self) -> LogInfo: ...

    def set_retention(self, *, ttl_seconds: float | None = None, max_entries: int | None = None) -> LogInfo: ...

    def verify(self) -> Audit: ...

    def close(self) -> None: ...

    def shut(self) -> None:
        """Close the log and keep what drives it, so that it can be asked again."""

    @property
    def backend(self) -> str: ...

    @property
    def storage(self) -> Any:
        """The backend object underneath."""


class SyncColour:
    """The blocking log as it is."""

    def __init__(self, **options: Any) -> None:
        self.log: EventLog = create_event_log(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    @property
    def storage(self) -> Any:
        return self.log.core.backend

    def shut(self) -> None:
        self.log.close()


class AsyncColour:
    """The asyncio log, driven from outside."""

    def __init__(self, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self.log: AsyncEventLog = self.wait_for(_opened(options))
        except BaseException:
            self._end_loop()
            raise

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the log's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.log, name)
        return lambda *args, **kwargs: self.wait_for(method(*args, **kwargs))

    @property
    def backend(self) -> str:
        return self.log.backend

    @property
    def storage(self) -> Any:
        return self.log.core.backend

    def shut(self) -> None:
        self.wait_for(self.log.close())

    def follow(self, *args: Any, **kwargs: Any) -> "AsyncFollowing":
        return AsyncFollowing(self, self.log.follow(*args, **kwargs))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.wait_for(self.log.close())
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


async def _opened(options: dict[str, Any]) -> AsyncEventLog:
    return create_async_event_log(**options)


class AsyncFollowing:
    """`async for` as a plain iteration. `close` from another thread cancels the wait, as a cancelled task would."""

    def __init__(self, colour: AsyncColour, events: AsyncFollower) -> None:
        self._colour = colour
        self._events = events
        self._task: asyncio.Task[Event | None] | None = None
        self._closed = False

    @property
    def cursor(self) -> str:
        return self._events.cursor

    @property
    def epoch(self) -> str | None:
        return self._events.epoch

    def __iter__(self) -> Iterator[Event]:
        while (event := self._colour.wait_for(self._next())) is not None:
            yield event

    async def _next(self) -> Event | None:
        if self._closed:
            return None
        self._task = asyncio.ensure_future(anext(self._events, None))
        try:
            return await self._task
        except asyncio.CancelledError:
            return None

    def close(self) -> None:
        self._colour.wait_for(self._end())

    async def _end(self) -> None:
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._events.aclose()


class Gaps(list[Gap]):
    """Collects what `on_gap` is told."""

    def __call__(self, gap: Gap) -> None:
        self.append(gap)


class Reading:
    """A follower that runs in a thread and keeps what it was given. Use it with `with`."""

    def __init__(self, following: Following) -> None:
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._following = following
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        try:
            for event in self._following:
                self.events.append(event)
        except BaseException as error:
            self.error = error

    @property
    def ended(self) -> bool:
        """True once the iteration is over."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for the iteration to end by itself."""
        self._thread.join(PATIENCE_S)
        assert self.ended, f"the follower still runs; it was given {self.events}"
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A blocking follower notices within two seconds; that is one test's business, and no other waits for it.
        self._following.close()
        if self.error is not None and kind is None:
            raise self.error
