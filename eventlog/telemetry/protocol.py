"""What a backend of telemetry must do, and the values that travel between it and the log's calls.

Data flows one way: `log.push_telemetry` → `service.py` → `TelemetryBackend` → plan → store. Its methods are plans.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from ..plan.effects import Plan
from .sample import Kept, Posted

CALL_MEMORY_MS = 600_000
"""How long a push is remembered that was not given a key, so that a lost reply adds nothing twice."""


class Push(NamedTuple):
    """Samples for the ring of a run. `capacity` is the run's own from now on, None if it is not spoken of."""

    run_id: str
    samples: Sequence[Posted]
    capacity: int | None = None
    key: str | None = None


class Added(NamedTuple):
    """What a push has added. A `duplicate` added nothing: these are the samples of the first push under its key."""

    samples: list[Kept]
    duplicate: bool = False


Refusal = Literal["unknown", "disabled", "over"]
"""Why nothing was kept: the run has neither an event nor a ring; it keeps no samples; it ended, and had its
last event, longer ago than the grace."""


class Look(NamedTuple):
    """At most `most` samples of a run after `from_seq`, those of one stage if it is named."""

    run_id: str
    from_seq: int
    most: int
    stage_name: str | None = None


class Stretch(NamedTuple):
    """What a look found. `next_seq` is where to go on; `missed` samples after `from_seq` are gone; `capacity` is None
    where there is no ring and the run was given none. `complete` says that nothing more is there to be seen now.
    """

    samples: list[Kept]
    next_seq: int
    missed: int
    capacity: int | None
    complete: bool


class TelemetryBackend(Protocol):
    """Guarantees every backend gives. All methods are plans (see `plan.py`).

    `seq` is dense and given at the push, in one step for all of its samples. A ring never holds more than its capacity,
    the oldest goes first. It is gone when the log's age limit has passed since its last sample, when the run has
    ended and the grace has passed since its newest event, and when the log is cleared. A run is known while it has a
    visible event or a ring, and as long it has the capacity that it was given.
    """

    name: str
    capacity: int

    def push(self, push: Push) -> Plan[Added | Refusal]:
        """Add samples to a ring, all in one step; the answer has them with their places.

        A push may be repeated inside (a lost reply), and under its key by the caller, without adding anything twice:
        the answer has what the first stored. Of what the ring has let go since, only places are known: those samples
        have no data, and the time of the push.
        """

    def look(self, look: Look) -> Plan[Stretch | None]:
        """A bounded stretch of a ring; None if the run is not known. Writes nothing."""
