"""`EventDispatcher` and its asyncio twin: hand over an event and go on."""

import weakref
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from ..errors import InvalidInput
from ..model.numbers import checked_seconds
from ..plan.forks import OfOneProcess, call_in_child
from ..plan.records import is_aside
from .backlog import Backlog, DispatchStats
from .sinks import LONGEST_S, IsTerminal, Sink, is_terminal_kind
from .tasks import Tasks
from .threads import LoopThread, Threads


class _Dispatcher(OfOneProcess, ABC):
    """What both have in common. `_workers` bring the events of their backlog to the sink."""

    _workers: Threads | Tasks

    def __init__(
        self,
        track_event: object,
        max_workers: int = 10,
        inflight_oversubscription: int | None = None,
        *,
        call_timeout_s: float = 10.0,
        drain_timeout_s: float = 5.0,
        is_terminal: IsTerminal = is_terminal_kind,
    ) -> None:
        self._sink = Sink(track_event, is_terminal)
        self._bounds = self._sink.bounds(max_workers, inflight_oversubscription, call_timeout_s)
        self._drain_timeout_s = checked_seconds("drain_timeout_s", drain_timeout_s, 0, LONGEST_S)
        self._begin()
        call_in_child(self._workers.begin_anew)

    @abstractmethod
    def _begin(self) -> None: ...

    def dispatch(self, *, event_name: str, data: Any = None, operation_id: str | None = None) -> None:
        """Take an event as it is now, and return at once. What becomes of it is in `stats()`; it raises for nothing.

        For a log the event is encoded here; for other sinks a mapping is copied, not what it holds. It is not awaited,
        and may be called from any thread. A logging handler that hands over what dispatchers themselves log, of events
        that came to nothing, hands over nothing: that would never end.
        """
        if is_aside.get():
            return
        backlog = self._workers.backlog
        try:
            call = self._sink.call_of(event_name, data, operation_id)
        except Exception as error:
            backlog.refuse(error)
        else:
            backlog.admit(call)
            self._workers.wake()

    def stats(self) -> DispatchStats:
        """Counters since it was made. A forked child counts its own."""
        return self._workers.backlog.stats()

    def _timeout(self, given: float | None) -> float:
        return self._drain_timeout_s if given is None else checked_seconds("timeout_s", given, 0, LONGEST_S)


class EventDispatcher(_Dispatcher):
    """Brings events to `track_event` in daemon threads, so that their producer never waits for it.

    `track_event` is a callable that takes `event_name`, `data` and `operation_id` by name, an object that has such a
    method, or an `EventLog` or `EventLogClient`, which gets the events in batches, in the order of dispatch: kind
    `event_name`, payload `data`, run `operation_id`. Other sinks get one event a call, in order if `max_workers` is 1.
    A coroutine function runs on an event loop in a thread of the dispatcher.

    At most `max_workers * inflight_oversubscription` events are in flight, waiting or being delivered; over that they
    are dropped, counted and warned about. `inflight_oversubscription` is 4 unless given, and 400 for logs and their
    clients, which take hundreds at once: 40 and 4000 events with ten workers. A terminal event
    (`is_terminal(event_name)`; by default the kinds that end a run) takes the place of the oldest ordinary one that
    waits instead; where none does, it waits beside, as many of them as may be in flight. A delivery that takes longer
    than `call_timeout_s` seconds is given up. Safe under threads, in signal handlers and across `fork`. Raises
    `InvalidInput` for a sink or a number that is none.
    """

    def _begin(self) -> None:
        if self._sink.is_log and self._sink.is_awaited:
            raise InvalidInput("track_event", "is for asyncio: give it to an AsyncEventDispatcher")
        workers = LoopThread if self._sink.is_awaited else Threads
        self._workers: Threads = workers(self._sink, self._bounds, self._drain_timeout_s)
        # One that is forgotten takes nothing any more, and what it has taken is delivered.
        weakref.finalize(self, self._workers.retire).atexit = False

    def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        """Take no more events and deliver those in flight, within `timeout_s` seconds (`drain_timeout_s` unless given).

        What is in flight then is given up: dropped if it still waited, else counted as timed out. True if nothing was
        given up, by this shutdown or an earlier one. With `wait=False`, or called by the sink, it returns at once, and
        they are delivered in the background; what a coroutine function has not ended is given up and cancelled by
        `wait=False`. Idempotent; it is called at the end of the process too.
        """
        return self._workers.shutdown(self._timeout(timeout_s), wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


class AsyncEventDispatcher(_Dispatcher):
    """Brings events to `track_event` in tasks of one event loop: the one that it is made, or first used, on.

    `track_event` is a coroutine function, an object with such a method, or an `AsyncEventLog` or `AsyncEventLogClient`.
    A plain function is called on the loop, and what it returns is awaited if it can be: it must not block. Bounds,
    drops, order and terminal events are those of `EventDispatcher`. A delivery that takes longer than `call_timeout_s`
    seconds is cancelled. Use `async with`, or `await shutdown()` before the loop ends: what is in flight then is lost
    with the loop, and counted.
    """

    def _begin(self) -> None:
        if self._sink.is_log and not self._sink.is_awaited:
            raise InvalidInput("track_event", "blocks: give it to an EventDispatcher")
        self._workers: Tasks = Tasks(self._sink, self._bounds, Backlog(self._bounds))
        self._workers.wake()

    def stats(self) -> DispatchStats:
        """Counters since it was made. A forked child counts its own."""
        if self._workers.is_bound:
            self._workers.wake()  # What waits for a loop that was closed is given up by that.
        return super().stats()

    async def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        """See `EventDispatcher.shutdown`. What is given up is cancelled."""
        return await self._workers.shutdown(self._timeout(timeout_s), wait=wait)

    async def __aenter__(self) -> Self:
        self._workers.wake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()
