"""The events in flight: which wait, which are being delivered, which had to give way, and the counters. No I/O.

A signal handler or a finalizer may call a dispatcher in the middle of any method here, on the same thread. So the lock
is reentrant, and each method stays correct if another runs between two of its lines: at worst it decides by numbers
one event old. Counters change in statements without a call, inside which CPython runs no handler.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..model.events import Body
from ..plan.records import say_aside
from ..plan.threads import Waiters, free, held_lock

DropReason = Literal["full", "displaced", "shutdown"]
_DROPS: tuple[DropReason, ...] = ("full", "displaced", "shutdown")

_log = logging.getLogger("eventlog")

_WARN_EVERY_S = 5.0
_LONGEST_DETAIL = 300
_WARNINGS = {
    "full": "dropped, too many in flight",
    "displaced": "dropped for terminal events",
    "failed": "failed",
    "timed_out": "timed out",
    "given_up": "given up at shutdown",
}


@dataclass(slots=True, eq=False)
class Call:
    """One event in flight. `body` is the event as a log takes it, None for other sinks."""

    event_name: str
    data: Any
    operation_id: str | None
    is_terminal: bool
    body: Body | None = None
    number: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """The events that a worker delivers at once; `deadline` is on the monotonic clock."""

    calls: list[Call]
    deadline: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """`workers` deliver at once, as many as `hanging` more may hang in batches that were given up."""

    in_flight: int
    workers: int
    hanging: int
    batch_events: int
    batch_bytes: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DispatchStats:
    """Counters of a dispatcher since it was made.

    `dropped` counts by reason: `full` (no place), `displaced` (gave its place to a terminal event), `shutdown` (came
    after it, or still waited when its time was up). `high_water` is the most that was ever in flight. `late` of those
    that timed out came to an end after all; `hanging` workers are in such a call now.
    """

    delivered: int
    failed: int
    timed_out: int
    dropped: dict[DropReason, int]
    in_flight: int
    waiting: int
    high_water: int
    late: int
    hanging: int

    @property
    def dropped_total(self) -> int:
        """Dropped for whatever reason."""
        return sum(self.dropped.values())

    @property
    def dispatched(self) -> int:
        """All that were handed over: each is in flight, or counted once as what became of it."""
        return self.delivered + self.failed + self.timed_out + self.dropped_total + self.in_flight


class Backlog:
    """At most `bounds.in_flight` events, and as many terminal ones again, so that these are not lost before others.

    A terminal event that finds no place takes that of the oldest ordinary one that waits. Where none waits it has a
    place in the reserve; only with that full too is it dropped. Events are taken in the order in which they came.
    `work` is freed for one worker when there may be something to do, `emptied` is woken when nothing is in flight.
    """

    def __init__(self, bounds: Bounds, *, closed: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self.work = held_lock()
        self.emptied = Waiters()
        self.closed = closed
        self.gave_up = False
        self.hanging: set[Batch] = set()
        self._bounds = bounds
        self._clock = clock
        self._ordinary: deque[Call] = deque()
        self._terminal: deque[Call] = deque()
        self._running: dict[Batch, None] = {}  # in the order of their deadlines
        self._running_calls = 0
        self._number = 0
        self._high_water = 0
        self._counts = dict.fromkeys(("delivered", "late", "shutdown", *_WARNINGS), 0)
        self._unreported = dict.fromkeys(_WARNINGS, 0)
        self._has_news = False
        self._detail = ""
        self._warn_at = -math.inf

    @property
    def waiting(self) -> int:
        """Events that no worker has taken yet."""
        return len(self._ordinary) + len(self._terminal)

    @property
    def in_flight(self) -> int:
        """Events that wait or are being delivered."""
        return len(self._ordinary) + len(self._terminal) + self._running_calls

    @property
    def may_take(self) -> bool:
        """Whether one more worker may deliver."""
        running, bounds = len(self._running), self._bounds
        return running < bounds.workers and running + len(self.hanging) < bounds.workers + bounds.hanging

    def admit(self, call: Call) -> None:
        """Give `call` a place; or drop it, or another for it, and count that. Waits for nothing."""
        with self.lock:
            if self.closed:
                self._counts["shutdown"] += 1
            elif self._has_place(call):
                self._number += 1
                call.number = self._number
                (self._terminal if call.is_terminal else self._ordinary).append(call)
                in_flight = self.in_flight
                if in_flight > self._high_water:
                    self._high_water = in_flight
            else:
                self._count("full")
        if self.may_take:
            free(self.work)
        self.report()

    def _has_place(self, call: Call) -> bool:
        if self.in_flight >= self._bounds.in_flight:
            self.expire()  # a sink that holds up its event loop holds up the clock there too
        in_flight = self.in_flight
        if in_flight < self._bounds.in_flight:
            return True
        if not call.is_terminal:
            return False
        if self._drop(self._ordinary, "displaced"):
            self._add_news("displaced", 1)
            return True
        return in_flight < 2 * self._bounds.in_flight

    def _drop(self, waiting: deque[Call], what: str) -> bool:
        """Drop the oldest that waits there, and count it. False if none does."""
        try:
            # No call in between, after which an interrupt might leave one without the other.
            del waiting[0]
            self._counts[what] += 1
        except IndexError:
            return False
        return True

    def refuse(self, error: Exception) -> None:
        """Count an event that the sink could never take."""
        detail = _named(error)
        with self.lock:
            if self.closed:
                self._counts["shutdown"] += 1
            else:
                self._count("failed", 1, detail)
        self.report()

    def take(self) -> Batch | None:
        """What to deliver next; None where nothing waits, or no more workers may deliver."""
        with self.lock:
            if not (self.waiting and self.may_take):
                return None
            size = 0
            calls: list[Call] = []
            batch = Batch(calls, self._clock() + self._bounds.timeout_s)
            # From here on it is accounted for: what an interrupt leaves here times out.
            self._running[batch] = None
            while len(calls) < self._bounds.batch_events and size < self._bounds.batch_bytes and self._move(calls):
                size += 0 if calls[-1].body is None else len(calls[-1].body.payload_json)
            if not calls:
                self._running.pop(batch, None)
                return None
            if self.waiting and self.may_take:
                free(self.work)
            return batch

    def _move(self, calls: list[Call]) -> bool:
        """Move the oldest event that waits to `calls`."""
        waiting = self._ordinary
        if self._terminal and not (waiting and waiting[0].number < self._terminal[0].number):
            waiting = self._terminal
        try:
            moved = (waiting[0],)
            del waiting[0]
            calls += moved
            self._running_calls += 1
        except IndexError:
            return False
        return True

    def settle(self, batch: Batch, errors: Sequence[BaseException | None]) -> None:
        """A worker came to the end of its batch, in time or late. `errors` has None for what was delivered."""
        failures = [error for error in errors if error is not None]
        for error in failures:
            say_aside(_log.debug, "event dispatch: an event failed", exc_info=error)
        detail = _named(failures[-1]) if failures else ""
        calls, failed = len(batch.calls), len(failures)
        with self.lock:
            self.hanging.discard(batch)
            if not self._end(batch, delivered=calls - failed, failed=failed):
                self._counts["late"] += calls
            elif failed:
                self._detail = detail
                self._add_news("failed", failed)
        self.report()

    def _end(self, batch: Batch, delivered: int = 0, failed: int = 0, timed_out: int = 0) -> bool:
        """Free the places of a batch, and count what became of its events. False if that was done before."""
        counts, calls = self._counts, len(batch.calls)
        hanging = {batch} if timed_out else set()
        try:
            # No call in between, after which an interrupt might leave one without the others.
            del self._running[batch]
            self._running_calls -= calls
            counts["delivered"] += delivered
            counts["failed"] += failed
            counts["timed_out"] += timed_out
            self.hanging |= hanging
        except KeyError:
            return False
        free(self.work)  # one more may deliver, or all may end
        if not self.in_flight:
            self.emptied.wake()
        return True

    def expire(self) -> None:
        """Give up the batches whose time is up: their places are free, and their workers hang."""
        with self.lock:
            now = self._clock()
            for batch in list(self._running):
                if batch.deadline > now:
                    break
                self.time_out(batch)

    def time_out(self, batch: Batch) -> None:
        """Give up a batch. It may still come to an end, late."""
        with self.lock:
            calls = len(batch.calls)
            if self._end(batch, timed_out=calls):
                self._detail = f"no end within {self._bounds.timeout_s:g} s"
                self._add_news("timed_out", calls)

    def close(self) -> None:
        """Take no more events; those in flight are still delivered."""
        self.closed = True
        free(self.work)
        if not self.in_flight:
            self.emptied.wake()

    def give_up(self) -> None:
        """Wait for nothing any more: what waits is dropped, what is being delivered counts as timed out."""
        self.close()
        with self.lock:
            for waiting in (self._ordinary, self._terminal):
                while self._drop(waiting, "shutdown"):
                    self._given_up(1)
            for batch in list(self._running):
                calls = len(batch.calls)
                if self._end(batch, timed_out=calls):
                    self._given_up(calls)
        self.emptied.wake()

    def _given_up(self, calls: int) -> None:
        self.gave_up = True
        self._add_news("given_up", calls)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Block until nothing is in flight. Lets go of the lock, even in the middle of another method."""
        lock: Any = self.lock
        held = lock._release_save() if lock._is_owned() else None
        try:
            return self.emptied.wait_for(lambda: not self.in_flight, timeout_s)
        finally:
            if held is not None:
                lock._acquire_restore(held)

    def rest_s(self) -> float:
        """How long a worker may sleep that finds nothing to do: until something may be overdue, or is to be logged.

        What another worker takes meanwhile is not overdue before that.
        """
        with self.lock:
            first = next(iter(list(self._running)), None)
            wake_at = [math.inf if first is None else first.deadline, self._warn_at if self._has_news else math.inf]
            return min(self._bounds.timeout_s, max(min(wake_at) - self._clock(), 0.0))

    def stats(self) -> DispatchStats:
        """The counters as they are."""
        self.expire()
        with self.lock:
            return DispatchStats(
                delivered=self._counts["delivered"],
                failed=self._counts["failed"],
                timed_out=self._counts["timed_out"],
                dropped={reason: self._counts[reason] for reason in _DROPS},
                in_flight=self.in_flight,
                waiting=self.waiting,
                high_water=self._high_water,
                late=self._counts["late"],
                hanging=len(self.hanging),
            )

    def _count(self, what: str, calls: int = 1, detail: str = "") -> None:
        if calls:
            self._counts[what] += calls
            self._detail = detail or self._detail
            self._add_news(what, calls)

    def _add_news(self, what: str, calls: int) -> None:
        self._unreported[what] += calls
        self._has_news = True

    def report(self, *, at_once: bool = False) -> None:
        """Log what came to nothing: the first at once, what follows added up, at most every five seconds."""
        if not self._has_news or not (at_once or self._clock() >= self._warn_at):
            return
        with self.lock:
            self._has_news = False
            self._warn_at = self._clock() + _WARN_EVERY_S
            news, self._unreported = self._unreported, dict.fromkeys(_WARNINGS, 0)
            detail, self._detail = self._detail, ""
        # Outside the lock: nobody knows how long a log handler takes.
        text = ", ".join(f"{news[what]} {words}" for what, words in _WARNINGS.items() if news[what])
        if text:
            say_aside(_log.warning, "event dispatch: %s", f"{text} (last: {detail})" if detail else text)


def _named(error: BaseException) -> str:
    """An error in a few words. Not under the lock: the words are somebody else's code."""
    text = str(error)
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:_LONGEST_DETAIL]
