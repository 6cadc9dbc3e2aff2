"""A page of a log, and a checked request for one. Pure."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidInput
from .events import Event
from .filters import EventFilter
from .ids import MAX_COUNTER, Cursor, parse_cursor
from .log_values import Gap, LogState
from .numbers import checked_integer, checked_seconds
from .texts import plain

MAX_PAGE = 1000


DEFAULT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Events of one read. Pass `cursor` as `since` to go on (as `until` if the page was descending).

    `gap` is what lies between the cursor that was given and the first event that is still there. `at_end` is
    True if nothing more was to be read when the page was made. A filtered page may be short, even empty, before
    the end is reached: `cursor` moves on all the same. `state` is None on a page that came through a server.
    """

    events: list[Event]
    cursor: str
    gap: Gap | None
    at_end: bool
    epoch: str
    state: LogState | None = None

    def to_dict(self) -> dict[str, Any]:
        """The wire form."""
        return {
            "events": [event.to_dict() for event in self.events],
            "cursor": self.cursor,
            "gap": None if self.gap is None else self.gap.to_dict(),
            "at_end": self.at_end,
            "epoch": self.epoch,
        }


class PageRequest(NamedTuple):
    """A checked request for a page."""

    since: Cursor | None
    until: Cursor | None
    limit: int
    wanted: EventFilter
    descending: bool
    from_ms: int
    epoch: str | None

    @classmethod
    def of(
        cls,
        since: object = None,
        until: object = None,
        limit: int | None = None,
        wanted: EventFilter | None = None,
        *,
        order: str = "asc",
        since_time: float | None = None,
        epoch: str | None = None,
        largest: int = MAX_PAGE,
    ) -> "PageRequest":
        """Check the parts; raises `InvalidInput` naming the field that is wrong."""
        if limit is None:
            limit = DEFAULT_PAGE
        checked_integer("limit", limit, 0, largest)
        if order not in ("asc", "desc"):
            raise InvalidInput("order", f"{order!r} is neither asc nor desc")
        if epoch is not None and not isinstance(epoch, str):
            raise InvalidInput("epoch", f"{epoch!r} is not a string")
        return cls(
            parse_cursor(since),
            parse_cursor(until, "until"),
            limit,
            wanted or EventFilter(),
            order == "desc",
            _milliseconds(since_time),
            None if epoch is None else plain(epoch),
        )


def _milliseconds(since_time: object) -> int:
    if since_time is None:
        return 0
    seconds = checked_seconds("since_time", since_time, 0, MAX_COUNTER / 1000)
    # Rounded up, for an event just before the instant is not since it; the epsilon undoes float noise.
    return max(0, -int(-(seconds * 1000 - 1e-4) // 1))
