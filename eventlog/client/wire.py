"""Requests and answers of the server: routes, parameters, bodies, stream lines, problems. Pure."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from ..errors import (
    AlreadyHeld,
    BackendFull,
    BackendRefused,
    BackendUnavailable,
    Conflict,
    EventLogError,
    InvalidInput,
    LeaseLost,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    RejectedContent,
    SlotCancelled,
    VersionConflict,
)
from ..model.events import Body, Event
from ..model.filters import EventFilter
from ..model.ids import Cursor
from ..model.log_values import Gap, LogInfo
from ..model.pages import Page, PageRequest

JSON = "application/json"
LINES = "application/x-ndjson"
LONGEST_LINE_BYTES = 64 * 1024 * 1024
KEY_HEADER = "Idempotency-Key"

Params = list[tuple[str, str | int | float | bool | None]]


class Control(NamedTuple):
    """A line of a stream that is no event: `gap`, `caught_up`, `interrupted`, `heartbeat` or `closing`.

    `cursor`, if any, is where to resume, and `epoch` the incarnation of the log that it belongs to; `detail` says why
    the stream is interrupted.
    """

    name: str
    cursor: str | None
    epoch: str | None
    gap: Gap | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request below the workspace's prefix.

    `repeatable`: sending it twice does no more than once. Any other request is retried only if it certainly was not
    carried out.
    """

    method: str
    path: str
    params: Params = field(default_factory=list)
    content: bytes | None = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = True


def prefix(workspace: str) -> str:
    """The path that all routes of a workspace begin with."""
    # `.` and `..` are names too, but a path is resolved where they stand for themselves.
    name = workspace if workspace.strip(".") else workspace.replace(".", "%2E")
    return f"/v1/workspaces/{name}"


def append_request(bodies: list[Body], expected_offset: int | None, key: str | None, *, single: bool) -> Request:
    """An append that may be repeated: whatever has no idempotency key gets one here."""
    if single or any(body.idempotency_key for body in bodies):
        bodies = [body if body.idempotency_key else body._replace(idempotency_key=own_key()) for body in bodies]
        headers = {}
    else:
        headers = {KEY_HEADER: key or own_key()}
    encoded = [_encoded(body) for body in bodies]
    content = orjson.dumps(encoded[0] if single else encoded)
    params: Params = [] if expected_offset is None else [("expected_offset", expected_offset)]
    return Request("POST", "/events", params, content, {"Content-Type": JSON, **headers})


def own_key() -> str:
    """A new idempotency key, for a request that must be carried out once however often it is sent."""
    return f"client-{uuid.uuid4().hex}"


def _encoded(body: Body) -> dict[str, Any]:
    fields = {name: value for name, value in body._asdict().items() if value is not None and name != "payload_json"}
    return {**fields, "payload": orjson.Fragment(body.payload_json)}


def page_request(request: PageRequest) -> Request:
    """A page; the times travel as they were given, for the server rounds them its own way."""
    params = [*position_params("since", request.since), *position_params("until", request.until)]
    params += [("limit", str(request.limit)), ("order", "desc" if request.descending else "asc")]
    if request.from_ms:
        params.append(("since_time", f"{request.from_ms / 1000:.3f}"))
    return Request("GET", "/events", [*params, *filter_params(request.wanted), *_epoch(request.epoch)])


def stream_params(since: str, wanted: EventFilter, until_terminal: bool, epoch: str | None = None) -> Params:
    """The parameters of a stream from `since` on."""
    ending: Params = [("until_terminal", "true")] if until_terminal else []
    return [("since", since), *filter_params(wanted), *_epoch(epoch), *ending]


def _epoch(epoch: str | None) -> Params:
    return [("epoch", epoch)] if epoch else []


def position_params(name: str, cursor: Cursor | None) -> Params:
    """A cursor as parameters."""
    return [] if cursor is None else [(name, str(cursor))]


def filter_params(wanted: EventFilter) -> Params:
    """A filter as parameters."""
    return [
        (field.name, one)
        for field, value in wanted.conditions()
        for one in (value if isinstance(value, tuple) else (value,))
    ]


def read_appended(answer: Any, given: Sequence[Body]) -> list[Event]:
    """The events of an answer to an append. What only the client's own retry repeated is no duplicate."""
    found = answer.get("events", [answer])
    keyed = [body.idempotency_key is not None for body in given]
    if len(found) != len(given) and all(keyed):
        # The key is the caller's, and another batch was appended under it first.
        keyed = [True] * len(found)
    batch_duplicate = bool(answer.get("duplicate", False))
    return [
        Event.from_dict({**event, "duplicate": (event.get("duplicate", False) or batch_duplicate) and of_caller})
        for event, of_caller in zip(found, keyed, strict=True)
    ]


def read_page(answer: Any) -> Page:
    """A page as the server sent it."""
    return Page(
        events=[Event.from_dict(event) for event in answer["events"]],
        cursor=answer["cursor"],
        gap=read_gap(answer["gap"]),
        at_end=answer["at_end"],
        epoch=answer["epoch"] or "",
    )


