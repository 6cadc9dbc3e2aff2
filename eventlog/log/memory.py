"""The log in this process' memory: the reference that the Redis backend is held against. Keeps nothing on disk."""

import bisect
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import TypeVar

from ..errors import Conflict
from ..model.events import Body, Event
from ..model.ids import MAX_COUNTER, ZERO, Cursor, EventId
from ..model.log_values import (
    Append,
    Audit,
    LogState,
    Outcome,
    ReadRequest,
    RunRecord,
    RunsRequest,
    RunsSegment,
    Segment,
)
from ..model.retention import Retention
from ..plan.drive import no_transport, run
from ..plan.effects import Park, Plan, at_once
from ..slots.memory import MemorySlots
from ..telemetry.memory import MemoryTelemetry
from ..telemetry.ring import Rings, RunFacts
from ..telemetry.terms import RingTerms
from .consumer import FollowingConsumer

T = TypeVar("T")
_TAIL_BATCH = 1000
_RECORD_BYTES = 200


class _Run:
    """What is known of a run while one of its events is visible."""

    def __init__(self) -> None:
        self.last = ZERO
        self.lanes: dict[str, int] = {}
        self.first: Event | None = None
        self.ended_by: Event | None = None
        self.count = 0
        self.events: list[Event] = []
        self.facts = RunFacts()

    def add(self, event: Event) -> None:
        self.last = event.position
        self.count += 1
        self.first = self.first or event
        if event.is_terminal and self.ended_by is None:
            self.ended_by = event
            self.facts.ended = True
        self.facts.last_ms = event.position.ms
        self.events.append(event)

    def record(self, run_id: str, now: int) -> RunRecord:
        ended = self.ended_by
        first = self.last if self.first is None else self.first.position
        return RunRecord(
            run_id=run_id,
            first=first,
            last=self.last,
            events=self.count,
            lanes=dict(self.lanes),
            ended=None if ended is None else ended.kind,
            ended_at=None if ended is None else ended.position,
            now_ms=now,
        )


