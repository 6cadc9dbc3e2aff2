"""The shapes of requests and answers, for the documentation. Nothing is parsed or encoded with these models."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from eventlog.model.events import KEY_PATTERN, KIND_PATTERN, RUN_PATTERN
from eventlog.model.ids import MAX_COUNTER, WORKSPACE_PATTERN
from eventlog.model.pages import MAX_PAGE
from eventlog.runs.fold import StageStatus
from eventlog.runs.records import RunStatus
from eventlog.slots.operations import MOST_LISTED
from eventlog.slots.policy import LARGEST_COUNT, LONGEST_WAIT_S, LONGEST_WINDOW_S, NAME_PATTERN
from eventlog.slots.request import LONGEST_LEASE_S, SHORTEST_LEASE_S
from eventlog.telemetry.sample import MOST_PUSHED, OLDEST_MS
from eventlog.telemetry.terms import MOST_SAMPLES

from .slot_requests import LONGEST_POLL_S, OWNER_PATTERN

REFERENCES = "#/components/schemas/{model}"
ID = r"^\d{1,16}-\d{1,16}$"
CURSOR = r"^(\d{1,16}-)?\d{1,16}$"
Visibility = Literal["public", "internal", "private"]
Payload = dict[str, Any]


class EventIn(BaseModel):
    """An event to append."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(pattern=f"^{KIND_PATTERN}$", examples=["tool.invoked"])
    payload: Payload = Field(default={}, description="Any JSON object, at most 64 KiB encoded.")
    run_id: str | None = Field(default=None, pattern=f"^{RUN_PATTERN}$")
    lane_id: str | None = Field(
        default=None, pattern=f"^{RUN_PATTERN}$", description="Needs a run_id; main unless given."
    )
    stage_name: str | None = Field(default=None, min_length=1, max_length=256)
    group_id: str | None = Field(default=None, min_length=1, max_length=256)
    visibility: Visibility = "public"
    source: str | None = Field(default=None, min_length=1, max_length=256)
    traceparent: str | None = Field(default=None, description="W3C trace context.")
    idempotency_key: str | None = Field(default=None, pattern=f"^{KEY_PATTERN}$")


class EventOut(BaseModel):
    """An event of the log. Absent attributes are left out."""

    id: str = Field(pattern=ID, examples=["1763720000123-41"])
    offset: int = Field(ge=1, description="Dense position in the log: 1, 2, 3, …")
    timestamp: float = Field(description="Seconds since the Unix epoch, by the Redis clock.")
    kind: str
    payload: Payload
    run_id: str = ""
    lane_id: str = ""
    seq: int = Field(default=1, description="1, 2, 3, … within (run, lane).")
    stage_name: str = ""
    group_id: str = ""
    visibility: Visibility
    source: str = ""
    traceparent: str = ""
    duplicate: Literal[True] = Field(
        default=True, description="Only on an answer to an append that repeated an earlier one."
    )


class BatchOut(BaseModel):
    """The events of a batch, in order."""

    events: list[EventOut]
    duplicate: Literal[True] = Field(default=True, description="Only where all of them are repetitions.")


