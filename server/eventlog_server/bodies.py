"""Bodies of requests: what their heads say of them, receiving them within bounds, and objects read from them."""

from typing import Any

from eventlog.errors import InvalidInput
from eventlog.model.cloudevents import is_json_type
from eventlog.model.strictjson import strict_loads

from .logs import Logs
from .parsing import Receive, Scope, header, read_body
from .problems import SlowRequest, UnsupportedMediaType

JSON = "application/json"

_CHARSETS = ("utf-8", "utf8", "us-ascii")


def content_type(scope: Scope) -> str | None:
    """The header as it is; raises `UnsupportedMediaType` for a body that is encoded, or a web page's without a type."""
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType(f"A body with content-encoding {encoding[:40]!r} is not taken; send it as it is.")
    given = header(scope, b"content-type")
    if given is None and header(scope, b"origin") is not None:
        # Without a type a browser sends it from any site's page unasked; with one it asks first, and is refused.
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


async def receive_body(logs: Logs, scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises `PayloadTooLarge`, `SlowRequest`, `Disconnected`."""
    settings = logs.settings
    try:
        with logs.deadlines.within(settings.receive_timeout_s):
            return await read_body(scope, receive, settings.body_max_bytes)
    except TimeoutError:
        raise SlowRequest(f"The body did not arrive within {settings.receive_timeout_s:g} s.") from None


async def receive_object(logs: Logs, scope: Scope, receive: Receive, keys: tuple[str, ...]) -> dict[str, Any]:
    """The body as an object with some of these keys; no body at all is the empty object, and null leaves a key out.

    Raises as `receive_body` does, `InvalidInput` and `UnsupportedMediaType`.
    """
    given = content_type(scope)
    if given is not None and not is_json_type(media_type(given)):
        raise UnsupportedMediaType(f"{media_type(given)[:80]!r} is not taken here; {JSON} is.")
    raw = await receive_body(logs, scope, receive)
    data = strict_loads(raw) if raw else {}
    if type(data) is not dict:
        raise InvalidInput("body", "must be an object")
    for key in data:
        if key not in keys:
            raise InvalidInput(key[:64] or "body", f"unknown key; known are {', '.join(keys)}")
    return {key: value for key, value in data.items() if value is not None}