class MemoryBackend:
    """Complete, thread-safe, with an injectable `clock` in seconds since the Unix epoch."""

    name = "memory"
    stream_key: str | None = None

    def __init__(self, retention: Retention, clock: Callable[[], float] = time.time) -> None:
        self.retention = retention
        self.clock = clock
        self._lock = threading.Lock()
        self._slots: MemorySlots | None = None
        self._wakers: set[Callable[[], None]] = set()
        self.forget_everything()

    def forget_everything(self) -> None:
        """Lose the log, as a wiped Redis would: the next append begins a new incarnation."""
        with self._lock:
            self._epoch = ""
            self._born = 0
            self._last = ZERO
            self._cleared = 0
            self._events: list[Event] = []
            self._runs: dict[str, _Run] = {}
            self._rings = Rings()
            self._earlier: OrderedDict[str, tuple[int, list[Event]]] = OrderedDict()

    @at_once
    def append(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        """Carried out at once under one lock; `call_number` is not needed, as no reply can be lost."""
        with self._lock:
            outcomes = [self._append(append) for append in appends]
            wakers = list(self._wakers)
        for wake in wakers:
            wake()
        return outcomes

    def _append(self, append: Append) -> Outcome:
        now = self._now()
        if append.key is not None and (earlier := self._duplicate(append.key, now)) is not None:
            return earlier
        expected = append.expected_offset
        if expected is not None and expected != self._last.offset and self._adds_any(append, now):
            return Conflict(expected, self._last.offset)
        events = [self._add(body, now) for body in append.bodies]
        if append.key is not None:
            self._remember(append.key, now, events)
        return _handed_out(events)

    def _adds_any(self, append: Append, now: int) -> bool:
        """False if every event is a duplicate: a retry is answered, wherever the log ends by now."""
        keys = (body.idempotency_key for body in append.bodies)
        return any(key is None or self._duplicate(key, now) is None for key in keys)

    def _add(self, body: Body, now: int) -> Event:
        key = body.idempotency_key
        if key is not None and (earlier := self._duplicate(key, now)) is not None:
            return earlier[0]
        if not self._epoch:
            self._epoch, self._born = uuid.uuid4().hex, now + 1
            self._last = EventId(self._born, 0)
        self._last = EventId(max(now, self._last.ms), self._last.offset + 1)
        seq = None
        run = None
        if body.run_id is not None and body.lane_id is not None:
            run = self._run(body.run_id, now)
            seq = run.lanes[body.lane_id] = run.lanes.get(body.lane_id, 0) + 1
        event = Event(*self._last, body, seq)
        self._events.append(event)
        if run is not None:
            run.add(event)
            if run.ended_by is not None:
                self._rings.outlive(str(body.run_id), event.position.ms, now)
        if key is not None:
            self._remember(key, now, [event])
        self._evict(now)
        return event

    def _run(self, run_id: str, now: int) -> _Run:
        run = self._runs.get(run_id)
        # The event being added has its offset already: a run lives on if it had one visible just before.
        if (
            run is None
            or run.last.ms <= now - self.retention.ttl_ms
            or run.last.offset <= self._floor(self._last.offset - 1)
        ):
            run = self._runs[run_id] = _Run()
        return run

    def _duplicate(self, key: str, now: int) -> list[Event] | None:
        while self._earlier:
            oldest = next(iter(self._earlier.values()))
            if oldest[0] > now - self.retention.window_ms:
                break
            self._earlier.popitem(last=False)
        found = self._earlier.get(key)
        return None if found is None else [event.as_duplicate() for event in found[1]]

    def _remember(self, key: str, now: int, events: list[Event]) -> None:
        self._earlier[key] = (now, events)

    @at_once
    def read(self, request: ReadRequest) -> Segment:
        """See `Backend.read`."""
        with self._lock:
            return self._read(request)

    def _read(self, request: ReadRequest) -> Segment:
        now = self._now()
        self._evict(now)
        state = self._state(now)
        since = request.since
        holds = since is not None and self._holds(since)
        if since is not None and request.epoch and request.epoch != self._epoch:
            # Only an event that is younger than this log can be in it.
            holds = holds and since.ms is not None and since.ms > self._born
            since = since if holds else Cursor(0, 0)
        start = self._after(since)
        following = self._events[start].position if start < len(self._events) else None
        source = self._events
        if request.run_id is not None:
            run = self._runs.get(request.run_id)
            source = [] if run is None else run.events
            if request.index is not None:
                source = list(filter(request.index.matches, source))
            floor = EventId(0, 0) if start == 0 or start > len(self._events) else self._events[start - 1].position
            start = bisect.bisect_right(source, floor, key=_position) if start else 0
        if request.from_ms:
            start = max(start, bisect.bisect_left(source, EventId(request.from_ms, 0), key=_position))
        stop = len(source) if request.until is None else self._before(source, request.until)
        if request.count == 0:
            return Segment(state, [], following, True, None, holds)
        if request.descending:
            found = list(islice(reversed(source[start:stop]), request.count))
        else:
            found = source[start:stop][: request.count]
        reached = found[-1].position if found else None
        return Segment(state, _handed_out(found), following, len(found) < request.count, reached, holds)

    def _holds(self, cursor: Cursor) -> bool:
        at = self._after(cursor) - 1
        return at >= 0 and self._events[at].position == (cursor.ms, cursor.offset)

    def _after(self, cursor: Cursor | None) -> int:
        if cursor is None:
            return 0
        if cursor.ms is None:
            return bisect.bisect_right(self._events, cursor.offset, key=_offset)
        return bisect.bisect_right(self._events, EventId(cursor.ms, cursor.offset), key=_position)

    @staticmethod
    def _before(source: list[Event], cursor: Cursor) -> int:
        if cursor.ms is None:
            return bisect.bisect_left(source, cursor.offset, key=_offset)
        return bisect.bisect_left(source, EventId(cursor.ms, cursor.offset), key=_position)

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """Parks until something is appended."""

        def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
            with self._lock:
                self._wakers.add(wake)
                missed = self._last > after
            if missed:
                wake()
            return lambda: self._wakers.discard(wake)

        yield Park(subscribe, timeout_s)
        with self._lock:
            start = self._after(Cursor(*after))
            return _handed_out(self._events[start : start + _TAIL_BATCH])

    @at_once
    def run(self, run_id: str) -> RunRecord | None:
        """See `Backend.run`."""
        with self._lock:
            now = self._now()
            self._evict(now)
            run = self._runs.get(run_id)
            return None if run is None else run.record(run_id, now)

    @at_once
    def runs(self, request: RunsRequest) -> RunsSegment:
        """See `Backend.runs`."""
        with self._lock:
            now = self._now()
            self._evict(now)
            below = MAX_COUNTER if request.below is None else request.below
            listed = [(run.last.offset, name, run) for name, run in self._runs.items() if run.last.offset < below]
            listed = sorted(listed, reverse=True)[: request.count]
            records = [run.record(name, now) for _, name, run in listed]
            go_on_below = listed[-1][0] if listed and len(listed) == request.count else None
            return RunsSegment(
                [one for one in records if not request.endings or one.ended in request.endings], go_on_below
            )

    @at_once
    def first_seqs(self, run_id: str, lanes: Collection[str]) -> dict[str, int]:
        """See `Backend.first_seqs`."""
        with self._lock:
            self._evict(self._now())
            run = self._runs.get(run_id)
            first: dict[str, int] = {}
            for event in run.events if run is not None else ():
                if event.lane_id in lanes and event.seq is not None:
                    first.setdefault(str(event.lane_id), event.seq)
            return first

    def with_rings(self, run_id: str, act: Callable[[Rings, RunFacts | None, int], T]) -> T:
        """What `act` makes, under the log's lock, of the rings, a run that has a visible event, and the time in ms."""
        with self._lock:
            now = self._now()
            self._evict(now)
            run = self._runs.get(run_id)
            return act(self._rings, None if run is None else run.facts, now)

    @at_once
    def clear(self) -> int:
        """See `Backend.clear`."""
        with self._lock:
            self._evict(self._now())
            removed = len(self._events)
            self._cleared = self._last.offset
            self._events = []
            self._runs = {}
            self._rings.clear()
            return removed

    @at_once
    def set_retention(self, ttl_ms: int | None, max_entries: int | None) -> None:
        """See `Backend.set_retention`."""
        with self._lock:
            self._evict(self._now())
            self.retention = self.retention.with_terms(ttl_ms, max_entries)

    @at_once
    def audit(self, repair: bool) -> Audit:
        """See `Backend.audit`. Nothing comes back in memory."""
        with self._lock:
            now = self._now()
            self._evict(now)
            state = self._state(now)
            result = Audit(state, len(self._events), len({e.run_id for e in self._events} - {None}))
            expected = range(state.base_offset, state.last.offset + 1)
            if [event.offset for event in self._events] != list(expected):
                result.problems.append(f"resident offsets are not {expected.start} to {expected.stop - 1}")
            return result

    def consumer(self, group: str, kind: str, take_over_s: float) -> FollowingConsumer:
        """See `Backend.consumer`."""
        return FollowingConsumer(self, kind)

    def slots(self) -> MemorySlots:
        """See `Backend.slots`; the same queues each time."""
        with self._lock:
            if self._slots is None:
                self._slots = MemorySlots(self.record, self.clock)
            return self._slots

    def record(self, bodies: Sequence[Body]) -> None:
        """Append the transitions of slots."""
        run(self.append([Append(list(bodies))], 0), no_transport)

    def telemetry(self, terms: RingTerms) -> MemoryTelemetry:
        """See `Backend.telemetry`."""
        return MemoryTelemetry(self, terms)

    @at_once
    def memory_bytes(self) -> int | None:
        """An estimate: payloads plus a fixed sum for each event."""
        with self._lock:
            return sum(len(event.payload_json) + _RECORD_BYTES for event in self._events)

    def _state(self, now: int) -> LogState:
        first = self._events[0].position if self._events else None
        last = self._last if self._last.offset else ZERO
        return LogState(self._epoch, self._born, last, first, now, self.retention.ttl_ms, self.retention.max_entries)

    def _floor(self, last_offset: int) -> int:
        return max(last_offset - self.retention.max_entries, self._cleared)

    def _evict(self, now: int) -> None:
        """Drop what is no longer visible; runs go with their last event."""
        events = self._events
        by_age = bisect.bisect_right(events, now - self.retention.ttl_ms, key=_ms)
        by_count = bisect.bisect_right(events, self._floor(self._last.offset), key=_offset)
        gone = max(by_age, by_count)
        if not gone:
            return
        for run_id in {event.run_id for event in events[:gone]} - {None}:
            run = self._runs[str(run_id)]
            if run.last <= events[gone - 1].position:
                del self._runs[str(run_id)]
            else:
                del run.events[: bisect.bisect_right(run.events, events[gone - 1].position, key=_position)]
        del events[:gone]

    def _now(self) -> int:
        return int(self.clock() * 1000)


def _handed_out(events: list[Event]) -> list[Event]:
    """Events of the reader's own: what it does to a payload must not show in the log."""
    return [event.unshared() for event in events]


def _position(event: Event) -> EventId:
    return event.position


def _offset(event: Event) -> int:
    return event.offset


def _ms(event: Event) -> int:
    return event.position.ms
