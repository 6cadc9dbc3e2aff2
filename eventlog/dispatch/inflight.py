"""Which calls have a place, who gives way to whom, and what became of each. Pure: knows neither threads nor clocks."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..errors import InvalidInput
from ..model.events import Body

DropReason = Literal["full", "displaced", "shutdown"]
_LONGEST_S = 86_400.0
_MOST = 1_000_000


class Terms(NamedTuple):
    """The bounds of a dispatcher. `capacity` counts calls in flight: those that wait and those that are being made."""

    max_workers: int
    capacity: int
    call_timeout_s: float
    drain_timeout_s: float

    @classmethod
    def of(
        cls, max_workers: int, inflight_oversubscription: int, call_timeout_s: float, drain_timeout_s: float
    ) -> "Terms":
        """Check what the user gave; raises `InvalidInput` naming what is wrong."""
        for name, count in (
            ("max_workers", max_workers),
            ("inflight_oversubscription", inflight_oversubscription),
        ):
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST:
                raise InvalidInput(name, f"{count!r} is not an integer from 1 to {_MOST}")
        return cls(
            max_workers,
            max_workers * inflight_oversubscription,
            checked_seconds("call_timeout_s", call_timeout_s, 0.001),
            checked_seconds("drain_timeout_s", drain_timeout_s, 0.0),
        )


def checked_seconds(name: str, seconds: float, least: float = 0.0) -> float:
    """A time-out as it is; raises `InvalidInput` for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds <= _LONGEST_S:
        raise InvalidInput(name, f"{seconds!r} is not a number of seconds from {least:g} to {_LONGEST_S:g}")
    return float(seconds)


class Call:
    """One event on its way. `body` is the event as our own log takes it, and None for other sinks."""

    __slots__ = ("body", "data", "deadline", "event_name", "is_terminal", "number", "operation_id")

    def __init__(
        self, event_name: str, data: Any = None, operation_id: str | None = None, *, is_terminal: bool = False
    ) -> None:
        self.event_name = event_name
        self.data = data
        self.operation_id = operation_id
        self.is_terminal = is_terminal
        self.body: Body | None = None
        self.number = 0
        self.deadline = 0.0

    @property
    def size(self) -> int:
        """Bytes of payload, where they are known."""
        return 0 if self.body is None else len(self.body.payload_json)


@dataclass(frozen=True, slots=True)
class DispatchStats:
    """Counters of a dispatcher since it was made. At any moment
    `dispatched == delivered + failed + timed_out + dropped_total + in_flight`.

    `dropped` counts by reason: `full` (no place), `displaced` (gave its place to a terminal event), `shutdown` (came
    after it, or still waited when its time was up). `high_water` is the most that was ever in flight. `late` of those
    that timed out came to an end after all; `hanging` workers are in such a call now.
    """

    dispatched: int
    delivered: int
    failed: int
    timed_out: int
    dropped: dict[DropReason, int]
    in_flight: int
    waiting: int
    high_water: int
    late: int
    hanging: int = 0

    @property
    def dropped_total(self) -> int:
        """Dropped for whatever reason."""
        return sum(self.dropped.values())


