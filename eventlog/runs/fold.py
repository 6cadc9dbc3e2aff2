"""Stages as readers see them: the events of a run folded to a view per stage. Pure; believes no payload.

A stage is known by its name within its run. Its events, in the order of the log, say what became of it:

- An event belongs to the attempt that its payload's `stage_attempt` says, without one to the attempt at hand. A lower
  attempt's event is late and changes nothing; a higher one's begins anew.
- Within an attempt queued, running and ended follow each other. What comes late may fill in what was not known (when it
  was queued or started, what it depends on), but undoes nothing; the first end counts.
- Once the run was cancelled or has failed, what was still queued is shown as skipped and what was running as failed,
  with the reason. A stage's own end is believed wherever it stands. A run that finished says nothing of its stages.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, TypeGuard, get_args

from ..errors import InvalidInput
from ..model.events import TERMINAL_KINDS, Event, is_milestone
from ..model.ids import MAX_COUNTER
from .given import checked_events

StageStatus = Literal["queued", "running", "succeeded", "failed", "skipped"]
STAGE_STATUSES: tuple[StageStatus, ...] = get_args(StageStatus)

DEFAULT_GROUP = "g0"
LEGACY_END = "stage.completed"
HIGHEST_ATTEMPT = 1_000_000

_RUN_OVER = {"run.cancelled": "run cancelled", "run.failed": "run failed", "run.error": "run failed"}
_DIGITS = re.compile(r"(\d{1,40})", re.ASCII)


@dataclass(frozen=True, slots=True)
class StageView:
    """What is known of one stage of a run. Times are seconds since the Unix epoch; None where it is not known.

    `stage_attempt` is the attempt that the other fields are of, 1 unless events say otherwise. `duration_ms` and
    `completed_at` are those of an attempt that has ended.
    """

    stage_name: str
    status: StageStatus
    stage_attempt: int = 1
    group_id: str = DEFAULT_GROUP
    depends_on: list[str] = field(default_factory=list)
    queued_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    duration_ms: int | None = None
    exit_code: int | None = None
    error: str | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The wire form: all fields, null where something is not known."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read the wire form; raises `InvalidInput` without name or status; passes over what it does not know."""
        if not isinstance(data.get("stage_name"), str):
            raise InvalidInput("stage_name", "is required")
        if data.get("status") not in STAGE_STATUSES:
            raise InvalidInput("status", f"{data.get('status')!r} is not one of {', '.join(STAGE_STATUSES)}")
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if data.get(name) is not None})


def fold_stages(events: Iterable[Event]) -> list[StageView]:
    """The view of every stage in `events`, by group, then in the order in which they were first named.

    Takes all events of a run or any part of them, in any order, repeated ones too; others than `stage.*` and those that
    end a run are passed over. Stages of different runs are kept apart. Whatever the payloads hold is borne with; only
    what is no `Event` is `InvalidInput` (`Event.from_dict` makes one of the wire form).
    """
    stages: dict[tuple[str | None, str], _Stage] = {}
    run_ends: dict[str | None, Event] = {}
    for event in _in_order(events):
        if event.kind in TERMINAL_KINDS:
            run_ends.setdefault(event.run_id, event)
            continue
        take = _TAKES.get(event.kind)
        name = stage_of(event)
        if take is None or name is None:
            continue
        stage = stages.setdefault((event.run_id, name), _Stage(name))
        take(stage, event)
    for (run_id, _), stage in stages.items():
        if run_id in run_ends:
            stage.run_over(run_ends[run_id])
    views = [stage.view() for stage in stages.values()]
    return sorted(views, key=lambda view: _group_order(view.group_id))


def attempt_of(event: Event) -> int | None:
    """The attempt that a stage's event says it belongs to."""
    attempt = _said(event).get("stage_attempt")
    return attempt if _is_integer(attempt) and 1 <= attempt <= HIGHEST_ATTEMPT else None


def stage_of(event: Event) -> str | None:
    """The stage of an event: its attribute, or what older producers put into the payload."""
    return event.stage_name or _text(_said(event).get("stage_name"))


def _in_order(events: Iterable[Event]) -> list[Event]:
    """Events that matter in the order of the log, each once."""
    relevant = {event for event in checked_events("events", events) if is_milestone(event.kind)}
    return sorted(relevant, key=lambda event: (*event.position, event.kind, event.payload_json))


