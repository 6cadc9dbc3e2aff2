"""Runs as readers see them: summaries, pages of them, pages of a replay. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from ..errors import InvalidInput
from ..model.events import RUN_NAME, RUN_PATTERN, Event
from ..model.ids import parse_cursor
from ..model.log_values import Gap, RunRecord
from ..model.numbers import checked_integer

RunStatus = Literal["running", "finished", "failed", "cancelled"]
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)

ENDINGS: Mapping[RunStatus, tuple[str | None, ...]] = {
    "running": (None,),
    "finished": ("run.finished",),
    "failed": ("run.failed", "run.error"),
    "cancelled": ("run.cancelled",),
}
"""How a run of each status has ended: the kind of its first terminal event, None for not yet."""
_STATUS_OF = {kind: status for status, kinds in ENDINGS.items() for kind in kinds}

MOST_RUNS = 1000


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run while one of its events is resident. Its first terminal event decides what became of it.

    `first_id`, `last_id` and `ended_id` are the ids of its first, newest and terminal event; the first may be gone
    already. `events` counts all that were appended, `lanes` gives each lane's last seq. Times are seconds since the
    Unix epoch by the Redis clock; `duration_ms` goes from the first event to the terminal one, or until now.
    """

    run_id: str
    status: RunStatus
    first_id: str
    last_id: str
    ended_id: str | None
    started_at: float
    last_event_at: float
    ended_at: float | None
    duration_ms: int
    events: int
    lanes: dict[str, int]

    @classmethod
    def of(cls, record: RunRecord) -> "RunSummary":
        """What a backend knows of a run, in words for people."""
        ended = record.ended_at
        return cls(
            run_id=record.run_id,
            status=_STATUS_OF[record.ended],
            first_id=str(record.first),
            last_id=str(record.last),
            ended_id=None if ended is None else str(ended),
            started_at=record.first.ms / 1000,
            last_event_at=record.last.ms / 1000,
            ended_at=None if ended is None else ended.ms / 1000,
            duration_ms=max(0, (record.now_ms if ended is None else ended.ms) - record.first.ms),
            events=record.events,
            lanes=dict(sorted(record.lanes.items())),
        )

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "RunSummary":
        """Read the wire form; what is not known is passed over."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class RunsPage:
    """Runs, the one with the newest event first. Pass `cursor` as `until` to go on to older ones.

    A page by status may be short, even empty, before the end is reached.
    """

    runs: list[RunSummary]
    cursor: str | None
    at_end: bool

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {"runs": [run.to_dict() for run in self.runs], "cursor": self.cursor, "at_end": self.at_end}


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """A run's events in the order of the log. Pass `cursor` as `since` to go on.

    `missed` gives for each lane how many events after `since_seq` are gone: exact, whatever else is filtered. It is
    set on the first page of a replay, one without `since`, and empty on others.
    """

    run_id: str
    events: list[Event]
    cursor: str
    at_end: bool
    missed: dict[str, int]
    gap: Gap | None = None

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "run_id": self.run_id,
            "events": [event.to_dict() for event in self.events],
            "cursor": self.cursor,
            "at_end": self.at_end,
            "missed": self.missed,
            "gap": None if self.gap is None else self.gap.to_dict(),
        }


class RunsQuery(NamedTuple):
    """A checked request for a page of runs."""

    limit: int
    below: int | None
    endings: tuple[str | None, ...]

    @classmethod
    def of(cls, limit: object = 100, until: object = None, status: object = None) -> "RunsQuery":
        """Check the parts; raises `InvalidInput` naming the field that is wrong."""
        most = checked_integer("limit", limit, 1, MOST_RUNS)
        if status is not None and status not in RUN_STATUSES:
            raise InvalidInput("status", f"{status!r} is not one of {', '.join(RUN_STATUSES)}")
        cursor = parse_cursor(until, "until")
        return cls(most, None if cursor is None else cursor.offset, () if status is None else ENDINGS[status])


def checked_run(run_id: object) -> str:
    """A run id, by value; raises `InvalidInput` if it is none."""
    if run_id is None:
        raise InvalidInput("run_id", f"is required: {RUN_PATTERN}")
    return RUN_NAME.check("run_id", run_id)
