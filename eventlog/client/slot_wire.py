"""What travels between a client and the server about slots and policies: requests, and how answers are read. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from ..errors import InvalidInput
from ..slots.operations import Left, SlotState
from ..slots.policy import Policy, Rate, Scope, StoredPolicy, checked_name
from ..slots.protocol import Cleared, Holder, QueuesPage, QueueStats, Waiter
from ..slots.request import Acquisition
from .wire import JSON, Params, Request

_JSON_BODY = {"Content-Type": JSON}
_RESULTS: Mapping[str, Left] = {"released": "released", "cancelled": "cancelled", "none": "none"}


def place_request(acquisition: Acquisition, queue_timeout_s: float) -> Request:
    """Ask for a slot, or a place."""
    action, _, group = acquisition.queue.partition("/")
    body = {
        "execution_id": acquisition.execution_id,
        "max_concurrent": acquisition.max_concurrent,
        "pack": None if acquisition.pack == "-" else acquisition.pack,
        "group_key": group or None,
        "lease_seconds": acquisition.lease_s,
        "queue_timeout_seconds": queue_timeout_s,
        "max_queue_length": acquisition.max_length,
        "owner": acquisition.owner,
    }
    return Request("POST", f"{_action(action)}/slots", [], orjson.dumps(body), _JSON_BODY)


def look_request(queue: str, execution_id: str, wait_s: float) -> Request:
    """Ask where an execution stands."""
    path, params = _place(queue, execution_id)
    waiting: Params = [("wait_seconds", f"{wait_s:.3f}")] if wait_s > 0 else []
    return Request("GET", path, [*params, *waiting])


def renew_request(queue: str, execution_id: str, fencing_token: int | None, lease_s: float | None) -> Request:
    """Renew a lease."""
    path, params = _place(queue, execution_id)
    body = orjson.dumps({"fencing_token": fencing_token, "lease_seconds": lease_s})
    return Request("PUT", f"{path}/lease", params, body, _JSON_BODY)


def leave_request(
    queue: str, execution_id: str, fencing_token: int | None = None, *, only_queued: bool = False
) -> Request:
    """Give a slot back, or leave the line."""
    path, params = _place(queue, execution_id)
    token: Params = [] if fencing_token is None else [("fencing_token", fencing_token)]
    waiting: Params = [("only_queued", "true")] if only_queued else []
    return Request("DELETE", path, [*params, *token, *waiting])


def stats_request(queue: str, listed: int) -> Request:
    """Ask for one queue's statistics."""
    action, params = _queue(queue)
    return Request("GET", f"{action}/queue-stats", [*params, ("listed", listed)])


def queues_request(after: str | None, limit: int, listed: int) -> Request:
    """Ask for a page of queues."""
    begin: Params = [] if after is None else [("after", after)]
    return Request("GET", "/actions", [*begin, ("limit", limit), ("listed", listed)])


def limit_request(queue: str, max_concurrent: int | None) -> Request:
    """Set or (None) remove a queue's own limit."""
    action, params = _queue(queue)
    if max_concurrent is None:
        return Request("DELETE", f"{action}/limit", params)
    return Request("PUT", f"{action}/limit", params, orjson.dumps({"max_concurrent": max_concurrent}), _JSON_BODY)


def clear_request(queue: str | None) -> Request:
    """Take everybody out of a queue, of all (None). Not to be repeated: others may have come since."""
    if queue is None:
        return Request("DELETE", "/actions", [], repeatable=False)
    action, params = _queue(queue)
    return Request("DELETE", f"{action}/queue", params, repeatable=False)


def policies_request() -> Request:
    """Ask for all policies."""
    return Request("GET", "/policies", [])


def policy_request(scope: Scope, policy: Policy | None, expected_version: int | None) -> Request:
    """Set or (None) remove a policy."""
    if scope.kind == "queue":
        raise InvalidInput("scope", "through a server a queue has a limit of its own, and no policy: use set_limit")
    path = "/policies/global" if scope.kind == "global" else f"/policies/{scope.kind}/{_segment(scope.name)}"
    params: Params = [] if expected_version is None else [("expected_version", expected_version)]
    body = None if policy is None else orjson.dumps(policy.to_dict())
    method, headers = ("DELETE", None) if body is None else ("PUT", _JSON_BODY)
    return Request(method, path, params, body, headers)


def read_state(answer: Any) -> SlotState:
    """Where an execution stands, as the server sent it."""
    return SlotState(**{name: answer[name] for name in SlotState.__dataclass_fields__ if name in answer})


def read_left(answer: Any) -> Left:
    """What an execution gave up by leaving."""
    return _RESULTS[answer["result"]]


def read_stats(answer: Any) -> QueueStats:
    """One queue as the server sent it."""
    own = {name: answer[name] for name in QueueStats.__dataclass_fields__ if name in answer}
    own["policy"] = _policy(answer["limits"])
    own["holders"] = tuple(Holder(**holder) for holder in answer["holders"])
    own["waiters"] = tuple(Waiter(**waiter) for waiter in answer["waiters"])
    return QueueStats(**own)


def read_queues(answer: Any) -> QueuesPage:
    """A page of queues."""
    return QueuesPage([read_stats(one) for one in answer["actions"]], answer["cursor"], bool(answer["at_end"]))


def read_cleared(answer: Any) -> Cleared:
    """How many were taken out."""
    return Cleared(int(answer["holders"]), int(answer["waiters"]))


def read_policies(answer: Any) -> dict[Scope, StoredPolicy]:
    """All policies by scope."""
    return {Scope.parse(one["scope"]): StoredPolicy(int(one["version"]), _policy(one)) for one in answer["policies"]}


def read_version(answer: Any) -> int:
    """The version of what was set or removed."""
    return int(answer["version"])


def _policy(answer: Mapping[str, Any]) -> Policy:
    own = {name: answer[name] for name in Policy.__dataclass_fields__}
    for name in ("rate_limit", "quota"):
        own[name] = None if own[name] is None else Rate(**own[name])
    return Policy(**own)


def _place(queue: str, execution_id: str) -> tuple[str, Params]:
    action, params = _queue(queue)
    return f"{action}/slots/{_segment(checked_name('execution_id', execution_id))}", params


def _queue(queue: str) -> tuple[str, Params]:
    action, _, group = queue.partition("/")
    return _action(action), [("group_key", group)] if group else []


def _action(action: str) -> str:
    return f"/actions/{_segment(action)}"


def _segment(name: str) -> str:
    """A name as a part of a path: all its characters may stand there, but a lone `.` or `..` would be resolved."""
    return name.replace(".", "%2E") if name in (".", "..") else name
