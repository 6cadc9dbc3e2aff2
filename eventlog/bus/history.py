"""The newest events of a bus, in order, with nothing missing between them. Not thread-safe."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from ..model.events import Event
from ..model.ids import ZERO, EventId

Positioned = tuple[EventId, Event]
"""An event and where it stands in its source: its id in a log, the number of its emission on a bus without a log."""


class History:
    """At most `bound` events. `start` is the position that the oldest of them follows, `last` that of the newest."""

    def __init__(self, bound: int, start: EventId = ZERO) -> None:
        self.start = self.last = start
        self._bound = bound
        self._events: deque[Positioned] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Positioned]:
        return iter(self._events)

    def add(self, position: EventId, event: Event) -> None:
        """Take the event that follows `last`. The oldest stay until `evict`."""
        added = ((position, event),)
        # No call in between, after which an interrupt might leave one without the other.
        self._events += added
        self.last = position

    def evict(self) -> Iterator[Positioned]:
        """Let go of what is over the bound, oldest first; each event is given while it is still there."""
        while len(self._events) > self._bound:
            yield self._events[0]
            self.start = self._events[0][0]
            del self._events[0]

    def after(self, position: EventId, count: int) -> list[Positioned] | None:
        """At most `count` of the events that follow `position`; None if what follows it is not (all) here."""
        if position >= self.last:
            return []
        index = position.offset - self.start.offset
        if not 0 <= index < len(self._events):
            return None
        # Offsets repeat in a log that was lost or went back to an older state, ids do not.
        known = self._events[index - 1][0] if index else self.start
        return list(islice(self._events, index, index + count)) if known == position else None
