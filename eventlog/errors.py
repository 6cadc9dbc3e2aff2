"""Every error the library raises. No status codes here: `server/problems.py` alone knows those.

EventLogError
├── InvalidInput            the caller's data is wrong; nothing was appended      (also a ValueError)
│   ├── PayloadTooLarge     a payload, an event or a batch is over its limit
│   └── RejectedContent     a payload carries what must not be in a log: hidden chain-of-thought
├── NotFound                the event asked for is not (or no longer) in the log  (also a LookupError)
├── Conflict                `expected_offset` is not the log's last offset
├── VersionConflict         a policy has not the version that was expected
├── LogClosed               the log, bus or slot object was closed
├── FellBehind              a subscriber of a bus read nothing while more runs ended than can be kept for it
├── SlotRefused             no slot, and no place in the line either
│   ├── QueueFull           as many wait as may
│   ├── QueueTimeout        it did not come to its turn in time
│   ├── RateLimited         a rate limit stands in the way for longer than the execution may wait
│   ├── QuotaExceeded       a quota does
│   ├── AlreadyHeld         the execution has a slot, or a place, already
│   └── SlotCancelled       its place was taken away: cancelled, or the queue was cleared
├── MissingExtra            an optional part is used whose packages are not installed  (also an ImportError)
├── EmbeddedRedisError      the embedded server cannot be found, started or configured
├── LeaseLost               the slot is no longer held: its lease ended, or somebody else released it
└── BackendUnavailable      Redis did not answer within the deadline; a write's outcome may be unknown
    ├── BackendFull         Redis refuses writes (out of memory, disk full, read-only replica)
    ├── BackendRefused      Redis refuses the password, a command or a key, or is a cluster
    └── Overloaded          too many appends wait in this process already (back-pressure)
"""

import copy
from typing import Any


class EventLogError(Exception):
    """Base of all errors of this library. They can be copied and pickled, with all their attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[EventLogError], args: tuple[Any, ...]) -> EventLogError:
    """An error as it was, but for its attributes: its constructor takes others than the message it makes of them."""
    error = kind.__new__(kind, *args)
    super(EventLogError, error).__init__(*args)
    return error


class InvalidInput(EventLogError, ValueError):
    """The caller's data is wrong: `field` names it, `index` its place in a batch (or None)."""

    def __init__(self, field: str, problem: str, *, index: int | None = None) -> None:
        self.field = field
        self.problem = problem
        self.index = index
        where = field if index is None else f"events[{index}].{field}"
        super().__init__(f"{where}: {problem}")

    def at(self, index: int) -> "InvalidInput":
        """The same complaint, placed at `index` of a batch."""
        return type(self)(self.field, self.problem, index=index)


class PayloadTooLarge(InvalidInput):
    """A payload, an event or a batch is over its configured limit."""


class RejectedContent(InvalidInput):
    """A payload carries hidden chain-of-thought in `field`, a path such as `payload.steps[1].chain_of_thought`."""


class NotFound(EventLogError, LookupError):
    """What was asked for is not, or no longer, in the log.

    `lease_expired_at`, of an execution in a queue: when its lease ran out, if that was within ten minutes, else None.
    """

    def __init__(self, problem: str, lease_expired_at: float | None = None) -> None:
        self.lease_expired_at = lease_expired_at
        super().__init__(problem)


class Conflict(EventLogError):
    """An append that expected the log to end at `expected_offset` found it ending at `last_offset`."""

    def __init__(self, expected_offset: int, last_offset: int) -> None:
        self.expected_offset = expected_offset
        self.last_offset = last_offset
        super().__init__(f"expected_offset is {expected_offset}, but the last offset is {last_offset}")


class VersionConflict(EventLogError):
    """A change that expected a policy at version `expected` (0: not set) found it at `version`."""

    def __init__(self, expected: int, version: int) -> None:
        self.expected = expected
        self.version = version
        super().__init__(f"expected version {expected}, but it is at version {version}")


class LogClosed(EventLogError):
    """The log, bus or slot object was closed; nothing was sent."""


class FellBehind(EventLogError):
    """A subscriber was so slow that events which end runs would have been lost; its subscription is over."""


class SlotRefused(EventLogError):
    """No slot was given. `queue` is the action, or `action/group`; `execution_id` names the caller's execution."""

    def __init__(self, queue: str, execution_id: str, problem: str) -> None:
        self.queue = queue
        self.execution_id = execution_id
        super().__init__(f"{queue}: {problem}")


