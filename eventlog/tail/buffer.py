"""One follower's bounded buffer of what the hub has read, and a log as its `Tail` reads it. No I/O."""

from collections import deque
from collections.abc import Callable

from ..log.protocol import Backend
from ..model.events import Event
from ..model.ids import EventId
from ..plan.effects import Park, Plan


class Topic:
    """One workspace's log as the hub follows it: `tail` is the last position published to the buffers."""

    def __init__(self, workspace: str, backend: Backend) -> None:
        self.workspace = workspace
        self.backend = backend
        self.tail: EventId | None = None
        self.epoch: str | None = None
        self.checked_at = 0.0
        self.buffers: set[Buffer] = set()

    def publish(self, events: list[Event]) -> None:
        """Give a batch of the log to every buffer. The list is shared: nobody changes it."""
        self.tail = events[-1].position
        for buffer in self.buffers:
            buffer.push(events)

    def wake(self) -> None:
        """Have every follower look around, though there is nothing new."""
        for buffer in self.buffers:
            buffer.notify()

    def break_off(self) -> None:
        """Something is missing before what comes next: what that is, each follower reads from the log."""
        for buffer in self.buffers:
            buffer.break_off()


class Buffer:
    """Batches of the log that wait for one follower, at most `bound` events (a single batch may be larger).

    On overflow all of them are dropped: the follower goes back to reading the log, which has them still. To the
    follower's `Tail` it is a `LogReader` that reads as the topic's backend does, and waits at this buffer.
    """

    def __init__(self, topic: Topic, bound: int, attach: Callable[["Buffer", EventId], None]) -> None:
        self.topic = topic
        self.read = topic.backend.read
        self.run = topic.backend.run
        self.overflows = 0
        self._bound = bound
        self._attach = attach
        self._batches: deque[list[Event]] = deque()
        self._buffered = 0
        self._broken = False
        self._reread_from: EventId | None = None
        self._wake: Callable[[], None] | None = None

    def push(self, events: list[Event]) -> None:
        """Take a batch, or give up the buffer if there is no room."""
        if self._broken:
            return
        if self._batches and self._buffered + len(events) > self._bound:
            self.overflows += 1
            self.break_off()
            return
        self._batches.append(events)
        self._buffered += len(events)
        self.notify()

    def break_off(self) -> None:
        """Drop what is buffered; the follower reads the log next."""
        self._batches.clear()
        self._buffered = 0
        self._broken = True
        self.notify()

    def notify(self) -> None:
        """End the follower's wait."""
        if self._wake is not None:
            self._wake()

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """What follows `after`; None if nothing came, an empty list if the log must be read."""
        if self not in self.topic.buffers:
            self._attach(self, after)
        if self._must_read():
            return []
        if not self._batches:
            if not self._in_step(after):
                return []
            yield Park(self._subscribe, timeout_s)
            if self._must_read():
                return []
        return self._take(after)

    def _must_read(self) -> bool:
        broken, self._broken = self._broken, False
        return broken

    def _in_step(self, after: EventId) -> bool:
        """False if the hub has published more than this follower has seen: those events are only in the log."""
        tail = self.topic.tail
        if tail is None or tail.offset <= after.offset:
            self._reread_from = None
            return True
        if self._reread_from == after:
            # The log was read and ends here all the same: it was lost or rolled back, and the hub must follow.
            self._reread_from = None
            self._attach(self, after)
            return True
        self._reread_from = after
        return False

    def _subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wake = wake
        if self._batches or self._broken:
            wake()

        def unsubscribe() -> None:
            self._wake = None

        return unsubscribe

    def _take(self, after: EventId) -> list[Event] | None:
        batches = list(self._batches)
        self._batches.clear()
        self._buffered = 0
        if not batches:
            return None
        if len(batches) == 1 and batches[0][0].offset == after.offset + 1:
            return batches[0]
        # What was read from the log meanwhile is not given again.
        fresh = [event for batch in batches for event in batch if event.position > after]
        return fresh or None
