"""Events, pages of them, and the queries that ask for them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from eventlog.errors import InvalidInput
from eventlog.model.events import DEFAULTS, FIELDS, KIND_PATTERN, EventField
from eventlog.model.filters import FILTERS, FilterField
from eventlog.model.ids import MAX_COUNTER
from eventlog.model.pages import DEFAULT_PAGE, MAX_PAGE
from eventlog.model.retention import LARGEST_MAX_ENTRIES, LONGEST_TTL_S

from .base import CURSOR, ID, LEFT_OUT, SECONDS, WHOLE, Absent, Counter, Flag, Position, Query, Sent, with_fields

Payload = dict[str, Any]
_LATEST_TIME_S = MAX_COUNTER // 1000
_SHOWN = FIELDS[:-1]
_DEFAULTS = dict(zip((field.name for field in FIELDS), DEFAULTS, strict=True))


def _sent(field: EventField) -> tuple[Any, Any]:
    default = _DEFAULTS[field.name]
    schema = dict(field.text.schema) if default is not None else {"anyOf": [field.text.schema, {"type": "null"}]}
    return Annotated[str | None, WithJsonSchema(schema)], Field(default=default, description=field.help)


def _shown(field: EventField) -> tuple[Any, Any]:
    always = _DEFAULTS[field.name] is not None
    return _text(field), Field(default=... if always else None, description=field.help)


def _text(field: EventField) -> Any:
    return Annotated[str, WithJsonSchema(dict(field.text.schema))]


@with_fields({field.name: _sent(field) for field in FIELDS})
class EventIn(BaseModel):
    """An event to append."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(pattern=f"^{KIND_PATTERN}$", examples=["tool.invoked"])
    payload: Payload = Field(default={}, description="Any JSON object, at most 64 KiB encoded.")


@with_fields({field.name: _shown(field) for field in _SHOWN})
class EventOut(BaseModel):
    """An event of the log. Absent attributes are left out."""

    id: str = Field(pattern=ID, examples=["1763720000123-41"])
    offset: int = Field(ge=1, description="Dense position in the log: 1, 2, 3, …")
    timestamp: float = Field(description="Seconds since the Unix epoch, by the Redis clock.")
    kind: str
    payload: Payload
    seq: int = Field(default=LEFT_OUT, description="1, 2, 3, … within (run, lane).")
    duplicate: bool = Field(
        default=LEFT_OUT, description="Only on an answer to an append that repeated an earlier one."
    )


class BatchOut(BaseModel):
    """The events of a batch, in order."""

    events: list[EventOut]
    duplicate: bool = Field(default=LEFT_OUT, description="Only where all of them are repetitions.")


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


class RetentionIn(Sent):
    """What a log is to keep from now on; one of the two at least."""

    ttl_seconds: float | None = Field(default=None, ge=0.001, le=LONGEST_TTL_S)
    max_entries: int | None = Field(default=None, ge=1, le=LARGEST_MAX_ENTRIES)


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


def _filter(field: FilterField) -> tuple[Any, Any]:
    def check(value: Any) -> Any:
        field.check(field.name, value)
        return value

    schema = dict(field.schema)
    if field.form == "texts":
        several = {"type": "array", "maxItems": 64, "items": schema}
        return Annotated[list[str], AfterValidator(check), WithJsonSchema(several)], Field([], description=field.help)
    one = (
        Annotated[int, WHOLE, AfterValidator(check), WithJsonSchema(schema)]
        if field.form == "integer"
        else Annotated[str, AfterValidator(check), WithJsonSchema(schema)]
    )
    return one | Absent, Field(None, description=field.help)


_FILTERS = {field.name: _filter(field) for field in FILTERS}


@with_fields(_FILTERS)
class Filters(Query):
    """The filters that every reading route takes."""

    def filters(self) -> dict[str, Any]:
        """The arguments of `EventFilter.of`."""
        return {name: getattr(self, name) for name in _FILTERS}


@with_fields({name: field for name, field in _FILTERS.items() if name != "run_id"})
class ReplayFilters(Query):
    """The filters of the replay of one run."""


SINCE = "Only what comes after this event id, cursor or offset; 0 is nothing seen yet."
UNTIL = "Only what comes before this event id, cursor or offset (exclusive)."
LIMIT = "At most so many events; 0 probes: no events, but cursor and gap."
Limit = Annotated[int, Field(ge=0, le=MAX_PAGE), WHOLE]
SinceTime = Annotated[float, Field(ge=0, le=_LATEST_TIME_S), SECONDS]
Epoch = Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,64}$")]
_SINCE_TIME = "Only events at or after this time, in seconds since the Unix epoch."
_EPOCH = "The `epoch` of the page that the cursor is from: a log that was lost is then noticed for offsets too."


_LAST_EVENT_ID = (
    "The header Last-Event-ID for clients that cannot send it, also as `last-event-id` and the like. It wins over "
    "`since`, and the header over it; empty is the same as absent."
)
_HYPHENS = str.maketrans("", "", "-_")


class PageQuery(Filters):
    """The query of a page: the arguments of `log.page`."""

    since: Position | Absent = Field(default=None, description=SINCE)
    until: Position | Absent = Field(default=None, description=UNTIL)
    limit: Limit = Field(default=DEFAULT_PAGE, description=LIMIT)
    order: Literal["asc", "desc"] = Field(default="asc", description="Oldest first (asc) or newest first (desc).")
    since_time: SinceTime | Absent = Field(default=None, description=_SINCE_TIME)
    epoch: Epoch | Absent = Field(default=None, description=_EPOCH)


class ActivityQuery(Filters):
    """The query of the latest activity: arguments of `log.page`."""

    until: Position | Absent = Field(default=None, description=UNTIL)
    limit: Limit = Field(default=50, description=LIMIT)
    since_time: SinceTime | Absent = Field(default=None, description=_SINCE_TIME)


class StreamQuery(Filters):
    """The query of a stream; without `since` it begins now."""

    since: Position | Absent = Field(default=None, description=SINCE)
    lastEventId: Position | Absent = Field(default=None, description=_LAST_EVENT_ID)
    until_terminal: Flag = Field(default=False, description="End after the terminal event of `run_id`.")
    epoch: Epoch | Absent = Field(default=None, description=_EPOCH)

    @model_validator(mode="before")
    @classmethod
    def _however_it_is_spelled(cls, sent: dict[str, Any]) -> dict[str, Any]:
        meant = [name for name in sent if name.translate(_HYPHENS).lower() == "lasteventid"]
        if len(meant) > 1:
            raise InvalidInput(meant[1], f"is said already, by {meant[0]}")
        return {
            "lastEventId" if name in meant else name: value
            for name, value in sent.items()
            if value or name not in meant
        }

    @model_validator(mode="after")
    def _ends_with_a_run(self) -> Self:
        if self.until_terminal and self.filters()["run_id"] is None:
            raise InvalidInput("until_terminal", "needs a run_id: it ends after that run's terminal event")
        return self


class AppendQuery(Query):
    """The query of an append."""

    expected_offset: Counter | Absent = Field(default=None, description="Append only if the log ends at this offset.")