class Inflight:
    """At most `capacity` calls in flight, and as many terminal ones again, so that these are not lost before others.

    A terminal call that finds no place takes that of the oldest ordinary one that waits. Where none waits it has a
    place in the reserve, which is as large as `capacity`; only with that full too is it dropped. Calls are taken in the
    order in which they came. The caller sees to it that one thread at a time is in here.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ordinary: deque[Call] = deque()
        self._terminal: deque[Call] = deque()
        self._running: dict[Call, None] = {}  # in the order of their deadlines
        self._dropped: dict[DropReason, int] = {"full": 0, "displaced": 0, "shutdown": 0}
        self._number = 0
        self._delivered = 0
        self._failed = 0
        self._timed_out = 0
        self._late = 0
        self._high_water = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls that nobody has taken yet."""
        return len(self._ordinary) + len(self._terminal)

    @property
    def in_flight(self) -> int:
        """Calls that wait or are being made."""
        return len(self._ordinary) + len(self._terminal) + len(self._running)

    @property
    def closed(self) -> bool:
        """Whether new calls are refused."""
        return self._closed

    @property
    def next_deadline(self) -> float | None:
        """When the first of the calls that are being made is over its time."""
        return next(iter(self._running)).deadline if self._running else None

    def admit(self, call: Call) -> DropReason | None:
        """Give `call` a place. Says why a call was dropped for it: this one, or with `displaced` another."""
        if self._closed:
            return self._drop("shutdown")
        displaced: DropReason | None = None
        in_flight = self.in_flight
        if in_flight >= self._capacity:
            if not call.is_terminal:
                return self._drop("full")
            if self._ordinary:
                self._ordinary.popleft()
                displaced = self._drop("displaced")
            elif in_flight >= 2 * self._capacity:
                return self._drop("full")
        self._number += 1
        call.number = self._number
        (self._terminal if call.is_terminal else self._ordinary).append(call)
        self._high_water = max(self._high_water, self.in_flight)
        return displaced

    def _drop(self, reason: DropReason) -> DropReason:
        self._dropped[reason] += 1
        return reason

    def refuse(self) -> DropReason | None:
        """Count a call that the sink could never take as failed, and as dropped if it came after the end."""
        if self._closed:
            return self._drop("shutdown")
        self._failed += 1
        return None

    def take(self, most: int, most_bytes: int, deadline: float) -> list[Call]:
        """The calls to make next, in order: at most `most`, and `most_bytes` unless one alone is larger.

        They are over their time at `deadline`, which is never before that of calls taken earlier.
        """
        taken: list[Call] = []
        size = 0
        while len(taken) < most and (queue := self._next_queue()) is not None:
            call = queue[0]
            size += call.size
            if taken and size > most_bytes:
                break
            call.deadline = deadline
            self._running[call] = None
            queue.popleft()
            taken.append(call)
        return taken

    def _next_queue(self) -> deque[Call] | None:
        if not self._terminal:
            return self._ordinary or None
        if not self._ordinary or self._terminal[0].number < self._ordinary[0].number:
            return self._terminal
        return self._ordinary

    def settle(self, call: Call, *, delivered: bool) -> bool:
        """A call has come to its end. False if it was over its time by then, and so was counted already."""
        if call not in self._running:
            self._late += 1
            return False
        del self._running[call]
        if delivered:
            self._delivered += 1
        else:
            self._failed += 1
        return True

    def is_running(self, call: Call) -> bool:
        """Whether a call that was taken is still waited for."""
        return call in self._running

    def expire(self, call: Call) -> bool:
        """The time of a call is up: it counts as timed out, and its place is free. False if it had ended."""
        if call not in self._running:
            return False
        del self._running[call]
        self._timed_out += 1
        return True

    def overdue(self, now: float) -> list[Call]:
        """Calls whose deadline has passed; they are expired now."""
        late: list[Call] = []
        while self._running and (call := next(iter(self._running))).deadline <= now:
            self.expire(call)
            late.append(call)
        return late

    def close(self) -> None:
        """Refuse new calls from now on; those in flight go on."""
        self._closed = True

    def give_up(self) -> tuple[int, int]:
        """Wait for nothing any more: drops what waits, and what is being made has timed out. Says how many each."""
        self._closed = True
        waiting, running = self.waiting, len(self._running)
        self._ordinary.clear()
        self._terminal.clear()
        self._running.clear()
        self._dropped["shutdown"] += waiting
        self._timed_out += running
        return waiting, running

    def stats(self, hanging: int = 0) -> DispatchStats:
        """The counters as they are."""
        ended = self._delivered + self._failed + self._timed_out + sum(self._dropped.values())
        return DispatchStats(
            dispatched=ended + self.in_flight,
            delivered=self._delivered,
            failed=self._failed,
            timed_out=self._timed_out,
            dropped=dict(self._dropped),
            in_flight=self.in_flight,
            waiting=self.waiting,
            high_water=self._high_water,
            late=self._late,
            hanging=hanging,
        )
