"""Reading what clients send, strictly and within bounds: headers, query parameters, bodies.

Every complaint is an `InvalidInput` that names the field, whether the library, this module or a model found it.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.types import Receive, Scope

from eventlog.errors import InvalidInput, NotFound, PayloadTooLarge
from eventlog.model.cloudevents import is_json_type
from eventlog.model.numbers import shown
from eventlog.model.strictjson import strict_loads

from .logs import Logs
from .problems import SlowRequest, UnsupportedMediaType
from .room import Room
from .schemas.base import Query

JSON = "application/json"

Q = TypeVar("Q", bound=Query)
_MOST_PARAMETERS = 200
# Smaller bodies are as many as connections at most, and no larger than those.
_NOT_COUNTED = 4096
_SUBJECT = re.compile(r"^\w+ (?=should )")
_CHARSETS = ("utf-8", "utf8", "us-ascii")


class Disconnected(Exception):
    """The client went away before it had sent all of its request."""


def header(scope: Scope, name: bytes) -> str | None:
    """A request header that may be given once; raises `InvalidInput` naming it otherwise."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise InvalidInput(name.decode(), "was given more than once")
    return values[0].decode("latin-1").strip() if values else None


def check_path(scope: Scope) -> None:
    """Raises `NotFound` for a slash that is encoded: it is part of a name then, and must not part names."""
    path: bytes = scope.get("raw_path") or b""
    if b"%" in path and b"%2f" in path.lower():
        raise NotFound("There is nothing at a path with an encoded slash (%2F): no name has one.")


def accepts(scope: Scope, media_type: str) -> bool:
    """True if the client names this type in `Accept` (wildcards do not count) and does not refuse it."""
    for name, value in scope["headers"]:
        if name == b"accept":
            for item in value.decode("latin-1").lower().split(","):
                kind, _, parameters = item.partition(";")
                if kind.strip() == media_type and "q=0" not in parameters.replace(" ", "").split(";"):
                    return True
    return False


def read_query(model: type[Q], raw: bytes) -> Q:
    """A query string as its model; raises `InvalidInput`."""
    try:
        return model.model_validate(dict(query_pairs(raw)))
    except ValidationError as error:
        raise complaint([{**one, "loc": ("query", *one["loc"])} for one in error.errors()]) from None


def query_pairs(raw: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string; raises `InvalidInput` for a name that is repeated, `kind` excepted."""
    if not raw:
        return []
    try:
        text = raw.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise InvalidInput("query", "is not percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidInput("query", f"has more than {_MOST_PARAMETERS} parameters") from None
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen and name != "kind":
            raise InvalidInput(name[:64] or "query", "was given more than once")
        seen.add(name)
    return pairs


def complaint(errors: Sequence[Any]) -> InvalidInput:
    """The first thing that a model found wrong, by the name that the client knows it by."""
    first = errors[0]
    place, *path = first["loc"]
    if place != "body":
        # The rest is of the model's making, or the place within a parameter that is repeated.
        path = path[:1]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        # A check of the library may name the field itself.
        return InvalidInput(_path(path if path[-1:] == [cause.field] else [*path, cause.field]), cause.problem)
    if first["type"] == "missing":
        return InvalidInput(_path(path), "is required")
    if not path:
        return InvalidInput("body", "must be an object")
    # "Input should be a valid integer"
    text = _SUBJECT.sub("", str(cause or first["msg"]))
    return InvalidInput(_path(path), f"{shown(first['input'])} {text}")


def _path(parts: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts if part != "")
    return text.removeprefix(".") or "body"


def content_type(scope: Scope) -> str | None:
    """The header as it is; raises `UnsupportedMediaType` for a body that is encoded, or a web page's without a type."""
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType(f"A body with content-encoding {encoding[:40]!r} is not taken; send it as it is.")
    given = header(scope, b"content-type")
    if given is None and header(scope, b"origin") is not None:
        # A browser sends a body without a type from any site's page, but asks before it sends one with our types.
        raise UnsupportedMediaType("A request from a web page must say its content type.")
    return given


def media_type(given: str) -> str:
    """A content type without its parameters; raises `UnsupportedMediaType` for a charset other than UTF-8."""
    essence, _, parameters = given.partition(";")
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise UnsupportedMediaType(f"The charset {value[:40]!r} is not taken; send UTF-8.")
    return essence.strip().lower()


async def receive_json(logs: Logs, scope: Scope, receive: Receive) -> Any:
    """A JSON body; no body at all is the empty object. Raises as `receive_body` does, and `UnsupportedMediaType`."""
    given = content_type(scope)
    if given is not None and not is_json_type(media_type(given)):
        raise UnsupportedMediaType(f"{media_type(given)[:80]!r} is not taken here; {JSON} is.")
    raw = await receive_body(logs, scope, receive)
    return strict_loads(raw) if raw else {}


async def receive_body(logs: Logs, scope: Scope, receive: Receive) -> bytes:
    """The whole body, bounded in size and time, and held until it is answered.

    Raises `PayloadTooLarge`, `SlowRequest`, `Overloaded`, `Disconnected`.
    """
    settings = logs.settings
    try:
        with logs.deadlines.within(settings.receive_timeout_s):
            return await _receive(logs.room, scope, receive, settings.body_max_bytes)
    except TimeoutError:
        raise SlowRequest(f"The body did not arrive within {settings.receive_timeout_s:g} s.") from None


async def _receive(room: Room, scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > most_bytes:
            raise _too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise _too_large(most_bytes)
        is_last = not message.get("more_body", False)
        if not is_last or size > _NOT_COUNTED:
            room.hold(scope, len(part))
        if is_last:
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large(most_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge("body", f"is larger than {most_bytes} bytes; send smaller batches, or NDJSON line by line")
