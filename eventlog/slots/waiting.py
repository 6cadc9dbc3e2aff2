"""How a slot is waited for, whatever the colour: a plan that asks and listens.

A queue's driver carries the effects out: `Ask` has an act carried out, `Listen` waits for a grant to be announced.
"""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from ..errors import (
    AlreadyHeld,
    BackendUnavailable,
    EventLogError,
    LeaseLost,
    LogClosed,
    QueueFull,
    QueueTimeout,
    QuotaExceeded,
    RateLimited,
    SlotCancelled,
)
from .acts import Act, Answer, Busy, Cancel, Cancelled, Full, Granted, Held, Limited, Mode, Queued, Ring, Touch, Waiting
from .request import Acquisition, moment

T = TypeVar("T")

HEARTBEAT_S = 0.5
"""How often a waiter shows that it lives, and looks whether something has fallen due."""
PATIENCE_S = 30.0
"""How long a waiter bears with a Redis that does not answer."""
_MARGIN_S = 0.2


class Ask(NamedTuple):
    """Have an act carried out; the reply is a `Reply`."""

    act: Act


class AskAll(NamedTuple):
    """Have acts carried out in one step within `deadline_s`; the reply is their answers."""

    acts: Sequence[Act]
    deadline_s: float


class Listen(NamedTuple):
    """Wait at `bell` until `until` (see `moment`), or a little less; the reply is a `Ring`, or None: look for yourself.

    `look_in_s`: something may fall due then, None if unknown. `attended`: the waiter's place is lost if it is silent.
    """

    acquisition: Acquisition
    bell: str
    until: float
    look_in_s: float | None = None
    attended: bool = True


class Reply(NamedTuple):
    """The answer to an act, the Redis time of it, and whether a copy of the call may still be under way."""

    answer: Answer
    now_ms: int = 0
    repeated: bool = False


class Grant(NamedTuple):
    """A slot: valid until `valid_until` by this side's clock, which is never later than by Redis'."""

    fence: int
    valid_until: float
    lease_s: float
    waited_s: float = 0.0


Waits = Generator[Ask | Listen, Any, T]
_Look = Waits[tuple[float, Answer | None]]


def ask(acquisition: Acquisition, act: Act) -> Waits[Answer]:
    """Have an act carried out, and note in the acquisition whether a copy of the call may still be under way."""
    try:
        reply: Reply = yield Ask(act)
    except BackendUnavailable:
        acquisition.doubtful = True
        raise
    acquisition.doubtful = acquisition.doubtful or reply.repeated
    answer = reply.answer
    if type(answer) is Granted or type(answer) is Queued:
        acquisition.take_up_limit(answer.limit, answer.by_policy)
    return answer


def valid_until(asked_at: float, remaining_ms: int) -> float:
    """Until when a lease is certain to run. Redis counts whole milliseconds: its may have begun up to one earlier."""
    return asked_at + (remaining_ms - 1) / 1000


def acquire(acquisition: Acquisition, mode: Mode, bell: str) -> Waits[Grant]:
    """Wait for a slot. Raises a `SlotRefused`, or `BackendUnavailable` where Redis stays away."""
    began = asked_at = acquisition.heard_at = moment()
    deadline = began + acquisition.queue_timeout_s
    look_in_s: float | None = None
    answer: Answer | None = yield from ask(acquisition, acquisition.ask(mode, bell, attended=True))
    while True:
        if isinstance(answer, Granted):
            acquisition.nonce = answer.nonce
            return grant_of(answer, asked_at, moment() - began)
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
            # It cannot be older than the last answer, which was that there was none.
            until = valid_until(acquisition.heard_at, ring.valid_ms)
            if moment() < until - _MARGIN_S:
                return Grant(ring.fence, until, acquisition.lease_s, moment() - began)
        try:
            asked_at, answer = yield from _look(acquisition, bell, deadline)
        except BackendUnavailable:
            if moment() - acquisition.heard_at > PATIENCE_S:
                raise
            answer = None


def grant_of(answer: Granted, asked_at: float, waited_s: float = 0.0) -> Grant:
    """The slot that an answer gives."""
    return Grant(answer.fence, valid_until(asked_at, answer.remaining_ms), answer.lease_ms / 1000, waited_s)


def _look(acquisition: Acquisition, bell: str, deadline: float) -> _Look:
    """See where the acquisition stands. One that has lost its place goes back to it, by its old ticket."""
    asked_at = moment()
    touch = Touch(acquisition.queue, acquisition.execution_id, acquisition.nonce, bell, attended=True)
    answer: Answer | None = yield from ask(acquisition, touch)
    if not isinstance(answer, Granted | Queued):
        asked_at = moment()
        left_s = deadline - asked_at
        again = acquisition.ask("line", bell, attended=True, left_s=left_s)
        answer = (yield from ask(acquisition, again)) if left_s >= 0.001 else None
    return asked_at, answer


def _give_up(acquisition: Acquisition, began: float) -> _Look:
    """Leave the line, unless the grant has come meanwhile: then it is used. Raises `QueueTimeout`."""
    named = (acquisition.queue, acquisition.execution_id, acquisition.nonce)
    answer = yield from ask(acquisition, Cancel(*named, acquisition.tomb_ms, "timed_out"))
    asked_at = moment()
    if isinstance(answer, Granted):
        answer = yield from ask(acquisition, Touch(*named))
    if not isinstance(answer, Granted):
        # The error names the time that was asked for; how late its end was found out is of no use to the caller.
        waited_s = min(moment() - began, acquisition.queue_timeout_s)
        raise QueueTimeout(acquisition.queue, acquisition.execution_id, waited_s)
    return asked_at, answer


def refusal(acquisition: Acquisition, answer: Answer | None) -> EventLogError:
    """The error for an answer which gives no slot."""
    named = (acquisition.queue, acquisition.execution_id)
    match answer:
        case Held():
            return AlreadyHeld(*named, answer.fence)
        case Waiting():
            return AlreadyHeld(*named, None)
        case Full():
            return QueueFull(*named, answer.length, answer.max_length)
        case Limited(by="rate"):
            return RateLimited(*named, answer.retry_in_ms / 1000)
        case Limited():
            return QuotaExceeded(*named, answer.retry_in_ms / 1000)
        case Cancelled():
            return SlotCancelled(*named)
        case Busy():
            return QueueTimeout(*named, 0.0)
    return LeaseLost(*named)


def is_left_behind(acquisition: Acquisition, error: BaseException) -> bool:
    """Whether something of an acquisition that ended with `error` may still stand in the queue, for nobody."""
    if not isinstance(error, EventLogError):
        return True  # it was interrupted, whatever was under way
    if not isinstance(error, BackendUnavailable | LogClosed):
        return False
    # What certainly never arrived has left nothing, and the execution may hold a slot by another acquisition.
    unknown = isinstance(error, BackendUnavailable) and error.outcome_unknown
    return acquisition.heard_at > 0 or acquisition.doubtful or unknown
