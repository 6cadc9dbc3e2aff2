"""Append: `POST …/events`, from the bytes of a request to the bytes of its answer, top to bottom.

NDJSON, which is streamed in and out, goes on in `ndjson.py`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.types import Scope

from eventlog.errors import InvalidInput
from eventlog.log.awaited import AsyncEventLog
from eventlog.model.cloudevents import append_fields, attribute_of, is_json_type
from eventlog.model.events import Body
from eventlog.model.strictjson import is_blank, strict_loads

from ..answers import Handover, Json
from ..logs import Logs
from ..ndjson import NDJSON, append_lines
from ..problems import UnsupportedMediaType
from ..requests import JSON, content_type, header, media_type, read_query, receive_body
from ..room import EVENT_BYTES
from ..route import Workspace, problems, reference
from ..schemas.base import Absent
from ..schemas.events import AppendQuery, BatchOut, EventIn, EventOut

CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"

_TAKEN = f"{JSON}, {NDJSON}, {CLOUDEVENT} and {CLOUDEVENTS}"
_SPECIAL = frozenset({b"idempotency-key", b"content-encoding", b"origin"})


class Head(NamedTuple):
    """What the query and the headers of an append say. `attributes` are those of a binary CloudEvent."""

    media_type: str = JSON
    key: str | None = None
    expected_offset: int | None = None
    attributes: dict[str, str] | None = None


_PLAIN = Head()


async def _documented(
    query: Annotated[AppendQuery, Query()],
    key: Annotated[
        str | Absent,
        Header(alias="Idempotency-Key", description="Repeating an append with the same key returns the first result."),
    ] = None,
) -> None:
    """For the documentation: what `append` reads from the query and the headers itself."""


_PROBLEMS = problems(400, 408, 409, 413, 415, 422, 503)


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: content}}}


router = APIRouter(prefix="/v1/workspaces/{workspace}", tags=["events"])


@router.post(
    "/events",
    summary="Append",
    status_code=201,
    dependencies=[Depends(_documented)],
    response_class=Json,
    response_model=EventOut,
    response_description="Appended.",
    responses={
        200: {"model": EventOut, "description": "A repetition: the first append's result, marked `duplicate`."},
        **_PROBLEMS,
    },
    # What generated clients can send: one form. The others are in words.
    openapi_extra=_body({"schema": reference(EventIn)}),
)
async def append_event(request: Request, workspace: Workspace) -> Response:
    """One event. An array is an atomic batch, answered as by `/events/batch`.

    As `application/x-ndjson`, one event a line: each is appended by itself and answered (200) by a line with the event
    or with `{"error": problem, "line": n}`. CloudEvents 1.0 are taken structured
    (`application/cloudevents+json`), batched (`application/cloudevents-batch+json`) and binary (headers `ce-…`).
    """
    logs: Logs = request.app.state.logs
    head = _read_head(request.scope)
    log = logs.of(workspace)
    if head.media_type == NDJSON:
        return Handover(partial(append_lines, logs, log))
    data = _read_body(head, await receive_body(logs, request.scope, request.receive))
    try:
        if type(data) is dict:
            body = Body.from_mapping(data, payload_max_bytes=logs.limits.payload_max_bytes)
            del data
            event = await logs.in_time(log.append_body(body, expected_offset=head.expected_offset))
            return Json(event.to_json(), 200 if event.duplicate else 201)
        return await _append_batch(logs, log, head, data, request.scope)
    except InvalidInput as error:
        raise _in_words_of(head, error) from None


@router.post(
    "/events/batch",
    summary="Append a batch",
    status_code=201,
    dependencies=[Depends(_documented)],
    response_class=Json,
    response_model=BatchOut,
    response_description="Appended.",
    responses={
        200: {"model": BatchOut, "description": "A repetition of all: the first append's result, marked `duplicate`."},
        **_PROBLEMS,
    },
    openapi_extra=_body({"schema": {"type": "array", "items": reference(EventIn), "maxItems": 1000}}),
)
async def append_batch(request: Request, workspace: Workspace) -> Response:
    """An atomic batch: all of its events, contiguous, or none. An empty one appends nothing."""
    logs: Logs = request.app.state.logs
    head = _read_head(request.scope)
    if head.media_type != JSON or head.attributes is not None:
        raise UnsupportedMediaType(f"{head.media_type!r} is not taken here; an array as {JSON} is.")
    data = _read_body(head, await receive_body(logs, request.scope, request.receive))
    if type(data) is not list:
        raise InvalidInput("body", "must be a batch of events (an array)")
    return await _append_batch(logs, logs.of(workspace), head, data, request.scope)


async def _append_batch(logs: Logs, log: AsyncEventLog, head: Head, data: list[Any], scope: Scope) -> Response:
    logs.room.hold(scope, EVENT_BYTES * len(data))
    events = await logs.in_time(
        log.append_many(_given_away(data), idempotency_key=head.key, expected_offset=head.expected_offset)
    )
    encoded = b",".join([event.to_json() for event in events])
    if events and all(event.duplicate for event in events):
        return Json(b'{"events":[%s],"duplicate":true}' % encoded)
    return Json(b'{"events":[%s]}' % encoded, 201)


def _given_away(events: list[Any]) -> Iterator[Any]:
    """What was parsed is not kept while its append waits: it is many times as large as the bytes of it are."""
    events.reverse()
    while events:
        yield events.pop()


def _read_head(scope: Scope) -> Head:
    """Raises `InvalidInput`, `UnsupportedMediaType`. Nearly all requests are plain, which a look at the names shows."""
    kind = None
    special = bool(scope["query_string"])
    for name, value in scope["headers"]:
        if name == b"content-type":
            special = special or kind is not None
            kind = value
        elif name in _SPECIAL or name.startswith(b"ce-"):
            special = True
    if not special and (kind == b"application/json" or kind is None):
        return _PLAIN
    query = read_query(AppendQuery, scope["query_string"])
    given = content_type(scope)
    attributes = _attributes(scope)
    head = Head(_taken_as(given), header(scope, b"idempotency-key"), query.expected_offset, attributes)
    if attributes is not None and given is not None:
        attributes["datacontenttype"] = given
    _refuse_mixtures(head)
    return head


def _taken_as(given: str | None) -> str:
    if given is None:
        return JSON
    essence = media_type(given)
    if essence in (NDJSON, CLOUDEVENT, CLOUDEVENTS):
        return essence
    if essence in ("application/ndjson", "application/jsonl"):
        return NDJSON
    if is_json_type(essence):
        return JSON
    raise UnsupportedMediaType(f"{essence[:80]!r} is not taken here; {_TAKEN} are.")


def _attributes(scope: Scope) -> dict[str, str] | None:
    """The attributes of a binary CloudEvent; None if the request is not one."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name.startswith(b"ce-"):
            name = raw_name[3:].decode("latin-1") or "ce-"
            if name in found:
                raise InvalidInput(name[:64], "the header was given more than once")
            try:
                found[name] = unquote(raw_value.decode("ascii").strip().strip('"'), errors="strict")
            except UnicodeDecodeError:
                raise InvalidInput(name[:64], "the header is not percent-encoded UTF-8") from None
    return found or None