class QueueFull(SlotRefused):
    """`length` executions wait already, the limit is `limit`."""

    def __init__(self, queue: str, execution_id: str, length: int, limit: int) -> None:
        self.length = length
        self.limit = limit
        super().__init__(queue, execution_id, f"the queue is full: {length} wait, the limit is {limit}")


class QueueTimeout(SlotRefused):
    """The execution waited for `waited_s` seconds and was not granted a slot; it waits no longer."""

    def __init__(self, queue: str, execution_id: str, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(queue, execution_id, f"no slot within {waited_s:.3g} s")


class RateLimited(SlotRefused):
    """A rate limit allows no grant for another `retry_after_s` seconds."""

    def __init__(self, queue: str, execution_id: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(queue, execution_id, f"the rate limit allows no grant for another {retry_after_s:.1f} s")


class QuotaExceeded(SlotRefused):
    """The quota is used up for another `retry_after_s` seconds."""

    def __init__(self, queue: str, execution_id: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(queue, execution_id, f"the quota is used up for another {retry_after_s:.1f} s")


class AlreadyHeld(SlotRefused):
    """The execution is in the queue already: it holds a slot with `fencing_token`, or waits, which then is None."""

    def __init__(self, queue: str, execution_id: str, fencing_token: int | None) -> None:
        self.fencing_token = fencing_token
        standing = "waits already" if fencing_token is None else f"holds a slot already (fencing token {fencing_token})"
        super().__init__(queue, execution_id, f"execution {execution_id} {standing}")


class SlotCancelled(SlotRefused):
    """The execution's place in the line was taken away: it was cancelled, or the queue was cleared."""

    def __init__(self, queue: str, execution_id: str) -> None:
        super().__init__(queue, execution_id, f"execution {execution_id} was cancelled while it waited")


class MissingExtra(EventLogError, ImportError):
    """An optional part is used whose packages are not installed; `extra` is what to install of this distribution."""

    def __init__(self, extra: str, problem: str) -> None:
        self.extra = extra
        super().__init__(problem)


class EmbeddedRedisError(EventLogError):
    """The embedded server cannot be found, started or configured.

    `log_tail` holds the last lines of its log where there are any, else "".
    """

    def __init__(self, problem: str, *, log_tail: str = "") -> None:
        self.problem = problem
        self.log_tail = log_tail
        super().__init__(f"{problem}\nThe end of its log:\n{log_tail}" if log_tail else problem)


class LeaseLost(EventLogError):
    """The execution does not hold the slot (any more); what its fencing token protects is refused from now on."""

    def __init__(self, queue: str, execution_id: str) -> None:
        self.queue = queue
        self.execution_id = execution_id
        super().__init__(f"{queue}: execution {execution_id} does not hold a slot (any more)")


class BackendUnavailable(EventLogError):
    """Redis did not answer in time.

    `outcome_unknown` is True where a write may still have been carried out: repeat it with the same
    idempotency key. `retry_after_s` is a hint in seconds.
    """

    def __init__(self, problem: str, *, outcome_unknown: bool = False, retry_after_s: float = 1.0) -> None:
        self.outcome_unknown = outcome_unknown
        self.retry_after_s = retry_after_s
        super().__init__(problem)


class BackendFull(BackendUnavailable):
    """Redis is up and refuses writes: out of memory, disk full, or a read-only replica. Reads go on."""


class BackendRefused(BackendUnavailable):
    """Redis is up and refuses the name or password, a command or key that its user has no right to, or is a cluster.

    Or another program has put a value of another kind under one of the log's keys. It lasts until an operator changes
    that, so nothing is retried. `lacks` names the command, or the pattern of the keys, that the user has no right to;
    else it is None.
    """

    def __init__(self, problem: str, *, lacks: str | None = None, outcome_unknown: bool = False) -> None:
        self.lacks = lacks
        super().__init__(problem, outcome_unknown=outcome_unknown)


class Overloaded(BackendUnavailable):
    """More appends wait in this process than its bound allows, and none left within the deadline."""


def failure_for_each(error: Exception) -> EventLogError:
    """A private copy of a call's failure, as each caller raises it with a traceback of its own."""
    if isinstance(error, EventLogError):
        return copy.copy(error)
    failure = BackendUnavailable(f"the append failed: {error}", outcome_unknown=True)
    failure.__cause__ = error
    return failure
