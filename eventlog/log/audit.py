"""The log audits itself: offsets dense, times in order, counters and run index in agreement with the stream."""

from collections import defaultdict

from ..model.events import Event
from ..model.ids import MAX_COUNTER, Cursor, EventId
from ..model.log_values import Audit, ReadRequest
from ..plan.effects import Plan
from ..store.calls import call_command
from ..store.keys import WorkspaceKeys
from .encoding import decode_entry
from .protocol import Backend

_CHUNK = 500
_MOST_PROBLEMS = 20


def audit(backend: Backend, index_prefix: str, deadline_s: float) -> Plan[Audit]:
    """Walk the visible log up to where it ended at the start; appends may go on meanwhile.

    What is evicted while the walk is under way is not held against the log: the walk follows the lower end.
    """
    state = (yield from backend.read(ReadRequest())).state
    result = Audit(state)
    walk = _Walk(result)
    cursor = Cursor(None, state.base_offset - 1)
    reached: EventId | None = None
    while reached is None or reached < state.last:
        segment = yield from backend.read(ReadRequest(since=cursor, count=_CHUNK))
        if segment.state.epoch != state.epoch:
            walk.problem("the log was lost while it was being verified")
            return result
        walk.lower_end(segment.state.base_offset)
        events = [event for event in segment.events if event.position <= state.last]
        if not events:
            break
        for event in events:
            walk.see(event)
        reached = events[-1].position
        cursor = Cursor(*reached)
    # Read in one step with the counters, so nothing that is appended meanwhile can look as if it were beyond them.
    beyond = yield from backend.read(ReadRequest(since=Cursor(*state.last), count=1))
    walk.lower_end(beyond.state.base_offset)
    for event in beyond.events:
        if event.position > beyond.state.last:
            walk.problem(f"{event.id} is beyond {beyond.state.last}, where the counters say the log ends")
    walk.reaches(state.last)
    yield from _check_runs(backend, walk, index_prefix, deadline_s)
    return result


def remove_returned(keys: WorkspaceKeys, deadline_s: float) -> Plan[int]:
    """Remove the events whose offset a later one has, or is past; returns how many.

    Half of a transaction that a torn append-only file brought back is what stands before the events that replaced it.
    """
    removed, lowest, end = 0, MAX_COUNTER + 1, "+"
    while True:
        entries = yield from call_command("XREVRANGE", keys.log, end, "-", "COUNT", _CHUNK, deadline_s=deadline_s)
        for entry in entries:
            event = decode_entry(entry)
            if event.offset < lowest:
                lowest = event.offset
                continue
            removed += yield from call_command("XDEL", keys.log, event.id, deadline_s=deadline_s)
            if event.run_id is not None:
                yield from call_command("XDEL", keys.run_index + event.run_id, event.id, deadline_s=deadline_s)
        if len(entries) < _CHUNK:
            return removed
        end = f"({entries[-1][0].decode()}"


class _Walk:
    """What has been seen so far, and what was wrong with it."""

    def __init__(self, result: Audit) -> None:
        self.result = result
        self.by_run: dict[str, list[Event]] = defaultdict(list)
        self._before: EventId | None = None
        self._floor = result.state.base_offset
        self._seqs: dict[tuple[str, str], int] = {}

    def problem(self, text: str) -> None:
        if len(self.result.problems) < _MOST_PROBLEMS:
            self.result.problems.append(text)

    def lower_end(self, base_offset: int) -> None:
        self._floor = max(self._floor, base_offset)

    def see(self, event: Event) -> None:
        self.result.events += 1
        here, before = event.position, self._before
        expected = self.result.state.base_offset if before is None else before.offset + 1
        if here.offset != expected and here.offset > max(self._floor, expected):
            self.problem(f"offset {expected} is missing before {event.id}")
        elif here.offset < expected:
            self.problem(f"offset {here.offset} at {event.id} was already given out")
        if before is not None and here.ms < before.ms:
            self.problem(f"time runs backwards at {event.id}")
        self._before = here
        if event.run_id is not None and event.lane_id is not None and event.seq is not None:
            lane = (event.run_id, event.lane_id)
            last = self._seqs.get(lane)
            if last is not None and event.seq != last + 1:
                self.problem(f"seq of {event.run_id}/{event.lane_id} goes from {last} to {event.seq} at {event.id}")
            self._seqs[lane] = event.seq
            self.by_run[event.run_id].append(event)

    def reaches(self, last: EventId) -> None:
        seen = self._before
        if seen is None:
            if self._floor <= last.offset:
                self.problem(f"the counters say the log ends at {last}, but nothing is resident")
        elif seen != last and self._floor <= last.offset:
            self.problem(f"the counters say the log ends at {last}, but the last event is {seen}")


def _check_runs(backend: Backend, walk: _Walk, index_prefix: str, deadline_s: float) -> Plan[None]:
    """Every resident event of a run is in that run's index with its lane and seq, and nothing else is."""
    walk.result.runs = len(walk.by_run)
    lacking: list[Event] = []
    for run_id, events in walk.by_run.items():
        key = index_prefix + run_id
        indexed: dict[str, tuple[bytes, bytes]] = {}
        start = f"{events[0].position.ms}-{events[0].offset}"
        while True:
            entries = yield from call_command(
                "XRANGE", key, start, str(walk.result.state.last), "COUNT", _CHUNK, deadline_s=deadline_s
            )
            indexed.update({raw.decode(): (fields[0], fields[1]) for raw, fields in entries})
            if len(entries) < _CHUNK:
                break
            start = "(" + entries[-1][0].decode()
        for event in events:
            found = indexed.pop(event.id, None)
            if found is None:
                lacking.append(event)
            elif (found[0].decode(), int(found[1])) != (event.lane_id, event.seq):
                walk.problem(f"the index of run {run_id} says {found} of {event.id}")
        for stray in indexed:
            walk.problem(f"the index of run {run_id} has {stray}, which is not in the log")
    if lacking:
        # What was evicted since it was seen is rightly gone from the index.
        floor = (yield from backend.read(ReadRequest())).state.base_offset
        for event in lacking:
            if event.offset >= floor:
                walk.problem(f"the index of run {event.run_id} lacks {event.id}")