class CloudEvent(BaseModel):
    """A CloudEvent 1.0 in structured mode. `source` and `id` together are its idempotency key."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: str = Field(min_length=1)
    source: str = Field(min_length=1, max_length=256)
    type: str = Field(pattern=f"^{KIND_PATTERN}$")
    time: str = Field(default="", description="Not kept on the way in: the log's clock counts.")
    datacontenttype: str = "application/json"
    data: Payload = {}
    runid: str = ""
    laneid: str = ""
    stagename: str = ""
    groupid: str = ""
    visibility: Visibility = "public"
    traceparent: str = ""


class Gap(BaseModel):
    """Events that a reader can no longer be given."""

    missed: int
    from_offset: int
    to_offset: int
    reason: Literal["trimmed", "reset", "rollback"]


class PageOut(BaseModel):
    """One page. Pass `cursor` as `since` to go on, as `until` if the order was desc."""

    events: list[EventOut]
    cursor: str = Field(pattern=CURSOR)
    gap: Gap | None
    at_end: bool
    epoch: str


class ActivityEvent(EventOut):
    """An event with one line for people."""

    summary: str = Field(max_length=160)


class ActivityOut(BaseModel):
    """The newest events first. Pass `cursor` as `until` to go further back."""

    events: list[ActivityEvent]
    cursor: str
    gap: Gap | None
    at_end: bool
    epoch: str


class RetentionOut(BaseModel):
    """How long and how many events are kept."""

    ttl_seconds: float
    max_entries: int


class LogOut(BaseModel):
    """The state of a log."""

    workspace: str
    backend: str
    epoch: str | None
    length: int
    first_id: str | None
    last_id: str | None
    last_offset: int
    trimmed: int
    bytes: int | None
    retention: RetentionOut
    time: float


class Cleared(BaseModel):
    """How many events were removed; counters and epoch stay."""

    removed: int


class RunOut(BaseModel):
    """One run. Its first terminal event decides its status. Times are seconds since the Unix epoch."""

    run_id: str
    status: RunStatus
    first_id: str = Field(pattern=ID)
    last_id: str = Field(pattern=ID)
    ended_id: str | None = Field(description="Its terminal event; null while it runs.")
    started_at: float
    last_event_at: float
    ended_at: float | None
    duration_ms: int = Field(ge=0, description="From its first event to its terminal one, or until now.")
    events: int = Field(ge=1, description="All that were ever appended.")
    lanes: dict[str, int] = Field(description="The last seq of each lane.")


class RunsOut(BaseModel):
    """The runs that have events in the log, the latest active first. Pass `cursor` as `until` to go further back."""

    runs: list[RunOut]
    cursor: str | None
    at_end: bool


class ReplayOut(BaseModel):
    """A page of a run's events in the order of the log. Pass `cursor` as `since` to go on."""

    run_id: str
    events: list[EventOut]
    cursor: str = Field(pattern=CURSOR)
    at_end: bool
    missed: dict[str, int] = Field(
        description="How many events after `since_seq` of which lanes are gone; told on a page without `since`."
    )
    gap: Gap | None = Field(description="What the log, of whatever run, has lost after `since`.")


class StageOut(BaseModel):
    """One stage, as its latest attempt stands. What is not known is null. Times are seconds since the Unix epoch."""

    stage_name: str
    status: StageStatus
    stage_attempt: int
    group_id: str
    depends_on: list[str]
    queued_at: float | None
    started_at: float | None
    completed_at: float | None
    duration_ms: int | None
    exit_code: int | None
    error: str | None
    reason: str | None


class StagesOut(BaseModel):
    """The stages of a run, by group and first appearance."""

    run_id: str
    stages: list[StageOut]


Measure = Annotated[float, Field(ge=0, le=MAX_COUNTER)]


class HostSample(BaseModel):
    """What a process and its children use. What the system does not tell is left out."""

    model_config = ConfigDict(extra="forbid")

    rss_bytes: Measure = 0
    cpu_percent: Measure = Field(default=0, description="100 is one core.")
    io_read_bytes: Measure = Field(default=0, description="Since the process began.")
    io_write_bytes: Measure = 0


class SampleIn(BaseModel):
    """One sample: of the host, of a guest, or both; at most 8 KiB encoded."""

    model_config = ConfigDict(extra="forbid")

    stage_name: str | None = Field(default=None, min_length=1, max_length=256)
    source: str | None = Field(default=None, min_length=1, max_length=256)
    host: HostSample | None = None
    guest: dict[str, Any] | None = Field(default=None, description="Any JSON object.")
    age_ms: float = Field(default=0, ge=0, le=OLDEST_MS, description="How long ago it was taken.")


class SamplesIn(BaseModel):
    """Samples to add to the ring of a run."""

    model_config = ConfigDict(extra="forbid")

    samples: list[SampleIn] = Field(max_length=MOST_PUSHED)
    capacity: int | None = Field(
        default=None, ge=0, le=MOST_SAMPLES, description="How many samples the run keeps from now on; 0 keeps none."
    )


class SampleOut(BaseModel):
    """A sample of the ring. `seq` counts 1, 2, 3, … in the run; absent attributes are left out.

    On a repetition of a push, what the ring has let go since has neither host nor guest, and the time of the push.
    """

    seq: int
    timestamp: float = Field(description="Seconds since the Unix epoch, by the Redis clock.")
    stage_name: str = ""
    source: str = ""
    host: HostSample = HostSample()
    guest: dict[str, Any] = {}
    duplicate: Literal[True] = Field(default=True, description="Only on a repetition of a push.")


