"""What goes into a log and comes out of it: appends and outcomes, stretches, states, runs, gaps. Pure values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import EventLogError
from .events import Body, Event
from .filters import IndexFilter
from .ids import Cursor, EventId

GapReason = Literal["trimmed", "reset", "rollback"]


class Gap(NamedTuple):
    """Events a reader can no longer be given: `missed` of them, offsets `from_offset` to `to_offset`.

    `trimmed`: evicted by age or count, or cleared. `reset`: the log was lost and began anew, so the offsets are
    those of the new log that are gone already. `rollback`: the log is not the one that the reader saw (a restored
    backup, a failover, two primaries at once), so offsets it knows may be given out again. `missed` is then how many
    it was perhaps not given: never too few.
    """

    missed: int
    from_offset: int
    to_offset: int
    reason: GapReason

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return self._asdict()


class LogState(NamedTuple):
    """A log at one instant. `first` is the oldest visible event, None if there is none.

    `last` is where the counters stand, whether or not that event is still resident; `(0, 0)` on a log that never
    had an event. Times are milliseconds of the Redis clock.
    """

    epoch: str
    born_ms: int
    last: EventId
    first: EventId | None
    now_ms: int
    ttl_ms: int
    max_entries: int

    @property
    def base_offset(self) -> int:
        """The lowest offset that can still be read; one above the last if nothing can."""
        return self.last.offset + 1 if self.first is None else self.first.offset

    @property
    def length(self) -> int:
        """How many events are visible."""
        return self.last.offset + 1 - self.base_offset


@dataclass(slots=True)
class Append:
    """One caller's append: all `bodies`, contiguous, or none.

    `key` makes the whole append idempotent; a body may carry a key of its own instead.
    """

    bodies: Sequence[Body]
    expected_offset: int | None = None
    key: str | None = None

    @property
    def is_plain(self) -> bool:
        """True if nothing can make this append fail or be recognised as a duplicate."""
        return self.expected_offset is None and self.key is None


Outcome = list[Event] | EventLogError
"""What became of one `Append`: its events in order, or the error that refused it."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A bounded stretch to read: after `since`, before `until`, from `from_ms` on, at most `count` events.

    `epoch` is the incarnation the reader believes in, if it knows one. With `run_id` only that run's events are
    read, at a cost in proportion to them; with `index` only those whose entries in the run's index pass.
    """

    since: Cursor | None = None
    until: Cursor | None = None
    from_ms: int = 0
    count: int = 0
    descending: bool = False
    run_id: str | None = None
    epoch: str | None = None
    index: IndexFilter | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """What one read found. `following` is the id of the first visible event after `since`, of whatever run.

    `complete` says that the read reached the end of what was asked for, `reached` how far it looked: the last event, or
    entry of an index, None if there was none. `holds`: the event with the very id `since` is visible.
    """

    state: LogState
    events: list[Event]
    following: EventId | None
    complete: bool
    reached: EventId | None = None
    holds: bool = False


class RunRecord(NamedTuple):
    """What a log knows of a run while one of its events is visible. `first` may be gone already.

    `events` counts all that were appended, `lanes` gives each lane's last seq; `ended` is the kind of the run's first
    terminal event and `ended_at` its place, None while there is none. `now_ms` is when this was so.
    """

    run_id: str
    first: EventId
    last: EventId
    events: int
    lanes: dict[str, int]
    ended: str | None
    ended_at: EventId | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class RunsRequest:
    """Runs whose last event is below offset `below`; at most `count` are looked at, those newest first.

    `endings` says by which kind they may have ended, None standing for not yet; empty is all the same.
    """

    below: int | None = None
    count: int = 100
    endings: tuple[str | None, ...] = ()


class RunsSegment(NamedTuple):
    """The runs found, and the offset to go on below; None where no more follow."""

    runs: list[RunRecord]
    go_on_below: int | None


@dataclass(slots=True)
class Audit:
    """What `verify` found: `problems` is empty for a sound log. `removed` counts the events that a repair took out."""

    state: LogState
    events: int = 0
    runs: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if the log is sound."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class LogInfo:
    """The state of a log as operators see it. Times are seconds since the Unix epoch."""

    workspace: str
    backend: str
    epoch: str | None
    length: int
    first_id: str | None
    last_id: str | None
    last_offset: int
    trimmed: int
    bytes: int | None
    ttl_seconds: float
    max_entries: int
    time: float

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "workspace": self.workspace,
            "backend": self.backend,
            "epoch": self.epoch,
            "length": self.length,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "last_offset": self.last_offset,
            "trimmed": self.trimmed,
            "bytes": self.bytes,
            "retention": {"ttl_seconds": self.ttl_seconds, "max_entries": self.max_entries},
            "time": self.time,
        }
