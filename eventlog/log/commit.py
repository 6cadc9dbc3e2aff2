"""How much goes into one call, and how much may wait. Pure."""

from dataclasses import dataclass
from typing import NamedTuple

from ..model.log_values import Append

OVERRUN_S = 0.5
"""How long after its deadline a call may end without the callers queued behind it being refused."""


class Bounds(NamedTuple):
    """Limits of a committer: a call holds at most `call_events` and `call_bytes` (one append may be larger alone),
    and at most `pending_events` and `pending_bytes` wait for one. Over that, callers wait, until their deadline."""

    call_events: int = 1000
    call_bytes: int = 1024 * 1024
    pending_events: int = 20_000
    pending_bytes: int = 64 * 1024 * 1024
    callers_alone: int = 4


@dataclass(slots=True)
class CommitStats:
    """Counters since the start, and what waits now."""

    appends: int = 0
    events: int = 0
    calls: int = 0
    largest_call: int = 0
    refused: int = 0
    pending_events: int = 0

    def called(self, appends: int, events: int) -> None:
        """Count one script call."""
        self.calls += 1
        self.appends += appends
        self.events += events
        if events > self.largest_call:
            self.largest_call = events

    def add(self, other: "CommitStats") -> None:
        """Count another's calls too."""
        self.appends += other.appends
        self.events += other.events
        self.calls += other.calls
        self.largest_call = max(self.largest_call, other.largest_call)


def size_of(append: Append) -> tuple[int, int]:
    """Events and bytes of payload in one append."""
    bodies = append.bodies
    if len(bodies) == 1:
        return 1, len(bodies[0].payload_json)
    return len(bodies), sum(len(body.payload_json) for body in bodies)
