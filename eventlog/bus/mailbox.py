"""What waits for one subscriber: a bounded queue, and the runs' ends that must reach it whatever becomes of the source.

No I/O and no lock: the bus calls it with its own lock held.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import FellBehind
from ..model.events import Event
from ..model.ids import EventId
from ..model.log_values import Gap
from .history import Positioned
from .selection import Selection


class Backlog(NamedTuple):
    """What was read of the source: what is gone, the events that are there, and the position up to which that is all.

    `live`: nothing lies between `reached` and what is published next. `final`: nothing will ever follow.
    """

    gap: Gap | None
    events: Sequence[Positioned]
    reached: EventId
    live: bool = False
    final: bool = False


class Mailbox:
    """At most `bound` events in order, each once.

    When it is full it takes no more and is *behind*: its reader gets what is queued, and then what the source still
    has of the rest, with a `Gap` that counts what it has no more. Events that end a run are kept aside before the
    source loses them, at most `bound` of them: those are always given. Over that it fails with `FellBehind`.
    """

    __slots__ = (
        "_aside",
        "_bound",
        "_selection",
        "behind",
        "closing",
        "delivered",
        "error",
        "missed",
        "over",
        "overflows",
        "position",
        "queue",
    )

    def __init__(self, selection: Selection, bound: int, position: EventId, *, behind: bool) -> None:
        self.queue: deque[Event | Gap] = deque()
        self.position = position  # all up to here is queued, passed over or reported as gone
        self.behind = behind  # what follows `position` is to be read from the source
        self.over = False  # nothing follows the queue
        self.closing = False  # nothing follows what the source has now
        self.error: BaseException | None = None
        self.delivered = self.missed = self.overflows = 0
        self._selection = selection
        self._bound = bound
        self._aside: list[Positioned] = []

    @property
    def room(self) -> int:
        """How many events the queue can take."""
        return max(0, self._bound - len(self.queue))

    def take(self) -> Event | Gap | None:
        """The next of what is queued."""
        if not self.queue:
            return None
        item = self.queue.popleft()
        if isinstance(item, Gap):
            self.missed += item.missed
        else:
            self.delivered += 1
        return item

    def push(self, before: EventId, position: EventId, event: Event) -> bool:
        """Take a published event, which follows `before`. True if the reader has something to do."""
        if self.over or self.behind:
            return False
        joins = self.position is before or self.position == before
        if not joins and position <= self.position:
            return False  # it was read before it was published
        wanted = joins and self._selection.wants(event)
        if not joins or (wanted and len(self.queue) >= self._bound):
            self.overflows += 1
            self.behind = True
            return True
        ends = event.is_terminal and self._selection.ends(event)
        items = (event,) if wanted else ()
        # From here on no call, after which an interrupt might leave one without the other.
        self.queue += items
        self.position = position
        self.over = ends
        return wanted or ends

    def keep(self, position: EventId, event: Event, *, surely: bool) -> None:
        """Keep an event that ends a run aside, for the source is about to lose it.

        Where there is no room for it the mailbox fails, unless it need not be kept `surely`.
        """
        ends = self._selection.ends(event)
        if self.over or position <= self.position or not (ends or self._selection.wants(event)):
            return
        aside = self._aside = [kept for kept in self._aside if kept[0] > self.position]
        if any(known == position or (ends and self._selection.ends(end)) for known, end in aside):
            return
        if len(aside) < self._bound:
            self._aside.append((position, event))
        elif surely:
            self.fail(
                FellBehind(f"the subscriber read nothing while more than {self._bound} runs ended; subscribe again")
            )

    def read(self, backlog: Backlog, recent_ends: Iterable[Positioned] = ()) -> None:
        """Take what the source has behind `position`.

        `recent_ends` are ends of runs that the bus has in memory, which the source may have lost.
        """
        if self.over or not self.behind:
            return
        there = {position for position, _ in backlog.events}
        saved = {
            position: event
            for position, event in (*self._aside, *recent_ends)
            if self.position < position <= backlog.reached and position not in there and self._concerns(event)
        }
        gap = backlog.gap and _without(backlog.gap, len(saved))
        events, ends = self._wanted(
            sorted((*saved.items(), *backlog.events), key=_position) if saved else backlog.events
        )
        items = events if gap is None else [gap, *events]
        aside = [kept for kept in self._aside if kept[0] > backlog.reached]
        _, _, reached, live, final = backlog
        # From here on no call, after which an interrupt might leave one without the other.
        self.queue += items
        self.position, self._aside, self.behind = reached, aside, not live
        self.over = ends or final or (live and self.closing)

    def _wanted(self, there: Iterable[Positioned]) -> tuple[list[Event | Gap], bool]:
        """The events that are wanted, to the one that ends it; and whether there is such a one."""
        wanted: list[Event | Gap] = []
        for _, event in there:
            if self._selection.wants(event):
                wanted.append(event)
            if event.is_terminal and self._selection.ends(event):
                return wanted, True
        return wanted, False

    def _concerns(self, event: Event) -> bool:
        return self._selection.ends(event) or self._selection.wants(event)

    def end_with(self, event: Event | None) -> None:
        """The run asked for has ended before: with this event, if that is to be given."""
        if event is not None and self._selection.wants(event):
            self.queue.append(event)
        self.over = True

    def close(self) -> None:
        """Nothing is published any more: the reader gets what is queued and what the source has, then the end."""
        self.closing = True
        self.over = self.over or not self.behind

    def fail(self, error: BaseException) -> None:
        """Give nothing behind the queue but `error`."""
        if not self.over:
            self.error = error
            self.over = True

    def drop(self) -> None:
        """Give nothing any more."""
        self.queue.clear()
        self._aside.clear()
        self.error = None
        self.over = True


def _without(gap: Gap, saved: int) -> Gap | None:
    """The gap without the events that were kept aside; None if those are all of it."""
    if gap.reason != "trimmed" or not saved:
        return gap
    return gap._replace(missed=gap.missed - saved) if gap.missed > saved else None


def _position(positioned: Positioned) -> EventId:
    return positioned[0]
