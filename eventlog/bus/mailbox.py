"""What waits for one subscriber: a bounded queue, and what it must read of the source once the queue was full.

No I/O and no lock: whoever owns a mailbox calls it from one thread at a time. A *place* is where an event stands in
its source: the number of the emission on a bus of its own, the id in a log. Places only need an order.
"""

from collections import deque
from collections.abc import Iterable
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from ..errors import FellBehind
from ..model.events import Event
from ..model.log_values import Gap
from .selection import Selection


class Place(Protocol):
    """Where an event stands in its source."""

    def __lt__(self, other: Self, /) -> bool: ...

    def __le__(self, other: Self, /) -> bool: ...


P = TypeVar("P", bound=Place)
Placed = tuple[P, Event]


class Stretch(NamedTuple, Generic[P]):
    """What was read of the source: what is gone, the events that are there, and the place up to which that is all.

    `at_end`: nothing followed when it was read. `over`: the run asked for has ended, and its end is gone.
    """

    gap: Gap | None
    events: list[tuple[P, Event]]
    reached: P
    at_end: bool
    over: bool = False


class Mailbox(Generic[P]):
    """At most `bound` events in order, each once.

    When it is full it takes no more and is *behind*: its reader gets what is queued, and then what the source still
    has of the rest, with a `Gap` that counts what it has no more. Of that, events that end a run are kept aside, at
    most `bound` of them: those are always given. Over that it fails with `FellBehind`.
    """

    __slots__ = (
        "_aside",
        "_bound",
        "_joined",
        "_joined_from",
        "_joining",
        "_keeps",
        "_selection",
        "behind",
        "closing",
        "error",
        "over",
        "overflows",
        "queue",
        "upto",
    )

    def __init__(self, selection: Selection, bound: int, upto: P, *, behind: bool, keeps: bool) -> None:
        """With `keeps`, ends of runs are kept aside as they pass; without, the source says which it is to lose."""
        self.queue: deque[Event | Gap] = deque()
        self.upto = upto  # all up to here is queued, passed over or told as gone
        self.behind = behind  # what follows `upto` is to be read from the source
        self.over = False  # nothing follows the queue
        self.closing = False  # nothing follows what the source has now
        self.error: BaseException | None = None
        self.overflows = 0
        self._selection = selection
        self._bound = bound
        self._keeps = keeps
        self._aside: list[tuple[P, Event]] = []
        self._joining: list[tuple[P, Event]] | None = None
        self._joined = self._joined_from = upto

    @property
    def rests(self) -> bool:
        """True if of what is handed round only ends of runs concern it: it is behind, and nobody reads for it now."""
        return self.behind and self._joining is None

    def push(self, before: P, place: P, event: Event) -> bool:
        """Take the event that stands at `place`, with nothing between that and `before`. True if a reader may go on."""
        if self.over:
            return False
        if self.behind:
            return self._pass(before, place, event)
        if place <= self.upto:
            return False  # it was read before it was handed round
        if self.upto != before or (len(self.queue) >= self._bound and self._selection.wants(event)):
            # Full, or it does not join what was read: the source was lost, or went back, between the two.
            self._fall_behind()
            self._pass(before, place, event)
            return True
        self.upto = place
        if event.is_terminal and self._aside:
            self._aside = [placed for placed in self._aside if place < placed[0]]
        return self._put(event)

    def _put(self, event: Event) -> bool:
        selection = self._selection
        wanted = selection.wants(event)
        if wanted:
            self.queue.append(event)
        if event.is_terminal and selection.ends(event):
            self.over = True
        return wanted or self.over

    def _fall_behind(self) -> None:
        self.overflows += 1
        self.break_off()

    def break_off(self) -> None:
        """Have what follows read from the source: it may not be what was handed round. The queue stays."""
        self.behind = not self.over
        self._joining = None

    def _pass(self, before: P, place: P, event: Event) -> bool:
        """An event that cannot be queued now: joined to what is being read, and kept aside if it ends a run."""
        joining = self._joining
        if joining is not None:
            if len(joining) >= self._bound or self._joined < before:
                self._joining = None
            else:
                joining.append((place, event))
                self._joined = place
        return self._keeps and event.is_terminal and self.keep(place, event)

    def keep(self, place: P, event: Event, *, surely: bool = True) -> bool:
        """Keep an event that ends a run aside: it is given when its turn comes, whatever becomes of it in the source.

        Where there is no room for it the mailbox fails, unless it need not be kept `surely`. True if it failed.
        """
        selection, aside = self._selection, self._aside
        ends = selection.ends(event)
        if self.over or place <= self.upto or not (ends or selection.wants(event)):
            return False
        if any(known == place or (ends and selection.ends(end)) for known, end in aside):
            return False
        if len(aside) < self._bound:
            aside.append((place, event))
        elif surely:
            self.fail(
                FellBehind(f"the subscriber read nothing while more than {self._bound} runs ended; subscribe again")
            )
        return self.over

    def begin_reading(self, here: P) -> None:
        """The source is about to be read from `upto` on; what is handed round from now on, behind `here`, may join."""
        self._joining = []
        self._joined = self._joined_from = here

    def read(self, stretch: Stretch[P]) -> None:
        """Take what the source had behind `upto`."""
        if self.over or not self.behind:
            return
        kept = [placed for placed in self._aside if placed[0] <= stretch.reached]
        self._aside = [placed for placed in self._aside if not placed[0] <= stretch.reached]
        there = {place for place, _ in stretch.events}
        saved = [placed for placed in kept if placed[0] not in there]
        gap = stretch.gap and _without(stretch.gap, saved)
        if gap is not None:
            self.queue.append(gap)
        self.upto = stretch.reached
        self._put_all(sorted([*saved, *stretch.events], key=_place) if saved else stretch.events)
        joining, self._joining = self._joining, None
        if stretch.at_end and joining is not None and not stretch.reached < self._joined_from:
            self._join([placed for placed in joining if not placed[0] <= stretch.reached])
        if stretch.over or (stretch.at_end and self.closing):
            self.over = True

    def _join(self, joining: list[tuple[P, Event]]) -> None:
        """Go on with what was handed round while the source was read, if there is room for that."""
        if self.over or len(self.queue) + len(joining) > self._bound:
            return
        self.behind = False
        self._put_all(joining)
        if self.upto < self._joined:
            self.upto = self._joined
        self._aside = [placed for placed in self._aside if self.upto < placed[0]]

    def _put_all(self, placed: Iterable[tuple[P, Event]]) -> None:
        for _, event in placed:
            if self.over:
                return
            self._put(event)

    def end_with(self, event: Event | None) -> None:
        """The run asked for has ended before: with this event, if that is to be given."""
        if event is not None:
            self._put(event)
        self.over = True

    def close(self) -> None:
        """Nothing is handed round any more: the reader gets what is queued and what the source has, then the end."""
        self.closing = True
        self.over = self.over or not self.behind

    def fail(self, error: BaseException) -> None:
        """Nothing is given behind the queue but `error`."""
        if not self.over:
            self.error = error
            self.over = True

    def drop(self) -> None:
        """Give nothing any more."""
        self.queue.clear()
        self._aside.clear()
        self._joining = None
        self.error = None
        self.over = True


def _without(gap: Gap, saved: list[tuple[P, Event]]) -> Gap | None:
    """The gap without the events that were kept aside; None if those are all of it."""
    if gap.reason != "trimmed" or not saved:
        return gap
    missed = gap.missed - len(saved)
    return gap._replace(missed=missed) if missed > 0 else None


def _place(placed: tuple[P, Event]) -> P:
    return placed[0]
