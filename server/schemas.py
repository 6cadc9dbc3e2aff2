"""The shapes of requests and answers, for the documentation. Nothing is parsed or encoded with these models."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from eventlog.config import WORKSPACE_PATTERN
from eventlog.events import KEY_PATTERN, KIND_PATTERN, RUN_PATTERN
from eventlog.ids import MAX_COUNTER

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


_MODELS: tuple[type[BaseModel], ...] = (
    EventIn,
    EventOut,
    BatchOut,
    CloudEvent,
    PageOut,
    ActivityOut,
    LogOut,
    Cleared,
    WorkspacesOut,
    Ready,
    Alive,
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
    400: "What was sent is wrong: `field` says where. Nothing was appended.",
    404: "It is not, or no longer, there.",
    405: "The path does not take this method.",
    408: "The body did not arrive in time.",
    409: "The log does not end at `expected_offset`; `last_offset` says where it does.",
    413: "A body, a batch or a payload is over its limit. Nothing was appended.",
    415: "The type of the body is not taken.",
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


def _query(name: str, schema: dict[str, Any], description: str, place: str = "query") -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "schema": schema, "description": description}


_PARAMETERS: dict[str, dict[str, Any]] = {
    "since": {"type": "string", "pattern": CURSOR},
    "until": {"type": "string", "pattern": CURSOR},
    "limit": {"type": "integer", "minimum": 0, "maximum": 1000},
    "kind": {
        "type": "array",
        "maxItems": 64,
        "items": {"type": "string", "pattern": r"^([A-Za-z0-9_.:/-]{1,128}\*?|\*)$"},
    },
    "run_id": {"type": "string", "pattern": f"^{RUN_PATTERN}$"},
    "lane_id": {"type": "string", "pattern": f"^{RUN_PATTERN}$"},
    "stage_name": {"type": "string"},
    "visibility": {"type": "string", "enum": ["public", "internal", "private"]},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "since_time": {"type": "number", "minimum": 0, "maximum": 9_000_000_000_000},
    "epoch": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
    "until_terminal": {"type": "boolean"},
    "expected_offset": {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER},
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
    "order": "Oldest first (asc) or newest first (desc).",
    "since_time": "Only events at or after this time, in seconds since the Unix epoch.",
    "epoch": "The `epoch` of the page that the cursor is from: a lost log is told for offsets too.",
    "until_terminal": "End after the terminal event of `run_id`.",
    "expected_offset": "Append only if the log ends at this offset.",
}


def parameters(*names: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Query parameters by name, and headers with their meanings, for a route's documentation."""
    documented = [_query(name, _PARAMETERS[name], _MEANINGS[name]) for name in names]
    documented += [_query(name, {"type": "string"}, meaning, "header") for name, meaning in (headers or {}).items()]
    return documented


WORKSPACE = f"^{WORKSPACE_PATTERN}$"
