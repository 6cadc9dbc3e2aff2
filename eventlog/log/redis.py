"""The log in Redis: each operation is one script call, so it is atomic and sees Redis' clock."""

import copy
import logging
import time
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from ..errors import BackendRefused, BackendUnavailable, EventLogError
from ..model.events import Event
from ..model.ids import EventId
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
from ..plan.effects import Command, Plan
from ..plan.forks import call_in_child
from ..slots.redis import RedisSlots
from ..store.calls import call_command, call_script, failed_wait
from ..store.keys import WorkspaceKeys, workspace_of
from ..store.links import LinkLost, Refused
from ..store.scripts import script
from ..telemetry.redis import RedisTelemetry
from ..telemetry.terms import RingTerms
from .audit import audit, remove_returned
from .consumer_group import GroupConsumer
from .encoding import decode_entry, decode_outcomes, decode_run, encode_appends, pairs

_log = logging.getLogger("eventlog")

_CALL_MEMORY_MS = "600000"
_BLOCK_MARGIN_S = 2.0
_TAIL_BATCH = 1000
_INDEX_STEP = 2000


class RedisBackend:
    """See `Backend` for what is guaranteed. One writer: its calls must be made one after another."""

    name = "redis"

    def __init__(self, keys: WorkspaceKeys, retention: Retention, deadline_s: float) -> None:
        self.keys = keys
        self.stream_key: str | None = keys.log
        self.retention = retention
        self.deadline_s = deadline_s
        self._retention = f"{retention.ttl_ms} {retention.max_entries}"
        self._said: list[bool] = []  # shared with the other writers of the same log object
        self.become_new_writer()
        # Two processes that numbered their calls as one writer would take each other's appends for repetitions.
        call_in_child(self.become_new_writer)

    def become_new_writer(self) -> None:
        """Take a new identity: calls are numbered from 1 again."""
        writer, k = uuid.uuid4().hex, self.keys
        self._append_keys = (k.log, k.meta, k.writer + writer, f"{k.runs} {k.run} {k.run_index} {k.idem}")
        self._rare = f"{self.retention.window_ms} {writer[:16]}"

    def another_writer(self) -> "RedisBackend":
        """See `Backend.another_writer`."""
        other = copy.copy(self)
        other.become_new_writer()
        return other

    def append(self, appends: Sequence[Append], call_number: int) -> Plan[list[Outcome]]:
        """One call of `log_append.lua`; repeated under `call_number` until the outcome is known."""
        deadline = time.monotonic() + self.deadline_s
        reply = yield from call_script(
            script("log/log_append"),
            self._append_keys,
            (),
            (str(call_number), _CALL_MEMORY_MS, self._retention, self._rare, *encode_appends(appends)),
            deadline_s=self.deadline_s,
            writes=True,
        )
        if reply[0] == b"stale":
            raise BackendUnavailable("a later append of this process overtook this one", outcome_unknown=True)
        if len(reply) > 5:
            ttl_ms, max_entries = reply[5].split()
            self._keeps(int(ttl_ms), int(max_entries))
        outcomes, duplicates = decode_outcomes(reply[:5], appends)
        if duplicates:
            yield from self._look_up(duplicates, outcomes, deadline)
        return outcomes

    def _look_up(
        self, duplicates: list[tuple[list[Event], int]], outcomes: list[Outcome], deadline: float
    ) -> Plan[None]:
        """Put the first appends' events in place. Where that fails, only the repeated appends fail: the others are in
        the log."""
        try:
            originals = yield from self._originals([events[i] for events, i in duplicates], deadline)
        except EventLogError as error:
            failure = BackendUnavailable(
                "appended earlier, but Redis went away before it could be looked up", outcome_unknown=True
            )
            failure.__cause__ = error
            repeated = {id(events) for events, _ in duplicates}
            for at, outcome in enumerate(outcomes):
                if id(outcome) in repeated:
                    outcomes[at] = copy.copy(failure)
        else:
            for events, i in duplicates:
                events[i] = originals.get(events[i].position, events[i])

    def _originals(self, repeated: list[Event], deadline: float) -> Plan[dict[EventId, Event]]:
        """The first appends' events that are still resident, marked as duplicates; one call a stretch of offsets."""
        found: dict[EventId, Event] = {}
        for first, last in _stretches(sorted({event.position for event in repeated})):
            left_s = max(deadline - time.monotonic(), 0.0)
            entries = yield from call_command("XRANGE", self.keys.log, str(first), str(last), deadline_s=left_s)
            found.update((event.position, event.as_duplicate()) for event in map(decode_entry, entries))
        return found

    def read(self, request: ReadRequest) -> Plan[Segment]:
        """One call of `log_read.lua`."""
        since, until = request.since, request.until
        run_key = self.keys.log if request.run_id is None else self.keys.run_index + request.run_id
        reply = yield from call_script(
            script("log/log_read"),
            (self.keys.log, self.keys.meta, run_key),
            (
                _text(since and since.ms),
                _text(since and since.offset),
                request.epoch or "",
                _text(until and until.ms),
                _text(until and until.offset),
                request.from_ms,
                request.count,
                "desc" if request.descending else "asc",
                _index_terms(request),
                self._retention,
            ),
            deadline_s=self.deadline_s,
        )
        segment = _segment(reply)
        self._keeps(segment.state.ttl_ms, segment.state.max_entries)
        return segment

    def _keeps(self, ttl_ms: int, max_entries: int) -> None:
        """Say it once if the log's retention is not the one that was asked for here."""
        if not self._said and self.retention.differs(ttl_ms, max_entries):
            self._said.append(True)
            _log.warning(
                "the log of %s keeps ttl_seconds=%g, max_entries=%d; what is configured here (%g, %d) is for new logs: "
                "change it with log.set_retention or `eventlog log retention`",
                *(workspace_of(self.keys.meta), ttl_ms / 1000, max_entries),
                *(self.retention.ttl_ms / 1000, self.retention.max_entries),
            )

    def set_retention(self, ttl_ms: int | None, max_entries: int | None) -> Plan[None]:
        """Calls of `log_retention.lua`, until it has come to all runs."""
        k, below = self.keys, "+inf"
        self._said.append(True)
        while below:
            reply = yield from call_script(
                script("log/log_retention"),
                (k.log, k.meta, k.runs, k.run, k.run_index),
                (_text(ttl_ms), _text(max_entries), self._retention, below),
                deadline_s=self.deadline_s,
                writes=True,
            )
            below = reply.decode()

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """A blocking `XREAD` from `after` on, never from `$`."""
        block_ms = max(1, round(timeout_s * 1000))
        command = Command(
            ("XREAD", "COUNT", str(_TAIL_BATCH), "BLOCK", str(block_ms), "STREAMS", self.keys.log, str(after)),
            timeout_s + _BLOCK_MARGIN_S,
            goes_on=True,
        )
        try:
            reply = yield command
        except (LinkLost, Refused) as error:
            yield from failed_wait(error, command.args, timeout_s)
            return []
        if reply:
            return [decode_entry(entry) for entry in reply[0][1]]
        # XREAD is as silent where the log was lost, or went back to a state before `after`.
        state = (yield from self.read(ReadRequest())).state
        return None if state.last == after else []

    def run(self, run_id: str) -> Plan[RunRecord | None]:
        """One call of `run_find.lua`."""
        k = self.keys
        now, fields = yield from call_script(
            script("log/run_find"), (k.meta, k.run + run_id), (self._retention,), deadline_s=self.deadline_s
        )
        return decode_run(run_id, fields, int(now)) if fields else None

    def runs(self, request: RunsRequest) -> Plan[RunsSegment]:
        """One call of `run_list.lua`."""
        k = self.keys
        below = "+inf" if request.below is None else request.below
        endings = "".join(f" {kind or '-'} " for kind in request.endings)
        now, go_on_below, *rows = yield from call_script(
            script("log/run_list"),
            (k.meta, k.runs, k.run),
            (below, request.count, endings, self._retention),
            deadline_s=self.deadline_s,
        )
        found = [decode_run(name.decode(), fields, int(now)) for name, fields in pairs(rows)]
        return RunsSegment(found, int(go_on_below) if go_on_below else None)

    def first_seqs(self, run_id: str, lanes: Collection[str]) -> Plan[dict[str, int]]:
        """Calls of `run_lanes.lua`, from the first visible event on until all lanes were seen."""
        state = (yield from self.read(ReadRequest())).state
        wanted, found = set(lanes), dict[str, int]()
        begin = state.first
        while begin is not None and wanted:
            last, *seen = yield from call_script(
                script("log/run_lanes"),
                (self.keys.run_index + run_id,),
                (str(begin), _INDEX_STEP),
                deadline_s=self.deadline_s,
            )
            for lane, seq in ((name.decode(), int(seq)) for name, seq in pairs(seen)):
                if lane in wanted:
                    found[lane] = seq
                    wanted.remove(lane)
            reached = _id(last)
            begin = None if reached is None else EventId(reached.ms, reached.offset + 1)
        return found

    def clear(self) -> Plan[int]:
        """One call of `log_clear.lua`."""
        k = self.keys
        removed = yield from call_script(
            script("log/log_clear"),
            (k.log, k.meta, k.runs, k.run, k.run_index, k.writer + uuid.uuid4().hex),
            (_CALL_MEMORY_MS,),
            deadline_s=self.deadline_s,
            writes=True,
        )
        return int(removed)

    def audit(self, repair: bool) -> Plan[Audit]:
        """See `log/audit.py`."""
        removed = (yield from remove_returned(self.keys, self.deadline_s)) if repair else 0
        result = yield from audit(self, self.keys.run_index, self.deadline_s)
        result.removed = removed
        return result

    def consumer(self, group: str, kind: str, take_over_s: float) -> GroupConsumer:
        """See `Backend.consumer`."""
        return GroupConsumer(self.keys, group, kind, take_over_s=take_over_s, deadline_s=self.deadline_s)

    def slots(self) -> RedisSlots:
        """See `Backend.slots`."""
        return RedisSlots(self.keys, self.retention, self.deadline_s)

    def telemetry(self, terms: RingTerms) -> RedisTelemetry:
        """See `Backend.telemetry`."""
        return RedisTelemetry(self.keys, self.retention, self.deadline_s, terms)

    def memory_bytes(self) -> Plan[int | None]:
        """What `MEMORY USAGE` says of the stream; 0 if it does not exist, None where the command is not to be had."""
        try:
            reply = yield from call_command("MEMORY", "USAGE", self.keys.log, deadline_s=self.deadline_s)
        except BackendRefused as error:
            if error.lacks is None:
                raise
            return None
        return 0 if reply is None else int(reply)


