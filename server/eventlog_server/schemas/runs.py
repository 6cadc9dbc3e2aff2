"""Runs, their stages and their telemetry, and the queries that ask for them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, WrapValidator

from eventlog.model.ids import MAX_COUNTER
from eventlog.model.pages import DEFAULT_PAGE
from eventlog.runs.fold import StageView
from eventlog.runs.records import MOST_RUNS, RunStatus
from eventlog.telemetry.sample import MOST_PUSHED, OLDEST_MS
from eventlog.telemetry.terms import DEFAULT_SAMPLES, MOST_SAMPLES

from .base import CURSOR, LEFT_OUT, WHOLE, Absent, Counter, Position, Query, Sent
from .events import LIMIT, SINCE, EventOut, Gap, Limit, ReplayFilters


class RunsQuery(Query):
    """The query of a page of runs: the arguments of `log.runs`."""

    limit: Annotated[int, Field(ge=1, le=MOST_RUNS), WHOLE] = Field(default=100, description="At most so many runs.")
    until: Position | Absent = Field(
        default=None, description="Only runs that were active last before this: the `cursor` of a page."
    )
    status: RunStatus | Absent = Field(default=None, description="Only runs of this status.")


class ReplayOut(BaseModel):
    """A page of a run's events in the order of the log. Pass `cursor` as `since` to go on."""

    run_id: str
    events: list[EventOut]
    cursor: str = Field(pattern=CURSOR)
    at_end: bool
    missed: dict[str, int] = Field(
        description="How many events after `since_seq` are gone, by lane; empty on a page with `since`."
    )
    gap: Gap | None = Field(description="What the log, of whatever run, has lost after `since`.")


class ReplayQuery(ReplayFilters):
    """The query of a run's replay: arguments of `log.replay_page`."""

    since: Position | Absent = Field(default=None, description=SINCE)
    limit: Limit = Field(default=DEFAULT_PAGE, description=LIMIT)


class StagesOut(BaseModel):
    """The stages of a run, by group and first appearance."""

    run_id: str
    stages: list[StageView]


def _checked_as_it_is(value: Any, check: Any) -> Any:
    check(value)
    return value


# An integer stays one: checked as a float, it would be answered as a float.
Measure = Annotated[float, Field(ge=0, le=MAX_COUNTER), WrapValidator(_checked_as_it_is)]


class HostSample(Sent):
    """What a process and its children use. What the system does not report is left out."""

    rss_bytes: Measure = 0
    cpu_percent: Measure = Field(default=0, description="100 is one core.")
    io_read_bytes: Measure = Field(default=0, description="Since the process began.")
    io_write_bytes: Measure = 0


class SampleIn(Sent):
    """One sample: of the host, of a guest, or both; at most 8 KiB encoded."""

    stage_name: str | None = Field(default=None, min_length=1, max_length=256)
    source: str | None = Field(default=None, min_length=1, max_length=256)
    host: HostSample | None = None
    guest: dict[str, Any] | None = Field(default=None, description="Any JSON object.")
    age_ms: float = Field(default=0, ge=0, le=OLDEST_MS, description="How long ago it was taken.")


class SamplesIn(Sent):
    """Samples to add to the ring of a run."""

    # More of them are refused as what is too large, by the library.
    samples: list[SampleIn] = Field(json_schema_extra={"maxItems": MOST_PUSHED})
    capacity: int | None = Field(
        default=None, ge=0, le=MOST_SAMPLES, description="How many samples the run keeps from now on; 0 keeps none."
    )


class SampleOut(BaseModel):
    """A sample of the ring. `seq` counts 1, 2, 3, … in the run; absent attributes are left out.

    On a repetition of a push, a sample that the ring has dropped since has neither host nor guest, and the time of the
    push.
    """

    seq: int
    timestamp: float = Field(description="Seconds since the Unix epoch, by the Redis clock.")
    stage_name: str = LEFT_OUT
    source: str = LEFT_OUT
    host: HostSample = LEFT_OUT
    guest: dict[str, Any] = LEFT_OUT
    duplicate: bool = Field(default=LEFT_OUT, description="Only on a repetition of a push.")


class SamplesOut(BaseModel):
    """The samples that were added, in order; none where the ring keeps none."""

    samples: list[SampleOut]
    duplicate: bool = Field(default=LEFT_OUT, description="Only on a repetition.")


class TelemetryOut(BaseModel):
    """Samples, oldest first. Pass `next_seq` as `from_seq` to go on."""

    run_id: str
    samples: list[SampleOut]
    next_seq: int
    missed: int = Field(description="How many samples after `from_seq` are gone: evicted, or freed with the ring.")
    capacity: int = Field(description="How many samples the run keeps.")


class TelemetryQuery(Query):
    """The query of a run's samples: arguments of `log.telemetry`."""

    from_seq: Counter = Field(default=0, description="Only samples with a higher seq.")
    stage_name: str | Absent = Field(default=None, description="Only samples of this stage.")
    # As many as a run keeps by default: one answer shows them all.
    limit: Annotated[int, Field(ge=0, le=DEFAULT_SAMPLES), WHOLE] = Field(
        default=DEFAULT_SAMPLES, description="At most so many samples."
    )
