"""`EventDispatcher`: hand over an event and go on. `crew.py` has the threads that bring it to the sink."""

import weakref
from types import TracebackType
from typing import Any, Self

from .crew import Crew
from .delivery import IsTerminal, is_terminal_kind, sink_of
from .inflight import DispatchStats, Terms, checked_seconds


class EventDispatcher:
    """Brings events to `track_event` in daemon threads, so that who produces them never waits for it.

    `track_event` is a callable that takes `event_name`, `data` and `operation_id` by name, an object that has such a
    method, or an `EventLog` or `EventLogClient`, which gets the events in batches, in the order of dispatch: kind
    `event_name`, payload `data`, run `operation_id`. Other sinks get one event a call, in order if `max_workers` is 1.

    At most `max_workers * inflight_oversubscription` events are in flight, waiting or being delivered; over that they
    are dropped, counted and warned about. `inflight_oversubscription` is 4 unless given, and 400 for logs and their
    clients, which take hundreds at once: 40 and 4000 events with ten workers. A terminal event
    (`is_terminal(event_name)`; by default the kinds that end a run) takes the place of the oldest ordinary one that
    waits instead; where none does, it waits beside, as many of them as may be in flight. A delivery that takes longer
    than `call_timeout_s` seconds is given up. Safe under threads, in signal handlers and across `fork`. Raises
    `InvalidInput` for a sink or a number that is none.
    """

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
        self._sink = sink_of(track_event, is_terminal, max_workers, asynchronous=False)
        each = self._sink.oversubscription if inflight_oversubscription is None else inflight_oversubscription
        terms = Terms.of(max_workers, each, call_timeout_s, drain_timeout_s)
        self._crew = Crew(self._sink, terms)
        # One that is forgotten takes nothing any more, and what it has taken is delivered.
        weakref.finalize(self, self._crew.retire).atexit = False

    def dispatch(self, *, event_name: str, data: Any = None, operation_id: str | None = None) -> None:
        """Take an event as it is now, and return at once. What becomes of it is in `stats()`; it raises for nothing.

        For a log the event is encoded here; for other sinks a mapping is copied, not what it holds.
        """
        try:
            call = self._sink.call_of(event_name, data, operation_id)
        except Exception as error:
            self._crew.refuse(error)
        else:
            self._crew.dispatch(call)

    def shutdown(self, wait: bool = True, *, timeout_s: float | None = None) -> bool:
        """Take no more events and deliver those in flight, within `timeout_s` seconds (`drain_timeout_s` unless given).

        What is in flight then is given up: dropped if it still waited, else counted as timed out. True if there was
        nothing to give up. With `wait=False`, or called by the sink, it returns at once, and they are delivered in the
        background. Idempotent; it is called at the end of the process too.
        """
        timeout_s = self._crew.terms.drain_timeout_s if timeout_s is None else checked_seconds("timeout_s", timeout_s)
        return self._crew.shutdown(timeout_s, wait=wait)

    def stats(self) -> DispatchStats:
        """Counters since it was made. A forked child counts its own."""
        return self._crew.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