class _Stage:
    """A stage as far as its events were taken, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.group = DEFAULT_GROUP
        self.depends_on: list[str] = []
        self.queued_at: float | None = None
        self.queued_for = 0
        self.begin(1)

    def begin(self, attempt: int) -> None:
        """Nothing is known of this attempt yet."""
        self.attempt = attempt
        self.status: StageStatus = "queued"
        self.started_at: float | None = None
        self.completed_at: float | None = None
        self.duration_ms: int | None = None
        self.exit_code: int | None = None
        self.error: str | None = None
        self.reason: str | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("queued", "running")

    def is_late(self, event: Event) -> bool:
        """True for an event of an attempt that is over; one of a new attempt makes it the attempt at hand."""
        self._learn(event)
        attempt = attempt_of(event)
        if attempt is not None and attempt > self.attempt:
            self.begin(attempt)
        return attempt is not None and attempt < self.attempt

    def _learn(self, event: Event) -> None:
        said = _said(event)
        group = event.group_id or _text(said.get("group_id"))
        if group is not None and group != DEFAULT_GROUP:
            self.group = group
        self.depends_on = _names(said.get("depends_on")) or self.depends_on

    def queued(self, event: Event) -> None:
        if self.is_late(event):
            return
        if self.status == "queued":
            if self.queued_for != self.attempt:
                self.queued_at, self.queued_for = event.timestamp, self.attempt
            self.reason = _text(_said(event).get("reason")) or self.reason
        elif self.queued_at is None:
            self.queued_at = _earliest(event.timestamp, self.started_at, self.completed_at)

    def started(self, event: Event) -> None:
        if self.is_late(event):
            return
        if self.status == "queued":
            self.status = "running"
            self.started_at = event.timestamp
            self.reason = None
        elif self.started_at is None:
            self.started_at = _earliest(event.timestamp, self.completed_at)

    def succeeded(self, event: Event) -> None:
        self.end("succeeded", event)

    def failed(self, event: Event) -> None:
        self.end("failed", event)

    def skipped(self, event: Event) -> None:
        self.end("skipped", event)

    def completed(self, event: Event) -> None:
        self.end(_legacy_status(_said(event)), event)

    def end(self, status: StageStatus, event: Event) -> None:
        if self.is_late(event) or self.ended:
            return
        payload = _said(event)
        self.status = status
        self.completed_at = event.timestamp
        self.duration_ms = _milliseconds(payload.get("duration_ms"))
        self.exit_code = payload["exit_code"] if _is_integer(payload.get("exit_code")) else None
        self.error = _text(payload.get("error"))
        self.reason = _text(payload.get("reason"))
        if self.started_at is None and self.duration_ms is not None:
            self.started_at = max(0.0, round(self.completed_at - self.duration_ms / 1000, 3))
        elif self.started_at is not None and self.duration_ms is None:
            self.duration_ms = _between(self.started_at, self.completed_at)

    def run_over(self, event: Event) -> None:
        why = _RUN_OVER.get(event.kind)
        if why is None or self.ended:
            return
        self.status = "skipped" if self.status == "queued" else "failed"
        # A stage may have started after its run was over, before it noticed.
        self.completed_at = max(event.timestamp, self.started_at or self.queued_at or 0.0)
        if self.started_at is not None:
            self.duration_ms = _between(self.started_at, self.completed_at)
        self.reason = why

    def view(self) -> StageView:
        return StageView(
            stage_name=self.name,
            status=self.status,
            stage_attempt=self.attempt,
            group_id=self.group,
            depends_on=self.depends_on,
            queued_at=self.queued_at,
            started_at=self.started_at,
            completed_at=self.completed_at,
            duration_ms=self.duration_ms,
            exit_code=self.exit_code,
            error=self.error,
            reason=self.reason,
        )


_TAKES: dict[str, Callable[[_Stage, Event], None]] = {
    "stage.queued": _Stage.queued,
    "stage.started": _Stage.started,
    "stage.succeeded": _Stage.succeeded,
    "stage.failed": _Stage.failed,
    "stage.skipped": _Stage.skipped,
    LEGACY_END: _Stage.completed,
}

_GOOD_WORDS = frozenset({"succeeded", "success", "successful", "completed", "complete", "passed", "ok", "done"})
_BAD_WORDS = frozenset(
    {"failed", "failure", "error", "errored", "cancelled", "canceled", "timeout", "timed_out", "aborted", "killed"}
)


def _legacy_status(payload: Mapping[str, Any]) -> StageStatus:
    """How a stage ended that only says that it did: any word, flag or exit code of failure makes it one."""
    word = str(payload.get("status")).lower()
    if word == "skipped":
        return "skipped"
    success, exit_code = payload.get("success"), payload.get("exit_code")
    if word in _BAD_WORDS or success is False or (_is_integer(exit_code) and exit_code != 0):
        return "failed"
    if word in _GOOD_WORDS or success is True or _is_integer(exit_code):
        return "succeeded"
    return "failed" if _text(payload.get("error")) else "succeeded"


def _group_order(group: str) -> list[tuple[int, str]]:
    """`g2` before `g10`."""
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(_DIGITS.split(group))]


def _said(event: Event) -> Mapping[str, Any]:
    """The payload, if it is what a payload has to be: any program with access to Redis can have written it."""
    try:
        payload = event.payload
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _milliseconds(value: object) -> int | None:
    # Above it, no JSON holds the number.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNTER:
        return None
    return round(value)


def _between(start: float, end: float) -> int:
    return max(0, round((end - start) * 1000))


def _earliest(*times: float | None) -> float:
    return min(time for time in times if time is not None)