def _stretches(positions: list[EventId]) -> list[tuple[EventId, EventId]]:
    """Ends of the runs of neighbouring offsets in `positions`, which are in order."""
    ends: list[tuple[EventId, EventId]] = []
    for here in positions:
        if ends and ends[-1][1].offset + 1 == here.offset:
            ends[-1] = (ends[-1][0], here)
        else:
            ends.append((here, here))
    return ends


def _index_terms(request: ReadRequest) -> str:
    if request.run_id is None:
        return ""
    if request.index is None:
        return "run"
    lane, since_seq, milestones = request.index
    return f"run {lane or '*'} {since_seq} {int(milestones)}"


def _text(number: int | None) -> int | str:
    return "" if number is None else number


def _segment(reply: list[Any]) -> Segment:
    epoch, born, ms, offset, now, ttl, max_entries, first, following, holds, complete, reached, entries = reply
    state = LogState(
        epoch=epoch.decode(),
        born_ms=int(born),
        last=EventId(int(ms), int(offset)) if int(offset) else EventId(0, 0),
        first=_id(first),
        now_ms=int(now),
        ttl_ms=int(ttl),
        max_entries=int(max_entries),
    )
    events = [decode_entry(entry) for entry in entries]
    return Segment(state, events, _id(following), complete == b"1", _id(reached), holds == b"1")


def _id(raw: bytes) -> EventId | None:
    return EventId.parse(raw.decode()) if raw else None