class SamplesOut(BaseModel):
    """The samples that were added, in order; none where the ring keeps none."""

    samples: list[SampleOut]
    duplicate: Literal[True] = Field(default=True, description="Only on a repetition.")


class TelemetryOut(BaseModel):
    """Samples, oldest first. Pass `next_seq` as `from_seq` to go on."""

    run_id: str
    samples: list[SampleOut]
    next_seq: int
    missed: int = Field(description="How many samples after `from_seq` are gone: evicted, or freed with the ring.")
    capacity: int = Field(description="How many samples the run keeps.")


class WorkspaceOut(BaseModel):
    """One workspace that has a log."""

    workspace: str
    last_offset: int
    last_activity: float = Field(description="Seconds since the Unix epoch.")
    length: int
    bytes: int | None
    epoch: str | None


class WorkspacesOut(BaseModel):
    """Every workspace that has a log, the latest active first."""

    workspaces: list[WorkspaceOut]


class Persistence(BaseModel):
    """What Redis keeps on disk. `fsync` is null without an append-only file, or where it may not be read."""

    aof: bool
    fsync: str | None
    rdb: str | None


class RedisOut(BaseModel):
    """The Redis under the logs."""

    name: str
    version: str
    role: str
    persistence: Persistence
    maxmemory_bytes: int
    maxmemory_policy: str
    used_memory_bytes: int


class Ready(BaseModel):
    """The server can append and read; `warnings` say what may cost events."""

    ready: Literal[True]
    backend: str
    redis: RedisOut | None
    warnings: list[str]


class Alive(BaseModel):
    """The server's process lives."""

    ok: Literal[True]
    version: str


class Problem(BaseModel):
    """RFC 9457. `field` and `index` say where the problem lies, as far as that is known."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(examples=["INVALID_PARAMS"])
    detail: str
    field: str = ""
    index: int = 0


SlotName = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Lease = Annotated[float, Field(ge=SHORTEST_LEASE_S, le=LONGEST_LEASE_S)]


class SlotIn(BaseModel):
    """Who asks for a slot, and on what terms."""

    model_config = ConfigDict(extra="forbid")

    execution_id: SlotName
    max_concurrent: Count | None = Field(
        default=None, description="How many may hold a slot of the action at once, unless a policy says it."
    )
    pack: SlotName | None = Field(default=None, description="Whose policy bears on the action.")
    group_key: SlotName | None = Field(default=None, description="A queue of the action that is independent.")
    lease_seconds: Lease | None = Field(default=30.0, description="How long the slot stays held without a renewal.")
    wait_seconds: float | None = Field(
        default=0.0, ge=0, le=LONGEST_POLL_S, description="How long the answer may wait for the slot."
    )
    queue_timeout_seconds: float | None = Field(
        default=3600.0, ge=0, le=LONGEST_WAIT_S, description="How long the place stands; 0: a free slot or none."
    )
    max_queue_length: Count | None = Field(default=10_000, description="How many may wait, unless a policy says it.")
    owner: str | None = Field(default=None, pattern=f"^{OWNER_PATTERN}$", description="What operators see.")


class LeaseIn(BaseModel):
    """A renewal. Without a length the lease keeps the one that it has."""

    model_config = ConfigDict(extra="forbid")

    lease_seconds: Lease | None = None
    fencing_token: int | None = Field(
        default=None, ge=1, lt=1 << 53, description="Renew only the slot that was granted with it."
    )


class SlotOut(BaseModel):
    """Where an execution stands. What does not apply is left out. Times are seconds since the Unix epoch."""

    state: Literal["granted", "queued"]
    fencing_token: int = Field(default=1, description="Of the grant; each is greater than those before.")
    lease_expires_at: float = 0.0
    position: int = Field(default=1, ge=1, description="1 is next.")
    limited_by: Literal["busy", "rate", "quota"] = Field(default="busy", description="What is in the way.")
    retry_at: float = Field(default=0.0, description="When a rate or a quota allows the next grant.")
    queue_expires_at: float = Field(default=0.0, description="Until when the place stands.")
    already: Literal[True] = Field(default=True, description="It was here before it asked.")
    time: float = Field(description="When this was so, by the Redis clock.")


class LeftOut(BaseModel):
    """What became of who was to go: it gave a slot back, it left the line, or nothing was there to be done."""

    result: Literal["released", "cancelled", "none"]


class HolderOut(BaseModel):
    """Who holds a slot."""

    execution_id: str
    fencing_token: int
    granted_at: float
    lease_expires_at: float
    owner: str | None


class WaiterOut(BaseModel):
    """Who waits."""

    execution_id: str
    position: int
    enqueued_at: float
    owner: str | None


class RateModel(BaseModel):
    """At most `count` grants: as a rate limit in any stretch of `seconds`, as a quota in each window of that length."""

    model_config = ConfigDict(extra="forbid")

    count: Count
    seconds: float = Field(ge=0.001, le=LONGEST_WINDOW_S)


class PolicyIn(BaseModel):
    """Limits. What is not said is left to the next less specific scope, in the end to the caller or the default."""

    model_config = ConfigDict(extra="forbid")

    max_concurrent: Count | None = None
    rate_limit: RateModel | None = None
    quota: RateModel | None = None
    max_queue_length: Count | None = None
    queue_timeout_seconds: float | None = Field(default=None, ge=0.001, le=LONGEST_WAIT_S)
    log_transitions: bool | None = Field(
        default=None, description="false keeps the queue's transitions out of the log."
    )


class PolicyOut(PolicyIn):
    """A policy that is set. The ETag of the answer is its version."""

    scope: str = Field(examples=["action/build"])
    version: int


class PoliciesOut(BaseModel):
    """All policies that are set; the queues' own limits have scopes `queue/<action>` and `queue/<action>/<group>`."""

    policies: list[PolicyOut]


