"""The log in this process' memory: the reference that the Redis backend is held against. Keeps nothing on disk."""

import bisect
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import call
from types import MappingProxyType
from typing import NamedTuple, TypeVar

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


class _Run(NamedTuple):
    """What is known of a run while one of its events is visible."""

    first: EventId
    last: EventId
    total: int
    lanes: dict[str, int]
    ended_by: Event | None
    events: list[Event]  # it only ever grows; the visible ones are those of the log
    facts: RunFacts

    def record(self, run_id: str, now: int) -> RunRecord:
        ended = self.ended_by
        return RunRecord(
            run_id=run_id,
            first=self.first,
            last=self.last,
            events=self.total,
            lanes=dict(self.lanes),
            ended=None if ended is None else ended.kind,
            ended_at=None if ended is None else ended.position,
            now_ms=now,
        )


class _Log(NamedTuple):
    """The log at one instant. Its events are those of `events` from `start` on, as far as `last`."""

    epoch: str
    born: int
    last: EventId
    cleared: int
    events: list[Event]  # it only ever grows, so that a reader finds what it has seen where it was
    start: int

    @property
    def visible(self) -> list[Event]:
        """A list of the caller's own."""
        events = self.events[self.start :]
        # What came since then is of a later instant.
        return events[: self.last.offset - events[0].offset + 1] if events else events


_NOTHING = _Log("", 0, ZERO, 0, [], 0)
_Step = Callable[[], object]
_Change = tuple[T, "_Log | None", Sequence[_Step]]
"""A call's result, the log as it is to be, None if it stays as it is, and what else is to be done with it."""
_carry_out = deque[object](maxlen=0).extend
_LEAST_DROPPED = 256


