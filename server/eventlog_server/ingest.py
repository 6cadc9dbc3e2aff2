"""Appending over HTTP: one event, a batch, or CloudEvents, from the bytes of a request to the bytes of its answer.

NDJSON, which is streamed in and out, is in `ndjson.py`; `hot.py` brings requests here past the framework.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

from eventlog.errors import InvalidInput, PayloadTooLarge
from eventlog.log.awaited import AsyncEventLog
from eventlog.model.cloudevents import append_fields, attribute_of, is_json_type
from eventlog.model.events import Body, Event
from eventlog.model.strictjson import strict_loads

from .bodies import JSON, content_type, media_type, receive_body
from .logs import Logs
from .parsing import Query, Receive, Scope, header
from .problems import UnsupportedMediaType

NDJSON = "application/x-ndjson"
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
PARAMETERS = ("expected_offset",)

_TAKEN = f"{JSON}, {NDJSON}, {CLOUDEVENT} and {CLOUDEVENTS}"


class Asked(NamedTuple):
    """How a request says its body is to be taken. `attributes` are those of a binary CloudEvent."""

    media_type: str = JSON
    key: str | None = None
    expected_offset: int | None = None
    attributes: dict[str, str] | None = None


class Answer(NamedTuple):
    """The answer to an append: 201, or 200 where all of it was a repetition."""

    status: int
    body: bytes


_PLAIN = Asked()
_SPECIAL = frozenset({b"idempotency-key", b"content-encoding", b"origin"})


def read_head(scope: Scope) -> Asked:
    """Read the query and the headers; raises `InvalidInput`, `UnsupportedMediaType`."""
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
    return _read_head(scope)


def _read_head(scope: Scope) -> Asked:
    expected_offset = Query(scope["query_string"], PARAMETERS).integer("expected_offset")
    given = content_type(scope)
    key = header(scope, b"idempotency-key")
    attributes = _attributes(scope)
    kind = _taken_as(given)
    if attributes is not None:
        if kind != JSON:
            raise UnsupportedMediaType("The data of a binary CloudEvent must be application/json.")
        if given is not None:
            attributes["datacontenttype"] = given
    return Asked(kind, key, expected_offset, attributes)


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
            name = raw_name[3:].decode("latin-1")
            if name in found:
                raise InvalidInput(name[:64], "the header was given more than once")
            try:
                found[name] = unquote(raw_value.decode("ascii").strip().strip('"'), errors="strict")
            except UnicodeDecodeError:
                raise InvalidInput(name[:64], "the header is not percent-encoded UTF-8") from None
    return found or None


async def ingest(logs: Logs, workspace: str, scope: Scope, receive: Receive, asked: Asked) -> Answer:
    """Append what the request brings. Raises the library's errors and those of `parsing.py`."""
    log = logs.of(workspace)
    raw = await receive_body(logs, scope, receive)
    if asked.attributes is not None:
        return await _append_cloudevent(logs, log, _binary(asked.attributes, raw), asked)
    data = strict_loads(raw)
    if asked.media_type == CLOUDEVENT:
        return await _append_cloudevent(logs, log, data, asked)
    if asked.media_type == CLOUDEVENTS:
        return await _append_cloudevents(logs, log, data, asked)
    if type(data) is dict:
        return await _append_one(logs, log, data, asked)
    if type(data) is list:
        return await _append_batch(logs, log, data, asked)
    raise InvalidInput("body", "must be one event (an object) or a batch of events (an array)")


async def _append_one(logs: Logs, log: AsyncEventLog, data: dict[str, Any], asked: Asked) -> Answer:
    if asked.key is not None:
        if data.get("idempotency_key") is not None:
            raise InvalidInput("idempotency_key", "give it in the event or in the header Idempotency-Key, not in both")
        data["idempotency_key"] = asked.key
    body = Body.from_mapping(data, payload_max_bytes=logs.limits.payload_max_bytes)
    return one_answer(await logs.bounded(log.append_body(body, expected_offset=asked.expected_offset)))


async def _append_batch(logs: Logs, log: AsyncEventLog, data: list[Any], asked: Asked) -> Answer:
    _check_size(logs, data)
    bodies = [_body(logs, index, fields) for index, fields in enumerate(data)]
    return many_answer(await append(logs, log, bodies, asked.expected_offset, asked.key))


async def _append_cloudevent(logs: Logs, log: AsyncEventLog, data: object, asked: Asked) -> Answer:
    _refuse_key(asked)
    body = _cloudevent_body(logs, data)
    with _told_as_cloudevent():
        return one_answer(await logs.bounded(log.append_body(body, expected_offset=asked.expected_offset)))


async def _append_cloudevents(logs: Logs, log: AsyncEventLog, data: object, asked: Asked) -> Answer:
    _refuse_key(asked)
    if type(data) is not list:
        raise InvalidInput("body", "a batch of CloudEvents is an array")
    _check_size(logs, data)
    bodies = []
    for index, item in enumerate(data):
        try:
            bodies.append(_cloudevent_body(logs, item))
        except InvalidInput as error:
            raise error.at(index) from None
    with _told_as_cloudevent():
        return many_answer(await append(logs, log, bodies, asked.expected_offset))


async def append(
    logs: Logs,
    log: AsyncEventLog,
    bodies: Sequence[Body],
    expected_offset: int | None = None,
    key: str | None = None,
) -> list[Event]:
    """Append several, bounded in time."""
    return await logs.bounded(log.append_many(bodies, idempotency_key=key, expected_offset=expected_offset))


def _body(logs: Logs, index: int, fields: object) -> Body:
    try:
        return Body.from_mapping(fields, payload_max_bytes=logs.limits.payload_max_bytes)
    except InvalidInput as error:
        raise error.at(index) from None


def _cloudevent_body(logs: Logs, data: object) -> Body:
    fields = append_fields(data)
    with _told_as_cloudevent():
        return Body.from_mapping(fields, payload_max_bytes=logs.limits.payload_max_bytes)


@contextmanager
def _told_as_cloudevent() -> Iterator[None]:
    """What is wrong is told by CloudEvents' own names."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(attribute_of(error.field), error.problem, index=error.index) from None


def _binary(attributes: dict[str, str], raw: bytes) -> dict[str, Any]:
    return {**attributes, "data": strict_loads(raw, "data")} if raw.strip() else dict(attributes)


def _check_size(logs: Logs, data: list[Any]) -> None:
    if len(data) > logs.limits.batch_max_events:
        raise PayloadTooLarge("events", f"{len(data)} events in a batch, the limit is {logs.limits.batch_max_events}")


def _refuse_key(asked: Asked) -> None:
    if asked.key is not None:
        raise InvalidInput("Idempotency-Key", "a CloudEvent's source and id are its key; leave the header out")


def one_answer(event: Event) -> Answer:
    """The answer that is one event."""
    return Answer(200 if event.duplicate else 201, event.to_json())


def many_answer(events: list[Event]) -> Answer:
    """The answer that is a batch of events; an empty batch appends nothing."""
    encoded = b",".join([event.to_json() for event in events])
    if events and all(event.duplicate for event in events):
        return Answer(200, b'{"events":[%s],"duplicate":true}' % encoded)
    return Answer(201, b'{"events":[%s]}' % encoded)
