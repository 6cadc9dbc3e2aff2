"""What clients ask of slots and policies, read from bodies and queries: checked, by the names that they have there."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from eventlog.errors import InvalidInput
from eventlog.slots.operations import LISTED, checked_fence
from eventlog.slots.policy import LONGEST_WAIT_S, Policy, checked_count, checked_name, checked_seconds
from eventlog.slots.request import DEFAULT_LEASE_S, LONGEST_LEASE_S, SHORTEST_LEASE_S, SlotOptions

from .parsing import Query, Scope, header

LONGEST_POLL_S = 60.0
PLACE_KEYS = (
    *("execution_id", "max_concurrent", "pack", "group_key", "lease_seconds", "wait_seconds"),
    *("queue_timeout_seconds", "max_queue_length", "owner"),
)
LEASE_KEYS = ("lease_seconds", "fencing_token")
LIMIT_KEYS = ("max_concurrent",)
POLICY_KEYS = tuple(Policy.__dataclass_fields__)
LOOK_PARAMETERS = ("wait_seconds", "group_key")
LEAVE_PARAMETERS = ("fencing_token", "group_key", "only_queued")
QUEUE_PARAMETERS = ("group_key",)
LIST_PARAMETERS = ("listed",)
VERSION_PARAMETERS = ("expected_version",)

OWNER_PATTERN = r"[A-Za-z0-9_.:@-]{1,128}"
_OWNER = re.compile(OWNER_PATTERN, re.ASCII)
_VERSION_TAG = re.compile(r'"(\d{1,15})"', re.ASCII)


class PlaceRequest(NamedTuple):
    """A slot that is asked for, and for how long the answer may take to come."""

    action: str
    execution_id: str
    queue_timeout_s: float | None
    wait_s: float
    options: SlotOptions


class LookRequest(NamedTuple):
    """Whose state is asked for, and for how long a change may be waited for."""

    action: str
    execution_id: str
    group_key: str | None
    wait_s: float


class LeaveRequest(NamedTuple):
    """Who is to go."""

    action: str
    execution_id: str
    group_key: str | None
    fencing_token: int | None
    only_queued: bool


def place_request(action: str, body: Mapping[str, Any], scope: Scope) -> PlaceRequest:
    """The body of `POST …/slots`."""
    if "execution_id" not in body:
        raise InvalidInput("execution_id", "is missing: it names who asks for the slot")
    options: SlotOptions = {
        "max_concurrent": _count(body, "max_concurrent"),
        "lease_s": _lease(body) or DEFAULT_LEASE_S,
        "group_key": _name(body, "group_key"),
        "pack": _name(body, "pack"),
        "max_queue_length": _count(body, "max_queue_length"),
        "owner": _owner(body, scope),
    }
    return PlaceRequest(
        action,
        checked_name("execution_id", body["execution_id"]),
        _seconds(body, "queue_timeout_seconds", 0, LONGEST_WAIT_S),
        _seconds(body, "wait_seconds", 0, LONGEST_POLL_S) or 0.0,
        options,
    )


def look_request(action: str, execution_id: str, raw: bytes) -> LookRequest:
    """The query of `GET …/slots/{execution_id}`."""
    query = Query(raw, LOOK_PARAMETERS)
    wait_s = query.seconds("wait_seconds") or 0.0
    return LookRequest(action, execution_id, _group(query), checked_seconds("wait_seconds", wait_s, 0, LONGEST_POLL_S))


def leave_request(action: str, execution_id: str, raw: bytes) -> LeaveRequest:
    """The query of `DELETE …/slots/{execution_id}`."""
    query = Query(raw, LEAVE_PARAMETERS)
    fencing_token = query.integer("fencing_token")
    only_queued = query.flag("only_queued")
    if only_queued and fencing_token is not None:
        raise InvalidInput("only_queued", "who waits has no fencing token yet: give one of the two")
    token = None if fencing_token is None else checked_fence(fencing_token)
    return LeaveRequest(action, execution_id, _group(query), token, only_queued)


def lease_of(body: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """The body of `PUT …/lease`: its length in seconds, and the token of the grant that it is for."""
    token = body.get("fencing_token")
    return _lease(body), None if token is None else checked_fence(token)


def limit_of(body: Mapping[str, Any]) -> int:
    """The body of `PUT …/limit`."""
    if "max_concurrent" not in body:
        raise InvalidInput("max_concurrent", "is missing: how many may hold a slot at once")
    return checked_count("max_concurrent", body["max_concurrent"])


def group_of(raw: bytes) -> str | None:
    """The query of routes of one queue."""
    return _group(Query(raw, QUEUE_PARAMETERS))


def stats_of(raw: bytes, parameters: tuple[str, ...]) -> tuple[str | None, int]:
    """The query of routes that show queues: the group, and how many holders and waiters to list."""
    query = Query(raw, parameters)
    listed = query.integer("listed")
    return _group(query), LISTED if listed is None else listed


def expected_version(scope: Scope) -> int | None:
    """The version that a policy must have now: the query's `expected_version`, or the header `If-Match`."""
    version = Query(scope["query_string"], VERSION_PARAMETERS).integer("expected_version")
    tag = header(scope, b"if-match")
    if tag is None:
        return version
    if version is not None:
        raise InvalidInput("expected_version", "give it, or the header If-Match, not both")
    match = _VERSION_TAG.fullmatch(tag)
    if match is None:
        raise InvalidInput("If-Match", f'{tag[:40]!r} is not the ETag of a policy, such as "3"')
    return int(match[1])


def _group(query: Query) -> str | None:
    group = query.text("group_key")
    return None if group is None else checked_name("group_key", group)


def _name(body: Mapping[str, Any], key: str) -> str | None:
    return checked_name(key, body[key]) if key in body else None


def _count(body: Mapping[str, Any], key: str) -> int | None:
    return checked_count(key, body[key]) if key in body else None


def _seconds(body: Mapping[str, Any], key: str, least: float, most: float) -> float | None:
    return checked_seconds(key, body[key], least, most) if key in body else None


def _lease(body: Mapping[str, Any]) -> float | None:
    return _seconds(body, "lease_seconds", SHORTEST_LEASE_S, LONGEST_LEASE_S)


def _owner(body: Mapping[str, Any], scope: Scope) -> str:
    """What operators see; unless it is said, where the request came from."""
    owner = body.get("owner")
    if owner is None:
        client = scope.get("client")
        return f"http:{client[0]}" if client else "http"
    if not isinstance(owner, str) or _OWNER.fullmatch(owner) is None:
        shown = owner[:80] if isinstance(owner, str) else owner
        raise InvalidInput("owner", f"{shown!r} does not match {OWNER_PATTERN}")
    return owner
