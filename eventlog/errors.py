"""Every error the library raises. No status codes here: `server/problems.py` alone knows those.

EventLogError
├── InvalidInput            the caller's data is wrong; nothing was appended      (also a ValueError)
│   └── PayloadTooLarge     a payload, an event or a batch is over its limit
├── NotFound                the event asked for is not (or no longer) in the log  (also a LookupError)
├── Conflict                `expected_offset` is not the log's last offset
├── LogClosed               the log object was closed
└── BackendUnavailable      Redis did not answer within the deadline; a write's outcome may be unknown
    ├── BackendFull         Redis refuses writes (out of memory, disk full, read-only replica)
    └── Overloaded          too many appends wait in this process already (back-pressure)
"""


class EventLogError(Exception):
    """Base of all errors of this library."""


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


class NotFound(EventLogError, LookupError):
    """What was asked for is not, or no longer, in the log."""


class Conflict(EventLogError):
    """An append that expected the log to end at `expected_offset` found it ending at `last_offset`."""

    def __init__(self, expected_offset: int, last_offset: int) -> None:
        self.expected_offset = expected_offset
        self.last_offset = last_offset
        super().__init__(f"expected_offset is {expected_offset}, but the last offset is {last_offset}")


class LogClosed(EventLogError):
    """The log object was closed; nothing was sent."""


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


class Overloaded(BackendUnavailable):
    """More appends wait in this process than its bound allows, and none left within the deadline."""
