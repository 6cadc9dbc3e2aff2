"""What a backend of the log must do. Its methods are plans, so each is written once for both colours."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

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


class Delivery(NamedTuple):
    """What one look at the log gave a consumer: `events` to act upon and then to call `done` with.

    `missed`: events that were gone before anybody of the group looked at them (trimmed, cleared, or those of a new log
    where `began_anew`), pending ones among them. `lag`: events still to be looked at. `more`: look again at once.
    """

    events: list[Event]
    missed: int
    began_anew: bool
    lag: int
    looked_at: int
    more: bool


class Consumer(Protocol):
    """Gets a log's events of one kind: each is given to one of those that share the work, until it is done."""

    def take(self) -> Plan[Delivery]:
        """What is there now. An event that is not `done` is given again, to this one or another."""

    def done(self, events: Iterable[Event]) -> None:
        """These were acted upon, and need not be given to anybody again."""

    def wait(self, timeout_s: float, others: Sequence["Consumer"] = ()) -> Plan[list["Consumer"]]:
        """Wait until this one, or another of the same backend, may have something new, at most `timeout_s`: which."""

    def leave(self) -> Plan[None]:
        """Acknowledge what is done and leave; what is not done others take over."""

    def sweep(self) -> Plan[None]:
        """Clear away what others left. To be called now and then."""


class Backend(LogReader, Protocol):
    """Guarantees every backend gives. All methods are plans (see `plan/effects.py`)."""

    name: str
    stream_key: str | None
    """The Redis stream of this log, for a reader that follows many logs over one connection; None if there is none."""

    def another_writer(self) -> "Backend":
        """The same log, for appends that do not wait for those made here: they have call numbers of their own."""

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

    def set_retention(self, ttl_ms: int | None, max_entries: int | None) -> Plan[None]:
        """Keep events for so long and so many of them from now on; None leaves it as it is."""

    def audit(self, repair: bool) -> Plan[Audit]:
        """Hold the log against its own counters, order and run index; with `repair`, first take out what came back."""

    def memory_bytes(self) -> Plan[int | None]:
        """Bytes the log's events take, None if the backend does not know."""

    def slots(self) -> SlotBackend:
        """The slot queues of the same workspace, whose transitions land in this log."""

    def telemetry(self, terms: RingTerms) -> TelemetryBackend:
        """The telemetry rings of this log's runs, freed with them."""

    def consumer(self, group: str, kind: str, take_over_s: float) -> Consumer:
        """A new consumer of the log's events of a kind, which it shares with all of the same `group`.

        What a dead one had taken is taken over after `take_over_s` seconds. A new group begins with the oldest event.
        """
