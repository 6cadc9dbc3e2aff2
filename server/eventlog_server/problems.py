"""Problems (RFC 9457): what each error is over HTTP. Status codes are known here and nowhere else.

A problem says what was wrong, where, and what would be right; never a traceback, never an address of Redis.
"""

import logging
import math
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from starlette.exceptions import HTTPException

from eventlog.errors import (
    AlreadyHeld,
    BackendFull,
    BackendRefused,
    BackendUnavailable,
    Conflict,
    EventLogError,
    InvalidInput,
    LeaseLost,
    LogClosed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    RejectedContent,
    SlotCancelled,
    SlotRefused,
    VersionConflict,
)

_log = logging.getLogger("eventlog.server")

_logged: dict[str, str] = {}

MEDIA_TYPE = "application/problem+json"
Headers = list[tuple[bytes, bytes]]


class UnsupportedMediaType(EventLogError):
    """The body is of a type that is not taken here."""


class ForeignHost(EventLogError):
    """The request is for another host than this server."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This server is not known as {host[:260]!r}. Use its address, or have the name in EVENTLOG_ALLOWED_HOSTS."
        )


class HeadTooLarge(EventLogError):
    """The head of the request, or its trailers, are larger than any client has reason to send."""

    def __init__(self, most_bytes: int, most_fields: int) -> None:
        super().__init__(f"The head of a request has at most {most_bytes} bytes and {most_fields} fields.")


class SlowRequest(EventLogError):
    """The body did not arrive in time."""


class Problem(NamedTuple):
    """One problem, ready to be sent: `document` is the body, `headers` come on top of the content's."""

    status: int
    document: dict[str, Any]
    headers: Headers

    def encode(self) -> bytes:
        """The body as JSON."""
        return orjson.dumps(self.document)


_KINDS: tuple[tuple[type[EventLogError], int, str, tuple[str, ...]], ...] = (
    (PayloadTooLarge, 413, "PAYLOAD_TOO_LARGE", ("field", "index")),
    (RejectedContent, 422, "REJECTED_CONTENT", ("field", "index")),
    (InvalidInput, 400, "INVALID_PARAMS", ("field", "index")),
    (NotFound, 404, "NOT_FOUND", ("lease_expired_at",)),
    (Conflict, 409, "CONFLICT", ("expected_offset", "last_offset")),
    (VersionConflict, 409, "CONFLICT", ("expected_version", "version")),
    (LeaseLost, 409, "LEASE_LOST", ("queue", "execution_id")),
    (QueueFull, 429, "QUEUE_FULL", ("queue", "execution_id", "length", "limit")),
    (QueueTimeout, 429, "QUEUE_TIMEOUT", ("queue", "execution_id", "waited_seconds")),
    (RateLimited, 429, "RATE_LIMITED", ("queue", "execution_id", "retry_after_seconds")),
    (QuotaExceeded, 429, "QUOTA_EXCEEDED", ("queue", "execution_id", "retry_after_seconds")),
    (AlreadyHeld, 409, "CONFLICT", ("queue", "execution_id", "state", "fencing_token")),
    (SlotCancelled, 409, "CONFLICT", ("queue", "execution_id", "state")),
    (SlotRefused, 409, "CONFLICT", ("queue", "execution_id")),
    (HeadTooLarge, 431, "HEAD_TOO_LARGE", ()),
    (ForeignHost, 421, "HOST_NOT_ALLOWED", ()),
    (UnsupportedMediaType, 415, "UNSUPPORTED_MEDIA_TYPE", ()),
)
"""The first that an error is an instance of counts, so subclasses stand before their bases."""


_OPTIONAL = ("index", "lease_expired_at")


def problem_of(error: BaseException) -> Problem:
    """The problem that an error is over HTTP. An unforeseen one is logged, and is an internal error for the client."""
    for kind, status, code, fields in _KINDS:
        if isinstance(error, kind):
            headers = _retry_after(getattr(error, "retry_after_s", 1.0)) if status == 429 else None
            return _problem(status, code, str(error), headers=headers, **_shown(error, fields))
    match error:
        case SlowRequest():
            return _problem(408, "REQUEST_TIMEOUT", str(error), headers=[(b"connection", b"close")])
        case BackendUnavailable():
            return _outage(error)
        case LogClosed():
            return _unavailable("The server is closing; try again in a moment.", 1.0)
        case HTTPException():
            return _of_framework(error)
    _log.error("a request failed unexpectedly", exc_info=error)
    return _problem(500, "INTERNAL", "The server met a condition it did not expect; its log says more.")


def _shown(error: EventLogError, fields: tuple[str, ...]) -> dict[str, Any]:
    """What a problem shows of an error, mostly its attributes of these names."""
    special: dict[str, Any] = {"state": "held" if isinstance(error, AlreadyHeld) else "cancelled"}
    match error:
        case InvalidInput():
            special["field"] = error.field.encode("utf-8", "replace").decode()
        case VersionConflict():
            special["expected_version"] = error.expected
        case QueueTimeout():
            special["waited_seconds"] = round(error.waited_s, 3)
        case RateLimited() | QuotaExceeded():
            special["retry_after_seconds"] = error.retry_after_s
    shown = {name: special[name] if name in special else getattr(error, name) for name in fields}
    return {name: value for name, value in shown.items() if value is not None or name not in _OPTIONAL}


def _problem(status: int, code: str, detail: str, *, headers: Headers | None = None, **more: Any) -> Problem:
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail.encode("utf-8", "replace").decode(),
        **more,
    }
    return Problem(status, document, headers or [])


def _retry_after(seconds: float) -> Headers:
    return [(b"retry-after", str(max(1, math.ceil(seconds))).encode())]


def _unavailable(detail: str, retry_after_s: float, **more: Any) -> Problem:
    return _problem(503, "BACKEND_UNAVAILABLE", detail, headers=_retry_after(retry_after_s), **more)


def _outage(error: BackendUnavailable) -> Problem:
    """`reason` says what kind of outage it is, where that is known. Those that last are logged, once until another."""
    reason: str | None = None
    # Sentences of our own: other errors' words may hold what Redis or the connection said.
    match error:
        case Overloaded():
            reason, detail = "overloaded", "More waits in the server than it may hold; try again in a moment."
        case BackendFull():
            reason, detail = "full", f"{error}. Reading goes on."
        case BackendRefused():
            reason, detail = "refused", f"{error}."
        case _:
            detail = "The log's Redis does not answer right now."
    if reason in ("full", "refused") and _logged.get("last") != detail:
        _logged["last"] = detail
        _log.warning("requests are refused: %s", detail)
    if error.outcome_unknown:
        detail += " Whether the request was carried out is unknown: repeat it, an append with the same idempotency key."
    more: dict[str, Any] = {"reason": reason} if reason else {}
    if error.outcome_unknown:
        more["outcome_unknown"] = True
    return _unavailable(detail, error.retry_after_s, **more)


def _of_framework(error: HTTPException) -> Problem:
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if error.status_code == 404:
        return _problem(404, "NOT_FOUND", "There is nothing at this path; /docs shows what there is.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        return _problem(405, "METHOD_NOT_ALLOWED", f"This path takes {allowed}.", headers=headers)
    return _problem(error.status_code, "INVALID_PARAMS", str(error.detail), headers=headers)