def _refuse_mixtures(head: Head) -> None:
    if head.attributes is not None and head.media_type != JSON:
        raise UnsupportedMediaType("The data of a binary CloudEvent must be application/json.")
    if head.key is not None and _is_cloudevent(head):
        raise InvalidInput("Idempotency-Key", "a CloudEvent's source and id are its key; leave the header out")
    if head.media_type != NDJSON:
        return
    if head.key is not None:
        raise InvalidInput("Idempotency-Key", "is for one event or batch; give each line an idempotency_key instead")
    if head.expected_offset is not None:
        raise InvalidInput("expected_offset", "is for one event or an array, which are atomic; lines are not")


def _is_cloudevent(head: Head) -> bool:
    return head.attributes is not None or head.media_type in (CLOUDEVENT, CLOUDEVENTS)


def _read_body(head: Head, raw: bytes) -> Any:
    """The fields of one event as a dict, or a list of what should be events; raises `InvalidInput`."""
    if head.attributes is not None:
        data = {"data": strict_loads(raw, "data")} if not is_blank(raw) else {}
        return append_fields({**head.attributes, **data})
    data = strict_loads(raw)
    if head.media_type == CLOUDEVENT:
        return append_fields(data)
    if head.media_type == CLOUDEVENTS:
        if type(data) is not list:
            raise InvalidInput("body", "a batch of CloudEvents is an array")
        return [_fields_at(index, item) for index, item in enumerate(data)]
    if type(data) is dict and head.key is not None:
        if data.get("idempotency_key") is not None:
            raise InvalidInput("idempotency_key", "give it in the event or in the header Idempotency-Key, not in both")
        data["idempotency_key"] = head.key
    elif type(data) is not dict and type(data) is not list:
        raise InvalidInput("body", "must be one event (an object) or a batch of events (an array)")
    return data


def _fields_at(index: int, item: object) -> dict[str, Any]:
    try:
        return append_fields(item)
    except InvalidInput as error:
        raise error.at(index) from None


def _in_words_of(head: Head, error: InvalidInput) -> InvalidInput:
    """The complaint as it is, of a CloudEvent by CloudEvents' own names."""
    if not _is_cloudevent(head):
        return error
    return type(error)(attribute_of(error.field), error.problem, index=error.index)
