"""What a backend of the log must do. Its methods are plans, so each is written once for both colours."""

from collections.abc import Collection, Sequence
from typing import Protocol

from ..model.events import Event
from ..model.ids import EventId
from ..model.log_values import Append, Audit, Outcome, ReadRequest, RunRecord, RunsRequest, RunsSegment, Segment
from ..plan.effects import Plan
from ..slots.protocol import SlotBackend
from ..telemetry.protocol import TelemetryBackend
from ..telemetry.terms import RingTerms


class LogReader(Protocol):
    """What a reader of a log asks of it. All methods are plans (see `plan/effects.py`)."""

    def read(self, request: ReadRequest) -> Plan[Segment]:
        """Read a stretch, consistent in itself. Expired and evicted events are never returned."""

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """Wait until the log may hold something after `after`, at most `timeout_s`.

        Returns the events that arrived, None if nothing did and the log is as it was, or an empty list: look for
        yourself with `read`.
        """

    def run(self, run_id: str) -> Plan[RunRecord | None]:
        """What is known of a run, None if no event of it is visible."""


class Backend(LogReader, Protocol):
    """Guarantees every backend gives. All methods are plans (see `plan/effects.py`)."""

    name: str
    stream_key: str | None
    """The Redis stream of this log, for a reader that follows many logs over one connection; None if there is none."""

    def append(self, appends: Sequence[Append], call_number: int) -> Plan[list[Outcome]]:
        """Carry out several appends in order, each atomic, all in one step, each with its own outcome.

        A plan may be repeated inside (a lost reply) without appending twice. Raises `BackendUnavailable` if the
        outcome is not known within the deadline.
        """

    def runs(self, request: RunsRequest) -> Plan[RunsSegment]:
        """Runs with a visible event, the one with the newest event first."""

    def first_seqs(self, run_id: str, lanes: Collection[str]) -> Plan[dict[str, int]]:
        """The seq of the first visible event of each of these lanes that has one."""

    def clear(self) -> Plan[int]:
        """Remove every event and keep counters and epoch. Returns how many visible events were removed."""

    def audit(self) -> Plan[Audit]:
        """Hold the log against its own counters, order and run index."""

    def memory_bytes(self) -> Plan[int | None]:
        """Bytes the log's events take, None if the backend cannot tell."""

    def slots(self) -> SlotBackend:
        """The slot queues of the same workspace, whose transitions land in this log."""

    def telemetry(self, terms: RingTerms) -> TelemetryBackend:
        """The telemetry rings of this log's runs, freed with them."""