class PolicyDeleted(BaseModel):
    """The scope has no policy (any more). `version` counts the changes of all policies."""

    scope: str
    version: int


class LimitIn(BaseModel):
    """A queue's own limit."""

    model_config = ConfigDict(extra="forbid")

    max_concurrent: Count


class LimitOut(BaseModel):
    """A queue's own limit as it is now; null: the policies and callers decide."""

    action: str
    group_key: str | None
    max_concurrent: int | None
    version: int


class QueueStatsOut(BaseModel):
    """One queue. The counts are exact; `holders` and `waiters` list at most `listed` each."""

    action: str
    group_key: str | None
    queue_length: int
    active_count: int
    max_concurrent: int | None
    limits: PolicyIn
    oldest_enqueued_at: float | None
    total_enqueued: int
    total_completed: int
    total_expired: int
    total_timed_out: int
    total_cancelled: int
    holders: list[HolderOut]
    waiters: list[WaiterOut]
    time: float


class ActionsOut(BaseModel):
    """Every queue that was used within the last week, by name."""

    actions: list[QueueStatsOut]


class QueuesCleared(BaseModel):
    """How many were taken out."""

    holders: int
    waiters: int


_MODELS: tuple[type[BaseModel], ...] = (
    EventIn,
    EventOut,
    BatchOut,
    CloudEvent,
    PageOut,
    ActivityOut,
    LogOut,
    Cleared,
    RunOut,
    RunsOut,
    ReplayOut,
    StagesOut,
    SamplesIn,
    SamplesOut,
    TelemetryOut,
    WorkspacesOut,
    Ready,
    Alive,
    SlotIn,
    LeaseIn,
    SlotOut,
    LeftOut,
    PolicyIn,
    PolicyOut,
    PoliciesOut,
    PolicyDeleted,
    LimitIn,
    LimitOut,
    QueueStatsOut,
    ActionsOut,
    QueuesCleared,
    Problem,
)


def components() -> dict[str, Any]:
    """The schemas by name, for `components.schemas`."""
    _, definitions = models_json_schema([(model, "validation") for model in _MODELS], ref_template=REFERENCES)
    found: dict[str, Any] = definitions["$defs"]
    return found


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a model's schema."""
    return {"$ref": REFERENCES.format(model=model.__name__)}


