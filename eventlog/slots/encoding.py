"""The shape of acts on slot queues in Redis: arguments of `slot_calls.lua`, its answers, the grants at a bell. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from .acts import (
    Acquire,
    Act,
    Answer,
    Beat,
    Beaten,
    Busy,
    Cancel,
    Cancelled,
    Full,
    Gone,
    Granted,
    Held,
    Limited,
    Poke,
    Queued,
    Release,
    Released,
    Renew,
    Ring,
    Touch,
    Waiting,
)
from .policy import Policy, Rate, StoredPolicy, whole_ms
from .protocol import Holder, QueueStats, Waiter

Arg = bytes | str | int


def decode_ring(raw: bytes) -> Ring:
    """Read an element of a bell."""
    nonce, fence, valid_ms = raw.decode().split(" ")
    return Ring(nonce, int(fence), int(valid_ms))


def encode_act(act: Act, number: int) -> tuple[Arg, ...]:
    """The arguments of one act on the queue that is called `number`."""
    if type(act) is Acquire:
        _, execution, nonce, lease, timeout, most, longest, pack, mode, bell, attended, owner, ticket = act
        return (
            *("A", number, execution, nonce, lease, timeout, _text(most), longest),
            *(pack, mode, bell, "1" if attended else "0", owner, _text(ticket)),
        )
    if type(act) is Release:
        return ("R", number, act.execution, act.key, act.tomb_ms, _text(act.not_after_ms))
    if type(act) is Touch:
        if act.bell is None:
            return ("T", number, act.execution, act.key, "", "")
        return ("T", number, act.execution, act.key, act.bell, "1" if act.attended else "0")
    if type(act) is Renew:
        return ("N", number, act.execution, act.key, _text(act.lease_ms), _text(act.fence))
    if type(act) is Cancel:
        return ("C", number, act.execution, act.key, act.tomb_ms, act.how)
    if type(act) is Beat:
        return ("B", number, act.executions[0], len(act.executions), *act.executions[1:])
    assert type(act) is Poke
    return ("P", number, "")


def _text(number: int | None) -> int | str:
    return "" if number is None else number


def _granted(raw: Sequence[Any]) -> Answer:
    return Granted(raw[1], raw[2], raw[3], raw[4].decode(), raw[5].decode(), raw[6], raw[7] == 1)


def _queued(raw: Sequence[Any]) -> Answer:
    return Queued(raw[1], raw[2], raw[3], raw[4], raw[5].decode(), raw[6], raw[7].decode(), raw[8], raw[9] == 1)


_ANSWERS: dict[bytes, Callable[[Sequence[Any]], Answer]] = {
    b"granted": _granted,
    b"queued": _queued,
    b"held": lambda raw: Held(raw[1], raw[2]),
    b"waiting": lambda raw: Waiting(raw[1]),
    b"busy": lambda raw: Busy(),
    b"limited": lambda raw: Limited(raw[1], raw[2].decode()),
    b"full": lambda raw: Full(raw[1], raw[2]),
    b"cancelled": lambda raw: Cancelled(),
    b"released": lambda raw: Released(),
    b"none": lambda raw: Gone(*raw[1:]),
    b"beaten": lambda raw: Beaten(raw[1], tuple(map(int, raw[2].split()))),
}


def decode_answer(raw: Sequence[Any]) -> Answer:
    """Read the answer to one act."""
    return _ANSWERS[raw[0]](raw)


def encode_policy(policy: Policy) -> str:
    """A policy as the scripts read it, without its version."""
    rate, quota = policy.rate_limit, policy.quota
    logged = policy.log_transitions
    numbers = (
        policy.max_concurrent,
        *((None, None) if rate is None else (rate.count, whole_ms(rate.seconds))),
        *((None, None) if quota is None else (quota.count, whole_ms(quota.seconds))),
        policy.max_queue_length,
        None if policy.queue_timeout_seconds is None else whole_ms(policy.queue_timeout_seconds),
        None if logged is None else int(logged),
    )
    return " ".join("-" if number is None else str(number) for number in numbers)


def decode_policy(raw: bytes) -> StoredPolicy:
    """Read a policy with its version."""
    version, *fields = raw.decode().split(" ")
    return StoredPolicy(int(version), decode_limits(["" if field == "-" else field for field in fields]))


def decode_limits(fields: Sequence[str]) -> Policy:
    """Read limits in the order of a policy's fields; "" is none."""
    most, rate_n, rate_ms, quota_n, quota_ms, longest, timeout_ms, logged = fields
    return Policy(
        max_concurrent=int(most) if most else None,
        rate_limit=Rate(int(rate_n), int(rate_ms) / 1000) if rate_n else None,
        quota=Rate(int(quota_n), int(quota_ms) / 1000) if quota_n else None,
        max_queue_length=int(longest) if longest else None,
        queue_timeout_seconds=int(timeout_ms) / 1000 if timeout_ms else None,
        log_transitions=logged == "1" if logged else None,
    )


def decode_stats(raw: Sequence[Any], now_ms: int) -> QueueStats:
    """Read what `slot_stats.lua` says of one queue."""
    name, state_raw, limits_raw, holders_raw, waiters_raw, active, waiting = raw
    state = {state_raw[i].decode(): state_raw[i + 1].decode() for i in range(0, len(state_raw), 2)}
    action, _, group = name.decode().partition("/")
    holders = tuple(_holder(*holders_raw[i : i + 3]) for i in range(0, len(holders_raw), 3))
    waiters = tuple(
        _waiter(position, waiters_raw[i], waiters_raw[i + 2])
        for position, i in enumerate(range(0, len(waiters_raw), 3), 1)
    )
    return QueueStats(
        action=action,
        group_key=group or None,
        queue_length=waiting,
        active_count=active,
        policy=decode_limits([field.decode() for field in limits_raw]),
        oldest_enqueued_at=waiters[0].enqueued_at if waiters else None,
        total_enqueued=int(state.get("enqueued", 0)),
        total_completed=int(state.get("released", 0)),
        total_expired=int(state.get("expired", 0)),
        total_timed_out=int(state.get("timed_out", 0)),
        total_cancelled=int(state.get("cancelled", 0)),
        holders=holders,
        waiters=waiters,
        time=now_ms / 1000,
    )


def _holder(execution: bytes, until_ms: bytes, record: bytes) -> Holder:
    _, _, _, granted_ms, _, _, claim_end, owner, fence = record.decode().split(" ")
    until = int(claim_end) or int(float(until_ms))
    return Holder(execution.decode(), int(fence), int(granted_ms) / 1000, until / 1000, _owner(owner))


def _waiter(position: int, execution: bytes, record: bytes) -> Waiter:
    _, _, ticket, _, _, _, _, owner = record.decode().split(" ")
    return Waiter(execution.decode(), position, int(ticket) / 1_000_000, _owner(owner))


def _owner(owner: str) -> str | None:
    return None if owner == "-" else owner
