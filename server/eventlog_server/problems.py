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

MEDIA_TYPE = "application/problem+json"
Headers = list[tuple[bytes, bytes]]


class UnsupportedMediaType(EventLogError):
    """The body is of a type that is not taken here."""


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


def problem_of(error: BaseException) -> Problem:
    """The problem that tells of `error`. What nobody foresaw is logged and told as an internal error."""
    match error:
        case PayloadTooLarge():
            return _problem(413, "PAYLOAD_TOO_LARGE", str(error), **_place(error))
        case RejectedContent():
            return _problem(422, "REJECTED_CONTENT", str(error), **_place(error))
        case InvalidInput():
            return _problem(400, "INVALID_PARAMS", str(error), **_place(error))
        case NotFound():
            return _problem(404, "NOT_FOUND", str(error))
        case Conflict():
            return _problem(
                409, "CONFLICT", str(error), expected_offset=error.expected_offset, last_offset=error.last_offset
            )
        case VersionConflict():
            return _problem(409, "CONFLICT", str(error), expected_version=error.expected, version=error.version)
        case LeaseLost():
            return _problem(409, "LEASE_LOST", str(error), queue=error.queue, execution_id=error.execution_id)
        case SlotRefused():
            return _refused(error)
        case UnsupportedMediaType():
            return _problem(415, "UNSUPPORTED_MEDIA_TYPE", str(error))
        case SlowRequest():
            return _problem(408, "REQUEST_TIMEOUT", str(error), headers=[(b"connection", b"close")])
        case BackendUnavailable():
            return _unavailable(_told(error), error.retry_after_s, error.outcome_unknown)
        case LogClosed():
            return _unavailable("The server is closing; try again in a moment.", 1.0, False)
        case HTTPException():
            return _of_framework(error)
    _log.error("a request failed unexpectedly", exc_info=error)
    return _problem(500, "INTERNAL", "The server met a condition it did not expect; its log says more.")


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


def _place(error: InvalidInput) -> dict[str, Any]:
    field = error.field.encode("utf-8", "replace").decode()
    return {"field": field} if error.index is None else {"field": field, "index": error.index}


def _refused(error: SlotRefused) -> Problem:
    """No slot and no place: what is in the way, and as far as that is known for how long."""
    who: dict[str, Any] = {"queue": error.queue, "execution_id": error.execution_id}
    match error:
        case QueueFull():
            full = {**who, "length": error.length, "limit": error.limit}
            return _problem(429, "QUEUE_FULL", str(error), headers=_retry_after(1.0), **full)
        case QueueTimeout():
            waited = {**who, "waited_seconds": round(error.waited_s, 3)}
            return _problem(429, "QUEUE_TIMEOUT", str(error), headers=_retry_after(1.0), **waited)
        case RateLimited():
            limited = {**who, "retry_after_seconds": error.retry_after_s}
            return _problem(429, "RATE_LIMITED", str(error), headers=_retry_after(error.retry_after_s), **limited)
        case QuotaExceeded():
            used_up = {**who, "retry_after_seconds": error.retry_after_s}
            return _problem(429, "QUOTA_EXCEEDED", str(error), headers=_retry_after(error.retry_after_s), **used_up)
        case AlreadyHeld():
            return _problem(409, "CONFLICT", str(error), **who, state="held", fencing_token=error.fencing_token)
        case SlotCancelled():
            return _problem(409, "CONFLICT", str(error), **who, state="cancelled")
    return _problem(409, "CONFLICT", str(error), **who)


def _retry_after(seconds: float) -> Headers:
    return [(b"retry-after", str(max(1, math.ceil(seconds))).encode())]


def _unavailable(detail: str, retry_after_s: float, outcome_unknown: bool) -> Problem:
    more = {"outcome_unknown": True} if outcome_unknown else {}
    return _problem(503, "BACKEND_UNAVAILABLE", detail, headers=_retry_after(retry_after_s), **more)


def _told(error: BackendUnavailable) -> str:
    """Sentences of our own: the error's words may hold what Redis or the connection said."""
    if isinstance(error, Overloaded):
        return "More waits in the server than it may hold; try again in a moment."
    if isinstance(error, BackendFull):
        return "The log's Redis refuses writes (memory or disk full, or a replica); reading goes on."
    detail = "The log's Redis does not answer right now."
    if error.outcome_unknown:
        detail += " Whether the request was carried out is unknown: repeat it, an append with the same idempotency key."
    return detail


def _of_framework(error: HTTPException) -> Problem:
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if error.status_code == 404:
        return _problem(404, "NOT_FOUND", "There is nothing at this path; /docs shows what there is.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "other methods")
        return _problem(405, "METHOD_NOT_ALLOWED", f"This path takes {allowed}.", headers=headers)
    return _problem(error.status_code, "INVALID_PARAMS", str(error.detail), headers=headers)
