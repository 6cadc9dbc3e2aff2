"""CloudEvents 1.0 to and from our events. Pure; HTTP's part of it (modes, headers) is the server's.

    type <-> kind    source <-> source    data <-> payload
    extensions runid laneid stagename groupid visibility traceparent <-> the fields of these names, all of `FIELDS`

Together, the source and id of what comes in are its idempotency key, so a redelivery is a duplicate. What goes out has
the event's id and time in our log. `time`, `subject`, `dataschema` and extensions we have no place for are not kept.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ..errors import InvalidInput
from .events import FIELDS, Event, ascii_json

SPECVERSION = "1.0"
_REQUIRED = ("specversion", "id", "source", "type")
# CloudEvents have a source of their own, and the redelivery of one is recognised by source and id.
_EXTENSIONS = {
    field.name.replace("_", ""): field.name for field in FIELDS if field.name not in ("source", "idempotency_key")
}
_ATTRIBUTE = re.compile(r"[.\[]")
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_PAYLOADS = ("data", "data_base64")
_JSON_TYPE = re.compile(r"\s*(application/json|[\w.+-]+/[\w.+-]+\+json)\s*(;.*)?", re.ASCII | re.IGNORECASE)


def is_json_type(content_type: str) -> bool:
    """True for application/json and the types that end in +json."""
    return _JSON_TYPE.fullmatch(content_type) is not None


def append_fields(cloudevent: object) -> dict[str, Any]:
    """Turn a structured CloudEvent into the fields of an append, as `Body.from_mapping` takes them.

    Raises `InvalidInput` with CloudEvents' own name of the attribute that is wrong.
    """
    if not isinstance(cloudevent, Mapping):
        raise InvalidInput("body", "a CloudEvent is a JSON object")
    for name in cloudevent:
        if name not in _PAYLOADS and _NAME.fullmatch(str(name)) is None:
            raise InvalidInput(str(name)[:64], "CloudEvents attribute names are lower-case letters and digits")
    for name in _REQUIRED:
        value = cloudevent.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidInput(name, "is required, as a non-empty string")
    if cloudevent["specversion"] != SPECVERSION:
        raise InvalidInput("specversion", f"{cloudevent['specversion'][:20]!r} is not {SPECVERSION}")
    fields: dict[str, Any] = {
        "kind": cloudevent["type"],
        "source": cloudevent["source"],
        "idempotency_key": redelivery_key(cloudevent["source"], cloudevent["id"]),
        "payload": _payload(cloudevent),
    }
    for extension, field in _EXTENSIONS.items():
        if cloudevent.get(extension) is not None:
            fields[field] = cloudevent[extension]
    return fields


def attribute_of(field: str) -> str:
    """CloudEvents' name for one of our fields, or of a path into it, for messages."""
    names = {"kind": "type", "payload": "data", **{ours: theirs for theirs, ours in _EXTENSIONS.items()}}
    name = _ATTRIBUTE.split(field, maxsplit=1)[0]
    return names.get(name, name) + field[len(name) :]


def redelivery_key(source: str, event_id: str) -> str:
    """An idempotency key for a CloudEvent: equal for equal source and id, whatever characters they have."""
    return "ce:" + hashlib.sha256(orjson.dumps((source, event_id))).hexdigest()


def _payload(cloudevent: Mapping[str, Any]) -> dict[str, Any]:
    if "data_base64" in cloudevent:
        raise InvalidInput("data_base64", "binary data is not taken; send a JSON object as data")
    content_type = cloudevent.get("datacontenttype")
    if content_type is not None and (not isinstance(content_type, str) or not is_json_type(content_type)):
        raise InvalidInput("datacontenttype", "only application/json is taken")
    data = cloudevent.get("data")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidInput("data", "must be a JSON object")
    return data


def to_cloudevent_json(event: Event, workspace: str) -> bytes:
    """A structured CloudEvent as ASCII JSON, made without decoding the payload."""
    head: dict[str, Any] = {
        "specversion": SPECVERSION,
        "id": event.id,
        "source": event.source or f"/v1/workspaces/{workspace}",
        "type": event.kind,
        "time": _rfc3339(event.position.ms),
        "datacontenttype": "application/json",
    }
    for extension, field in _EXTENSIONS.items():
        value = getattr(event, field)
        if value is not None:
            head[extension] = value
    return ascii_json(b'%s,"data":%s}' % (orjson.dumps(head)[:-1], event.payload_json))


def _rfc3339(ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):  # beyond the year 9999: no clock, but an id may say so
        moment = datetime.fromtimestamp(0, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