def content(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """The content of a body that is this model."""
    return {media_type: {"schema": reference(model)}}


_PROBLEMS = {
    400: "What was sent is wrong: `field` says where. Nothing was changed.",
    404: "It is not, or no longer, there.",
    405: "The path does not take this method.",
    408: "The body did not arrive in time.",
    409: "It is not as was expected (`CONFLICT`), or the slot is not held any more (`LEASE_LOST`).",
    413: "A body, a batch or a payload is over its limit. Nothing was changed.",
    415: "The type of the body is not taken.",
    422: "The payload carries hidden chain-of-thought: `field` says where. Nothing was appended.",
    429: "No slot, and no place: the line is full, its time-out ran out, or a rate or a quota stands in the way.",
    503: "Redis does not answer, or the server closes. Try again after `Retry-After` seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses that are problems, for a route's documentation."""
    return {
        status: {"description": _PROBLEMS[status], "content": content(Problem, "application/problem+json")}
        for status in statuses
    }


def answer(description: str, model: type[BaseModel], **more: Any) -> dict[str, Any]:
    """The response that is `model`, for a route's documentation; `more` are further content types."""
    return {"description": description, "content": {**content(model), **more}}


def body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The body of a request that is `model`, for a route's documentation."""
    return {"required": required, "content": content(model)}


def _query(name: str, schema: dict[str, Any], description: str, place: str = "query") -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "schema": schema, "description": description}


_PARAMETERS: dict[str, dict[str, Any]] = {
    "since": {"type": "string", "pattern": CURSOR},
    "until": {"type": "string", "pattern": CURSOR},
    "kind": {
        "type": "array",
        "maxItems": 64,
        "items": {"type": "string", "pattern": r"^([A-Za-z0-9_.:/-]{1,128}\*?|\*)$"},
    },
    "run_id": {"type": "string", "pattern": f"^{RUN_PATTERN}$"},
    "lane_id": {"type": "string", "pattern": f"^{RUN_PATTERN}$"},
    "stage_name": {"type": "string"},
    "visibility": {"type": "string", "enum": ["public", "internal", "private"]},
    "since_seq": {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
    "status": {"type": "string", "enum": list(get_args(RunStatus))},
    "from_seq": {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "since_time": {"type": "number", "minimum": 0, "maximum": 9_000_000_000_000},
    "epoch": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
    "until_terminal": {"type": "boolean"},
    "expected_offset": {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
    "wait_seconds": {"type": "number", "minimum": 0, "maximum": LONGEST_POLL_S},
    "group_key": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
    "fencing_token": {"type": "integer", "minimum": 1, "maximum": (1 << 53) - 1},
    "only_queued": {"type": "boolean"},
    "listed": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED},
    "expected_version": {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
}
_MEANINGS = {
    "since": "Only what comes after this event id, cursor or offset; 0 is nothing seen yet.",
    "until": "Only what comes before this event id, cursor or offset (exclusive).",
    "limit": "At most so many events; 0 probes: no events, but cursor and gap.",
    "kind": "A kind, or a prefix such as `tool.*`; repeat it for several.",
    "run_id": "Only events of this run.",
    "lane_id": "Only events of this lane.",
    "stage_name": "Only events of this stage.",
    "visibility": "A ceiling: this level and all before it. Absent: all.",
    "since_seq": "Only events of runs whose seq within their lane is above this.",
    "status": "Only runs of this status.",
    "from_seq": "Only samples with a higher seq.",
    "order": "Oldest first (asc) or newest first (desc).",
    "since_time": "Only events at or after this time, in seconds since the Unix epoch.",
    "epoch": "The `epoch` of the page that the cursor is from: a lost log is told for offsets too.",
    "until_terminal": "End after the terminal event of `run_id`.",
    "expected_offset": "Append only if the log ends at this offset.",
    "wait_seconds": "How long the answer may wait for the state to change, while it is queued.",
    "group_key": "The group whose queue it is; absent: the action's own.",
    "fencing_token": "Release only the slot that was granted with it.",
    "only_queued": "Leave the line, but keep a slot.",
    "listed": "How many holders and waiters of a queue to list, at most; 100 unless given.",
    "expected_version": "Only if the policy has this version; 0: if it is not set.",
}


def parameters(
    *names: str,
    headers: dict[str, str] | None = None,
    limit: tuple[int, int] = (0, MAX_PAGE),
    meanings: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Query parameters by name, and headers with their meanings, for a route's documentation.

    `limit` is the range of the parameter of that name; `meanings` go before the usual ones.
    """
    schemas = {**_PARAMETERS, "limit": {"type": "integer", "minimum": limit[0], "maximum": limit[1]}}
    documented = [_query(name, schemas[name], {**_MEANINGS, **meanings}[name]) for name in names]
    documented += [_query(name, {"type": "string"}, meaning, "header") for name, meaning in (headers or {}).items()]
    return documented


WORKSPACE = f"^{WORKSPACE_PATTERN}$"
RUN = f"^{RUN_PATTERN}$"
NAME = f"^{NAME_PATTERN}$"
