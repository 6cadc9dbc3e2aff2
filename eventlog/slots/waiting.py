"""How a slot is waited for, whatever the colour: a generator that asks and listens, and is driven by a queue.

`Ask` is sent the answer to an act, `Listen` a grant that was rung or None. What cannot be asked is thrown in here.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ..errors import (
    AlreadyHeld,
    BackendUnavailable,
    EventLogError,
    LeaseLost,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    SlotCancelled,
)
from .acts import Act, Answer, Busy, Cancel, Cancelled, Full, Granted, Held, Limited, Mode, Queued, Ring, Touch, Waiting
from .request import Acquisition, moment

HEARTBEAT_S = 0.5
"""How often a waiter says that it lives, and looks whether something has fallen due."""
PATIENCE_S = 30.0
"""How long a waiter bears with a Redis that does not answer."""
_MARGIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Ask:
    """Have an act carried out."""

    act: Act


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait at `bell` until `until` (see `moment`); `look_in_s`: something may fall due then, None if unknown."""

    acquisition: Acquisition
    bell: str
    until: float
    look_in_s: float | None


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot: valid until `valid_until` by this side's clock, which is never later than by Redis'."""

    fence: int
    valid_until: float
    lease_s: float
    waited_s: float


Steps = Generator[Ask | Listen, Any, Grant]
_Look = Generator[Ask | Listen, Any, tuple[float, Answer | None]]


def acquire(acquisition: Acquisition, mode: Mode, bell: str) -> Steps:
    """Wait for a slot. Raises a `SlotRefused`, or `BackendUnavailable` where Redis stays away."""
    began = asked_at = acquisition.heard_at = moment()
    deadline = began + acquisition.queue_timeout_s
    look_in_s: float | None = None
    answer: Answer | None = yield Ask(acquisition.ask(mode, bell, attended=True))
    while True:
        if isinstance(answer, Granted):
            acquisition.nonce = answer.nonce
            return Grant(answer.fence, asked_at + answer.remaining_ms / 1000, answer.lease_ms / 1000, moment() - began)
        if isinstance(answer, Queued):
            acquisition.heard_at = asked_at
            # An execution that was in the line before goes on with that acquisition.
            acquisition.nonce, acquisition.ticket = answer.nonce, answer.ticket
            deadline = min(deadline, asked_at + answer.remaining_ms / 1000)
            look_in_s = answer.look_in_ms / 1000 or None
        elif answer is not None:
            raise refusal(acquisition, answer)
        if moment() >= deadline:
            asked_at, answer = yield from _give_up(acquisition, began)
            continue
        ring: Ring | None = yield Listen(acquisition, bell, deadline, look_in_s)
        if ring is not None and ring.fence:
            # It cannot be older than the last answer, which said that there was none.
            valid_until = acquisition.heard_at + ring.valid_ms / 1000
            if moment() < valid_until - _MARGIN_S:
                return Grant(ring.fence, valid_until, acquisition.lease_s, moment() - began)
        try:
            asked_at, answer = yield from _look(acquisition, bell, deadline)
        except BackendUnavailable:
            if moment() - acquisition.heard_at > PATIENCE_S:
                raise
            answer = None


def _look(acquisition: Acquisition, bell: str, deadline: float) -> _Look:
    """See where the acquisition stands. One that has lost its place goes back to it, by its old ticket."""
    asked_at = moment()
    answer = yield Ask(Touch(acquisition.queue, acquisition.execution_id, acquisition.nonce, bell, attended=True))
    if not isinstance(answer, Granted | Queued):
        asked_at = moment()
        left_s = deadline - asked_at
        answer = (yield Ask(acquisition.ask("line", bell, attended=True, left_s=left_s))) if left_s >= 0.001 else None
    return asked_at, answer


def _give_up(acquisition: Acquisition, began: float) -> _Look:
    """Leave the line, unless the grant has come meanwhile: then it is used. Raises `QueueTimeout`."""
    who = (acquisition.queue, acquisition.execution_id, acquisition.nonce)
    answer = yield Ask(Cancel(*who, acquisition.tomb_ms, "timed_out"))
    asked_at = moment()
    if isinstance(answer, Granted):
        answer = yield Ask(Touch(*who))
    if not isinstance(answer, Granted):
        # How late that was found out is nobody's concern: it is told by what was asked for.
        waited_s = min(moment() - began, acquisition.queue_timeout_s)
        raise QueueTimeout(acquisition.queue, acquisition.execution_id, waited_s)
    return asked_at, answer


def refusal(acquisition: Acquisition, answer: Answer | None) -> EventLogError:
    """The error that tells of an answer which gives no slot."""
    who = (acquisition.queue, acquisition.execution_id)
    match answer:
        case Held():
            return AlreadyHeld(*who, answer.fence)
        case Waiting():
            return AlreadyHeld(*who, None)
        case Full():
            return QueueFull(*who, answer.length, answer.max_length)
        case Limited(by="rate"):
            return RateLimited(*who, answer.retry_in_ms / 1000)
        case Limited():
            return QuotaExceeded(*who, answer.retry_in_ms / 1000)
        case Cancelled():
            return SlotCancelled(*who)
        case Busy():
            return QueueTimeout(*who, 0.0)
    return LeaseLost(*who)
