"""What can be done on slot queues, and what may be answered: the acts and answers of `slot_calls.lua`. Pure values."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

ANY = "*"
"""A key that fits every acquisition of an execution; others are a nonce, or what `others_key` and `fence_key` make."""


TOMB_MS = 60_000
"""How long a tombstone outlives a release made by name, so that a delayed copy of the acquire cannot queue it again."""


def others_key(nonce: str) -> str:
    """A key that fits one acquisition, used by others than its owner: a waiter that leaves by it is notified."""
    return f"x{nonce}"


def fence_key(fencing_token: int) -> str:
    """A key that fits the acquisition that was granted with `fencing_token`."""
    return f"f{fencing_token}"


Mode = Literal["line", "try", "adopt"]
LimitedBy = Literal["", "busy", "rate", "quota"]


class Acquire(NamedTuple):
    """Ask for a slot. `attended` waiters are beaten for or touched; `bell` is where a grant is announced, "-" nowhere.

    With a `ticket`, a waiter that lost its place, or whose Redis lost its data, comes back to where it was.
    """

    queue: str
    execution: str
    nonce: str
    lease_ms: int
    timeout_ms: int
    max_concurrent: int | None = None
    max_length: int = 10_000
    pack: str = "-"
    mode: Mode = "line"
    bell: str = "-"
    attended: bool = False
    owner: str = "-"
    ticket: int | None = None


class Touch(NamedTuple):
    """Ask what has become of an acquisition, and say that its waiter lives. `bell` None leaves bell and attendance."""

    queue: str
    execution: str
    key: str
    bell: str | None = None
    attended: bool = False


class Renew(NamedTuple):
    """The holder lives. With its `fence` it is taken back by a Redis that has lost its data."""

    queue: str
    execution: str
    key: str
    lease_ms: int | None = None
    fence: int | None = None


class Release(NamedTuple):
    """Give a slot back, or leave the line; not if the acquisition is younger than `not_after_ms` (Unix time)."""

    queue: str
    execution: str
    key: str
    tomb_ms: int = 0
    not_after_ms: int | None = None


class Cancel(NamedTuple):
    """Leave the line, but keep a slot that was granted meanwhile."""

    queue: str
    execution: str
    key: str
    tomb_ms: int = 0
    how: Literal["cancelled", "timed_out"] = "cancelled"


class Beat(NamedTuple):
    """These attended waiters live."""

    queue: str
    executions: tuple[str, ...]


class Poke(NamedTuple):
    """What has expired goes, what is free is handed out."""

    queue: str


Act = Acquire | Touch | Renew | Release | Cancel | Beat | Poke


class Granted(NamedTuple):
    """It holds a slot for `remaining_ms`. `how`: by this act (`new`), from before (`same`), or taken over (`taken`).

    `limit`: how many may hold a slot, 0 for any number; `by_policy` if a policy says so, and not a caller.
    """

    fence: int
    remaining_ms: int
    lease_ms: int
    nonce: str
    how: str
    limit: int = 0
    by_policy: bool = False


class Queued(NamedTuple):
    """It waits; at `position` 1 it is next. `look_in_ms`: when something falls due that may free a slot, 0 if unknown.

    `remaining_ms` is left of its queue time-out. `limited_by` says what is in the way, for `limited_ms` if that is
    known. `limit` and `by_policy` as in `Granted`.
    """

    position: int
    look_in_ms: int
    remaining_ms: int
    ticket: int
    nonce: str
    limited_ms: int
    limited_by: LimitedBy
    limit: int = 0
    by_policy: bool = False


class Held(NamedTuple):
    """Another acquisition of this execution holds a slot."""

    fence: int
    remaining_ms: int


class Waiting(NamedTuple):
    """Another acquisition of this execution waits."""

    position: int


class Busy(NamedTuple):
    """No slot is free, or others wait; it does not."""


class Limited(NamedTuple):
    """A rate or a quota allows no grant for longer than it may wait."""

    retry_in_ms: int
    by: LimitedBy


class Full(NamedTuple):
    """As many wait as may."""

    length: int
    max_length: int


class Cancelled(NamedTuple):
    """It waits no longer, or may not come back."""


class Released(NamedTuple):
    """It holds the slot no longer."""


class Gone(NamedTuple):
    """Nothing of that acquisition is here. To a `Touch`, `expired_ms` says when a lease of the execution ran out.

    It is 0 if none did within the last ten minutes.
    """

    expired_ms: int = 0


class Beaten(NamedTuple):
    """`missing`: indexes of the executions that do not wait (any more)."""

    look_in_ms: int
    missing: tuple[int, ...]


Answer = Granted | Queued | Held | Waiting | Busy | Limited | Full | Cancelled | Released | Gone | Beaten


class Ring(NamedTuple):
    """What lies at a bell: a grant and for how long it stands, or, with fence 0, word to look again."""

    nonce: str
    fence: int
    valid_ms: int


class Performed(NamedTuple):
    """Answers in the order of the acts. `repeated`: a copy of the call may still be under way somewhere.

    `rings` is what the call put into the caller's own inbox: it is not there, but here.
    """

    now_ms: int
    answers: list[Answer]
    repeated: bool = False
    rings: Sequence[Ring] = ()