class MemoryBackend:
    """Complete, thread-safe, with an injectable `clock` in seconds since the Unix epoch.

    A change is prepared aside and put in place by one step of the interpreter: a signal handler or a finalizer that
    calls from within another call finds the log before it or after it. What was prepared is then prepared anew.
    """

    name = "memory"
    stream_key: str | None = None

    def __init__(self, retention: Retention, clock: Callable[[], float] = time.time) -> None:
        self.retention = retention
        self.clock = clock
        self._lock = threading.RLock()  # of the rings; the log needs none, see `_change`
        self._slots: MemorySlots | None = None
        self._wakers: set[Callable[[], None]] = set()
        self.forget_everything()

    def forget_everything(self) -> None:
        """Lose the log, as a wiped Redis would: the next append begins a new incarnation."""
        with self._lock:
            self._log = _NOTHING._replace(events=[])
            self._runs: dict[str, _Run] = {}
            self._rings = Rings()
            self._earlier: dict[str, tuple[int, list[Event]]] = {}

    def _change(self, prepare: Callable[[_Log, int], _Change[T]]) -> T:
        while True:
            now, seen = self._now(), self._log
            try:
                result, log, steps = prepare(seen, now)
            except Exception:
                if self._log is seen:
                    raise
                continue
            if log is None:
                return result
            done: list[bool] = []
            all_steps: tuple[_Step, ...] = (*steps, partial(setattr, self, "_log", log), partial(done.append, True))
            put_in_place: map[object] = map(call, all_steps)
            _carry_out(put_in_place if self._log is seen else ())
            if done:
                return result

    def another_writer(self) -> "MemoryBackend":
        """See `Backend.another_writer`; calls are not numbered here."""
        return self

    @at_once
    def append(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        """Carried out at once; `call_number` is not needed, as no reply can be lost."""
        outcomes = [self._change(partial(self._append, append)) for append in appends]
        now = self._now()
        self._evict(now)
        for body in (body for append in appends for body in append.bodies):
            run = None if body.run_id is None else self._runs.get(body.run_id)
            if run is not None and run.ended_by is not None:
                with self._lock:
                    self._rings.outlive(str(body.run_id), run.last.ms, now)
        for wake in tuple(self._wakers):
            wake()
        return outcomes

    def _append(self, append: Append, log: _Log, now: int) -> _Change[Outcome]:
        if append.key is not None and (earlier := self._duplicate(append.key, now)) is not None:
            return earlier, None, ()
        expected = append.expected_offset
        if expected is not None and expected != log.last.offset and self._adds_any(append, now):
            return Conflict(expected, log.last.offset), None, ()
        epoch, born, last = log.epoch, log.born, log.last
        events: list[Event] = []
        fresh: list[Event] = []
        keys: dict[str, tuple[int, list[Event]]] = {}
        runs: dict[str, _Run] = {}
        for body in append.bodies:
            key = body.idempotency_key
            if key is not None and (repeated := self._duplicate(key, now, keys)) is not None:
                events.append(repeated[0])
                continue
            if not epoch:
                epoch, born = uuid.uuid4().hex, now + 1
                last = EventId(born, 0)
            last = EventId(max(now, last.ms), last.offset + 1)
            if body.run_id is None or body.lane_id is None:
                event = Event(*last, body, None)
            else:
                known = self._lives_on(runs.get(body.run_id, self._runs.get(body.run_id)), last, log.cleared, now)
                event, runs[body.run_id] = _grown(known, body, last)
            fresh.append(event)
            events.append(event)
            if key is not None:
                keys[key] = now, [event]
        if append.key is not None:
            keys[append.key] = now, events
        steps: list[_Step] = [partial(log.events.extend, fresh)]
        for run_id, grown in runs.items():
            steps.append(partial(grown.events.extend, [event for event in fresh if event.run_id == run_id]))
            steps.append(partial(setattr, grown.facts, "ended", grown.ended_by is not None))
            steps.append(partial(setattr, grown.facts, "last_ms", grown.last.ms))
        steps += partial(self._runs.update, runs), partial(self._earlier.update, keys)
        return _handed_out(events), log._replace(epoch=epoch, born=born, last=last), steps

    def _adds_any(self, append: Append, now: int) -> bool:
        """False if every event is a duplicate: a retry is answered, wherever the log ends by now."""
        keys = (body.idempotency_key for body in append.bodies)
        return any(key is None or self._duplicate(key, now) is None for key in keys)

    def _lives_on(self, run: _Run | None, position: EventId, cleared: int, now: int) -> _Run | None:
        """The run, if it had an event visible just before the one that is to stand at `position`."""
        floor = max(position.offset - 1 - self.retention.max_entries, cleared)
        if run is None or run.last.ms <= now - self.retention.ttl_ms or run.last.offset <= floor:
            return None
        return run

    def _duplicate(
        self, key: str, now: int, within: Mapping[str, tuple[int, list[Event]]] = MappingProxyType({})
    ) -> list[Event] | None:
        for oldest, (at, _) in islice(self._earlier.items(), 1):
            if at <= now - self.retention.window_ms:
                self._earlier.pop(oldest, None)
        found = within.get(key) or self._earlier.get(key)
        if found is None or found[0] <= now - self.retention.window_ms:
            return None
        return [event.as_duplicate() for event in found[1]]

    @at_once
    def read(self, request: ReadRequest) -> Segment:
        """See `Backend.read`."""
        now = self._now()
        log = self._evict(now)
        visible = log.visible
        state = self._state(log, visible, now)
        since = request.since
        holds = since is not None and _holds(visible, since)
        if since is not None and request.epoch and request.epoch != log.epoch:
            # Only an event that is younger than this log can be in it.
            holds = holds and since.ms is not None and since.ms > log.born
            since = since if holds else Cursor(0, 0)
        start = _after(visible, since)
        following = visible[start].position if start < len(visible) else None
        source = visible
        if request.run_id is not None:
            source = self._events_of(request.run_id, visible)
            if request.index is not None:
                source = list(filter(request.index.matches, source))
            floor = EventId(0, 0) if start == 0 or start > len(visible) else visible[start - 1].position
            start = bisect.bisect_right(source, floor, key=_position) if start else 0
        if request.from_ms:
            start = max(start, bisect.bisect_left(source, EventId(request.from_ms, 0), key=_position))
        stop = len(source) if request.until is None else _before(source, request.until)
        if request.count == 0:
            return Segment(state, [], following, True, None, holds)
        if request.descending:
            found = list(islice(reversed(source[start:stop]), request.count))
        else:
            found = source[start:stop][: request.count]
        reached = found[-1].position if found else None
        return Segment(state, _handed_out(found), following, len(found) < request.count, reached, holds)

    def _events_of(self, run_id: str, visible: list[Event]) -> list[Event]:
        run = self._runs.get(run_id)
        if run is None or not visible:
            return []
        events = run.events.copy()
        begin = bisect.bisect_left(events, visible[0].position, key=_position)
        return events[begin : bisect.bisect_right(events, visible[-1].position, key=_position)]

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """Parks until something is appended."""

        def subscribe(wake: Callable[[], None]) -> Callable[[], None]:
            self._wakers.add(wake)
            if self._log.last > after:
                wake()
            return lambda: self._wakers.discard(wake)

        yield Park(subscribe, timeout_s)
        log = self._log
        start = bisect.bisect_right(log.events, after, lo=log.start, key=_position)
        return _handed_out(log.events[start : start + _TAIL_BATCH])

    @at_once
    def run(self, run_id: str) -> RunRecord | None:
        """See `Backend.run`."""
        now = self._now()
        self._evict(now)
        run = self._runs.get(run_id)
        return None if run is None else run.record(run_id, now)

    @at_once
    def runs(self, request: RunsRequest) -> RunsSegment:
        """See `Backend.runs`."""
        now = self._now()
        self._evict(now)
        below = MAX_COUNTER if request.below is None else request.below
        runs = list(self._runs.items())
        listed = sorted(((run.last.offset, name, run) for name, run in runs if run.last.offset < below), reverse=True)
        listed = listed[: request.count]
        records = [run.record(name, now) for _, name, run in listed]
        go_on_below = listed[-1][0] if listed and len(listed) == request.count else None
        return RunsSegment([one for one in records if not request.endings or one.ended in request.endings], go_on_below)

    @at_once
    def first_seqs(self, run_id: str, lanes: Collection[str]) -> dict[str, int]:
        """See `Backend.first_seqs`."""
        first: dict[str, int] = {}
        for event in self._events_of(run_id, self._evict(self._now()).visible):
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
            removed = self._change(self._clear)
            self._rings.clear()
            return removed

    def _clear(self, log: _Log, now: int) -> _Change[int]:
        emptied = log._replace(cleared=log.last.offset, events=[], start=0)
        return len(log.visible), emptied, (self._runs.clear,)

    @at_once
    def set_retention(self, ttl_ms: int | None, max_entries: int | None) -> None:
        """See `Backend.set_retention`."""
        with self._lock:
            self._evict(self._now())
            self.retention = self.retention.with_terms(ttl_ms, max_entries)

    @at_once
    def audit(self, repair: bool) -> Audit:
        """See `Backend.audit`. Nothing comes back in memory."""
        now = self._now()
        log = self._evict(now)
        events = log.visible
        state = self._state(log, events, now)
        result = Audit(state, len(events), len({event.run_id for event in events} - {None}))
        expected = range(state.base_offset, state.last.offset + 1)
        if [event.offset for event in events] != list(expected):
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
        return sum(len(event.payload_json) + _RECORD_BYTES for event in self._log.visible)

    def _state(self, log: _Log, visible: list[Event], now: int) -> LogState:
        first = visible[0].position if visible else None
        last = log.last if log.last.offset else ZERO
        return LogState(log.epoch, log.born, last, first, now, self.retention.ttl_ms, self.retention.max_entries)

    def _evict(self, now: int) -> _Log:
        """The log without what is no longer visible at `now`; runs go with their last event."""
        return self._change(lambda log, _: self._evicted(log, now))

    def _evicted(self, log: _Log, now: int) -> _Change[_Log]:
        events = log.events
        by_age = bisect.bisect_right(events, now - self.retention.ttl_ms, lo=log.start, key=_ms)
        floor = max(log.last.offset - self.retention.max_entries, log.cleared)
        start = max(by_age, bisect.bisect_right(events, floor, lo=by_age, key=_offset))
        if start == log.start:
            return log, None, ()
        gone = [run_id for run_id in {event.run_id for event in events[log.start : start]} if run_id is not None]
        steps: list[_Step] = []
        for run_id in gone:
            run = self._runs[run_id]
            if run.last <= events[start - 1].position:
                steps.append(partial(self._runs.pop, run_id, None))
            elif len(run.events) > _LEAST_DROPPED:
                first_left = bisect.bisect_right(run.events, events[start - 1].position, key=_position)
                if 2 * first_left > len(run.events):
                    left = run._replace(events=run.events[first_left:])
                    steps.append(partial(self._runs.update, {run_id: left}))
        if start > _LEAST_DROPPED and 2 * start > len(events):
            events, start = events[start:], 0
        evicted = log._replace(events=events, start=start)
        return evicted, evicted, steps

    def _now(self) -> int:
        return int(self.clock() * 1000)


def _grown(run: _Run | None, body: Body, position: EventId) -> tuple[Event, _Run]:
    """The event of `body`, and the run with it, but for its list of events."""
    lane = str(body.lane_id)
    if run is None:
        run = _Run(position, position, 0, {}, None, [], RunFacts())
    seq = run.lanes.get(lane, 0) + 1
    event = Event(*position, body, seq)
    ended_by = event if event.is_terminal and run.ended_by is None else run.ended_by
    lanes = {**run.lanes, lane: seq}
    return event, run._replace(last=position, total=run.total + 1, lanes=lanes, ended_by=ended_by)


def _holds(events: list[Event], cursor: Cursor) -> bool:
    at = _after(events, cursor) - 1
    return at >= 0 and events[at].position == (cursor.ms, cursor.offset)


def _after(events: list[Event], cursor: Cursor | None) -> int:
    if cursor is None:
        return 0
    if cursor.ms is None:
        return bisect.bisect_right(events, cursor.offset, key=_offset)
    return bisect.bisect_right(events, EventId(cursor.ms, cursor.offset), key=_position)


def _before(events: list[Event], cursor: Cursor) -> int:
    if cursor.ms is None:
        return bisect.bisect_left(events, cursor.offset, key=_offset)
    return bisect.bisect_left(events, EventId(cursor.ms, cursor.offset), key=_position)


def _handed_out(events: list[Event]) -> list[Event]:
    """Events of the reader's own: what it does to a payload must not show in the log."""
    return [event.unshared() for event in events]


def _position(event: Event) -> EventId:
    return event.position


def _offset(event: Event) -> int:
    return event.offset


def _ms(event: Event) -> int:
    return event.position.ms
