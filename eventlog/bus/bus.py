"""The event bus that users call: over a log, or of its own."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self

from ..errors import InvalidInput, LogClosed, RejectedContent
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..model.events import DEFAULT_LANE, DEFAULT_PAYLOAD_MAX_BYTES, Body, Event
from ..model.filters import EventFilter
from ..model.guard import ContentGuard
from ..model.log_values import Gap
from ..model.numbers import checked_integer
from ..plan.forks import OfOneProcess, call_in_child
from ..plan.records import is_aside
from .emission import Emission
from .fanout import BusStats
from .local import LocalBus
from .port import running_loop
from .selection import Selection
from .shared import SharedBus
from .subscription import Subscription

_LARGEST = 10_000_000

Emittable = Event | Body | Mapping[str, Any]
"""What `emit` takes: an event, a checked `Body`, or a mapping with the names of `append`."""


class EventBus(OfOneProcess):
    """Publish and subscribe, for threads and for tasks of any event loops at once.

    Without a `log` the bus is this process' own: an event is queued for every subscriber when `emit` returns, and the
    newest `max_history` events are kept. Over a `log` it is the log's: `emit` appends, and subscribers in any process
    are given what any process appended, in the order of the log. An `AsyncEventLog` needs the bus to be made on its
    event loop; that loop does the bus' work. A forked child may go on with the bus; subscriptions that it inherits end.

    A producer never waits for subscribers. For each at most `max_queue_size` events are queued. What does not fit, a
    subscriber reads from the history or the log once it has come so far; what is gone by then is reported exactly.
    Events that end a run are always given.

    `guard` screens what is emitted, beside the log's own guard; by default a bus without a log has `ContentGuard()`.
    `patience_s` is for how long subscribers wait for a Redis that is away. Raises `InvalidInput`.
    """

    def __init__(
        self,
        max_queue_size: int = 1000,
        max_history: int = 10_000,
        *,
        log: EventLog | AsyncEventLog | None = None,
        guard: ContentGuard | None = None,
        patience_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        checked_integer("max_queue_size", max_queue_size, 1, _LARGEST)
        checked_integer("max_history", max_history, 0, _LARGEST)
        if isinstance(patience_s, bool) or not isinstance(patience_s, int | float) or not patience_s >= 0:
            raise InvalidInput("patience_s", f"{patience_s!r} is not a number of seconds")
        if not isinstance(log, EventLog | AsyncEventLog | None):
            raise InvalidInput("log", f"a {type(log).__name__} is neither an EventLog nor an AsyncEventLog")
        self._guard = ContentGuard() if guard is None and log is None else guard
        self._payload_max_bytes = DEFAULT_PAYLOAD_MAX_BYTES if log is None else log.core.limits.payload_max_bytes
        self._lock = threading.RLock()
        self._emitted = 0
        self._refused = 0
        self._next_seqs: dict[str, int] = defaultdict(int)
        self._closed = False
        self._source: LocalBus | SharedBus = (
            LocalBus(max_queue_size, max_history, clock) if log is None else SharedBus(log, max_queue_size, patience_s)
        )
        call_in_child(self._start_over)

    def emit(self, event: Emittable) -> Emission:
        """Publish an event, from anywhere; the answer carries `event`, and may be awaited for it.

        An `Event` given to a bus without a log is kept as it is; otherwise the bus, or the log, gives id, offset and
        seq. An event that the guard refuses is not published and the answer is None. Off event loops the event is
        published when this returns. On one, over a log that would block, it is published when the answer was awaited,
        in the order of the calls all the same; 20,000 may be under way, then `Overloaded` is raised. So it is in a
        signal handler or finalizer that interrupts a bus without a log: the event is published as that bus goes on.

        Raises `InvalidInput` for what is no event, `LogClosed` after `close`, and what `append` raises.
        """
        given = self._screened(event)
        if given is None:
            return Emission()
        source = self._source
        if source.must_not_block:
            future = source.emit_soon(given)
            future.add_done_callback(self._count_emission)
            return Emission(future=future)
        return Emission(self._emit_now(given))

    def emit_sync(self, event: Emittable) -> Event | None:
        """As `emit`, published when it returns, wherever that is called; None if the event was refused.

        In a signal handler or finalizer that interrupts a bus without a log it is published just after, and None too.
        """
        if isinstance(self._source, LocalBus) and self._source.must_not_block:
            return self.emit(event).event
        given = self._screened(event)
        return None if given is None else self._emit_now(given)

    def _screened(self, event: Emittable) -> Event | Body | None:
        if self._closed:
            raise LogClosed("the bus was closed")
        if is_aside.get():
            return None
        body = _body_of(event, self._payload_max_bytes)
        if self._guard is not None:
            try:
                screened = self._guard.screen(body)
            except RejectedContent:
                self._count(refused=1)
                return None
            if screened is not body:
                body = screened.within(self._payload_max_bytes)
                event = Event(*event.position, body, event.seq) if isinstance(event, Event) else body
        return event if isinstance(event, Event) else body

    def _emit_now(self, given: Event | Body) -> Event | None:
        try:
            event = self._source.emit(given)
        except RejectedContent:
            self._count(refused=1)
            return None
        with self._lock:
            self._emitted += 1
        return event

    def _count_emission(self, future: "Future[Event]") -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        self._count(emitted=error is None, refused=isinstance(error, RejectedContent))

    def _count(self, emitted: int = 0, refused: int = 0) -> None:
        with self._lock:
            self._emitted += emitted
            self._refused += refused

    def subscribe(
        self,
        visibility: str | None = None,
        lane_id: str | None = None,
        kinds: str | Iterable[str] | None = None,
        run_id: str | None = None,
        *,
        replay: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Subscription:
        """Subscribe from now on, after what is there already; `replay=False` leaves that out.

        `visibility` is a ceiling, `kinds` are kinds and prefixes such as `tool.*`. With a `run_id` the subscription
        ends after that run's first terminal event, which passes `kinds` and `lane_id`; at once if that is past and
        gone. Without one it ends when the bus is closed; on a bus without a log also after a terminal event that names
        no run. What is missed goes to `on_gap`, by default to a logged warning.

        Over a log it stands in the log when this returns; on an event loop, soon after: what this bus emits is not
        missed in between, and `async with` waits for it. Raises `InvalidInput`.
        """
        unnamed = isinstance(self._source, LocalBus)
        selection = Selection(visibility, lane_id, kinds, run_id, ends_unnamed=unnamed)
        return self._source.subscribe(selection, on_gap, replay)

    def replay(self, run_id: str | None = None, lane_id: str | None = None, since_seq: int = 0) -> list[Event]:
        """The events that are there, in order; with `since_seq` those with a higher seq. Over a log this blocks."""
        return self._source.events(run_id=run_id, lane_id=lane_id, since_seq=since_seq)

    async def areplay(self, run_id: str | None = None, lane_id: str | None = None, since_seq: int = 0) -> list[Event]:
        """`replay` for event loops."""
        return await self._source.aevents(run_id=run_id, lane_id=lane_id, since_seq=since_seq)

    def next_seq(self, lane_id: str = DEFAULT_LANE) -> int:
        """Reserve the next seq of a lane, 1, 2, 3, …, for producers that build `Event`s. A log gives its own."""
        EventFilter.of(lane_id=lane_id)
        with self._lock:
            # In one statement: a signal handler may ask in between.
            seq = self._next_seqs[lane_id] = self._next_seqs[lane_id] + 1
            return seq

    @property
    def history_size(self) -> int:
        """How many events are there for late subscribers. Over a log this asks the log, blocking."""
        return self._source.history_size

    @property
    def subscriber_count(self) -> int:
        """How many subscribe to this object."""
        return self._source.subscriber_count

    def stats(self) -> BusStats:
        """Counters since it was made."""
        with self._lock:
            emitted, refused = self._emitted, self._refused
        return self._source.stats(emitted, refused)

    def close(self) -> "Closing":
        """Take nothing any more; subscribers end when they have been given what there is. Idempotent.

        Does not close the log. On an event loop, await the answer: what is under way has been emitted then.
        """
        self._closed = True
        if isinstance(self._source, LocalBus) or running_loop() is None:
            self._source.close()
            return Closing()
        return Closing(asyncio.get_running_loop().run_in_executor(None, self._source.close))

    def _start_over(self) -> None:
        self._lock = threading.RLock()
        self._source.start_over()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Closing:
    """The answer to `close`: done already, or to be awaited."""

    def __init__(self, future: "asyncio.Future[None] | None" = None) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        if self._future is not None:
            yield from self._future.__await__()


def _body_of(event: object, payload_max_bytes: int) -> Body:
    if isinstance(event, Event):
        return event.body.within(payload_max_bytes)
    if isinstance(event, Body):
        return event.within(payload_max_bytes)
    return Body.from_mapping(event, payload_max_bytes=payload_max_bytes)
