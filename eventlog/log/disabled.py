"""No log at all: appends are answered with synthetic events and nothing is kept."""

import threading
import time
from collections.abc import Collection, Sequence
from itertools import count

from ..model.events import Event
from ..model.ids import ZERO, EventId
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
from ..plan.effects import Pause, Plan, at_once
from ..slots.disabled import DisabledSlots
from ..telemetry.disabled import DisabledTelemetry
from ..telemetry.terms import RingTerms
from .consumer import FollowingConsumer


class DisabledBackend:
    """Ids grow as in a real log; every read finds it empty, and reports all that was appended as trimmed."""

    name = "disabled"
    stream_key: str | None = None

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._lock = threading.RLock()  # a signal handler may append in the middle of an append
        self._last = ZERO
        self._offsets = count(1)

    def another_writer(self) -> "DisabledBackend":
        """See `Backend.another_writer`; calls are not numbered here."""
        return self

    @at_once
    def append(self, appends: Sequence[Append], call_number: int) -> list[Outcome]:
        """Every event gets the next id; conditions and keys are not looked at."""
        with self._lock:
            ms = max(int(time.time() * 1000), self._last.ms)
            outcomes: list[Outcome] = []
            for append in appends:
                events = [Event(ms, next(self._offsets), body) for body in append.bodies]
                self._last = max(self._last, events[-1].position)
                outcomes.append(events)
        return outcomes

    @at_once
    def read(self, request: ReadRequest) -> Segment:
        """An empty log, whose events are all gone."""
        return Segment(self._state(), [], None, True)

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """Nothing ever comes."""
        yield Pause(timeout_s)
        return []

    @at_once
    def run(self, run_id: str) -> RunRecord | None:
        """No run is known."""
        return None

    @at_once
    def runs(self, request: RunsRequest) -> RunsSegment:
        """There are none."""
        return RunsSegment([], None)

    @at_once
    def first_seqs(self, run_id: str, lanes: Collection[str]) -> dict[str, int]:
        """No lane has an event."""
        return {}

    @at_once
    def clear(self) -> int:
        """There is nothing to remove."""
        return 0

    @at_once
    def set_retention(self, ttl_ms: int | None, max_entries: int | None) -> None:
        """See `Backend.set_retention`."""
        self.retention = self.retention.with_terms(ttl_ms, max_entries)

    @at_once
    def audit(self, repair: bool) -> Audit:
        """An empty log is sound."""
        return Audit(self._state())

    def consumer(self, group: str, kind: str, take_over_s: float) -> FollowingConsumer:
        """See `Backend.consumer`."""
        return FollowingConsumer(self, kind)

    def slots(self) -> DisabledSlots:
        """Everybody gets a slot."""
        return DisabledSlots()

    def telemetry(self, terms: RingTerms) -> DisabledTelemetry:
        """No samples are kept."""
        return DisabledTelemetry()

    @at_once
    def memory_bytes(self) -> int | None:
        """Nothing is kept."""
        return 0

    def _state(self) -> LogState:
        return LogState(
            "disabled",
            0,
            self._last,
            None,
            int(time.time() * 1000),
            self.retention.ttl_ms,
            self.retention.max_entries,
        )