def read_info(answer: Any) -> LogInfo:
    """The state of the log as the server sent it."""
    own = {name: answer[name] for name in LogInfo.__dataclass_fields__ if name in answer}
    return LogInfo(**{**own, **answer["retention"]})


def retention_request(ttl_ms: int | None, max_entries: int | None) -> Request:
    """A change of what a log keeps."""
    asked = {"ttl_seconds": None if ttl_ms is None else ttl_ms / 1000, "max_entries": max_entries}
    given = {name: value for name, value in asked.items() if value is not None}
    return Request("PUT", "/log/retention", [], orjson.dumps(given), {"Content-Type": JSON})


def read_line(line: bytes | None) -> Event | Control | None:
    """One line of a stream; None for a heartbeat. Readers ignore a control event of an unknown name."""
    if line is None:
        raise ValueError("a line that is too long")
    if not line.strip():
        return None
    data = orjson.loads(line)
    name = data.get("control")
    if name is None:
        return Event.from_dict(data)
    gap = read_gap(data) if name == "gap" else None
    return Control(name, data.get("cursor"), data.get("epoch"), gap, str(data.get("detail", "")))


def read_gap(data: Mapping[str, Any] | None) -> Gap | None:
    """A gap, if there is one."""
    return None if data is None else Gap(*(data[name] for name in Gap._fields))


def problem(status: int, content: bytes, retry_after: str | None) -> EventLogError:
    """The library's error for an answer that is not a success."""
    try:
        data = orjson.loads(content)
    except ValueError:
        data = None
    if not isinstance(data, dict) or "code" not in data:
        return _unknown_problem(status)
    detail = str(data.get("detail") or data.get("title") or data["code"])
    match data["code"]:
        case "INVALID_PARAMS":
            return _invalid(InvalidInput, data, detail)
        case "PAYLOAD_TOO_LARGE":
            return _invalid(PayloadTooLarge, data, detail)
        case "REJECTED_CONTENT":
            return _invalid(RejectedContent, data, detail)
        case "CONFLICT" if "last_offset" in data:
            return Conflict(int(data.get("expected_offset", 0)), int(data["last_offset"]))
        case "NOT_FOUND":
            return NotFound(detail, data.get("lease_expired_at"))
        case "BACKEND_UNAVAILABLE":
            unknown = bool(data.get("outcome_unknown"))
            if data.get("reason") == "refused":
                return BackendRefused(detail, outcome_unknown=unknown)
            kind = {"full": BackendFull, "overloaded": Overloaded}.get(str(data.get("reason")), BackendUnavailable)
            return kind(detail, outcome_unknown=unknown, retry_after_s=_seconds(retry_after))
    return _slot_problem(data) or EventLogError(f"{data['code']}: {detail}")


def _slot_problem(data: Mapping[str, Any]) -> EventLogError | None:
    """The error for a problem about slots or policies; None for an unknown one."""
    execution = (str(data.get("queue", "")), str(data.get("execution_id", "")))
    match data:
        case {"code": "LEASE_LOST"}:
            return LeaseLost(*execution)
        case {"code": "QUEUE_FULL", "length": int(length), "limit": int(limit)}:
            return QueueFull(*execution, length, limit)
        case {"code": "QUEUE_TIMEOUT", "waited_seconds": int() | float() as waited_s}:
            return QueueTimeout(*execution, waited_s)
        case {"code": "RATE_LIMITED", "retry_after_seconds": int() | float() as retry_s}:
            return RateLimited(*execution, retry_s)
        case {"code": "QUOTA_EXCEEDED", "retry_after_seconds": int() | float() as retry_s}:
            return QuotaExceeded(*execution, retry_s)
        case {"code": "CONFLICT", "expected_version": int(expected), "version": int(version)}:
            return VersionConflict(expected, version)
        case {"code": "CONFLICT", "state": "held", "fencing_token": int() | None as token}:
            return AlreadyHeld(*execution, token)
        case {"code": "CONFLICT", "state": "cancelled"}:
            return SlotCancelled(*execution)
    return None


def _invalid(kind: type[InvalidInput], data: Mapping[str, Any], detail: str) -> InvalidInput:
    field = str(data.get("field") or "request")
    index = data.get("index")
    if not isinstance(index, int):
        index = None
    # The exception puts the field in front of its message; the server may have done so already.
    for place in (f"events[{index}].{field}: ", f"{field}: "):
        detail = detail.removeprefix(place)
    return kind(field, detail, index=index)


def _unknown_problem(status: int) -> EventLogError:
    if status in (502, 503, 504):
        return BackendUnavailable(f"the server is not available (HTTP {status})", outcome_unknown=True)
    return EventLogError(f"the server answered HTTP {status} in a way that an eventlog server does not")


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else 1.0
