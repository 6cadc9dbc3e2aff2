"""One follower's bounded buffer of what the hub has read, and the backend a follower's `Tail` sees. No I/O."""

from collections import deque
from collections.abc import Callable

from ..log.protocol import Backend
from ..model.events import Event
from ..model.ids import EventId
from ..plan.effects import Park, Plan


class Topic:
    """One workspace's log as the hub follows it: `tail` is the last position handed to the subscriptions."""

    def __init__(self, workspace: str, backend: Backend) -> None:
        self.workspace = workspace
        self.backend = backend
        self.tail: EventId | None = None
        self.epoch: str | None = None
        self.checked_at = 0.0
        self.subscriptions: set[Subscription] = set()

    def publish(self, events: list[Event]) -> None:
        """Hand one stretch of the log to every subscription. The list is shared: nobody changes it."""
        self.tail = events[-1].position
        for subscription in self.subscriptions:
            subscription.push(events)

    def unsettle(self) -> None:
        """Something about the log is not as it was: let every follower look for itself."""
        for subscription in self.subscriptions:
            subscription.break_off()


class Subscription:
    """Stretches of the log that wait for one follower, at most `bound` events (a single stretch may be larger).

    On overflow all of them are dropped: the follower goes back to reading the log, which has them still.
    """

    def __init__(self, topic: Topic, bound: int, attach: Callable[["Subscription", EventId], None]) -> None:
        self.topic = topic
        self.overflows = 0
        self._bound = bound
        self._attach = attach
        self._stretches: deque[list[Event]] = deque()
        self._buffered = 0
        self._broken = False
        self._reread_from: EventId | None = None
        self._wake: Callable[[], None] | None = None

    def push(self, events: list[Event]) -> None:
        """Take a stretch, or give up the buffer if there is no room."""
        if self._broken:
            return
        if self._stretches and self._buffered + len(events) > self._bound:
            self.overflows += 1
            self.break_off()
            return
        self._stretches.append(events)
        self._buffered += len(events)
        self._ring()

    def break_off(self) -> None:
        """Drop what is buffered; the follower is told to read the log."""
        self._stretches.clear()
        self._buffered = 0
        self._broken = True
        self._ring()

    def _ring(self) -> None:
        if self._wake is not None:
            self._wake()

    def wait(self, after: EventId, timeout_s: float) -> Plan[list[Event] | None]:
        """What follows `after`; None if nothing came, an empty list if the log must be read."""
        if self not in self.topic.subscriptions:
            self._attach(self, after)
        if self._told_to_read():
            return []
        if not self._stretches:
            if not self._in_step(after):
                return []
            yield Park(self._subscribe, timeout_s)
            if self._told_to_read():
                return []
        return self._take(after)

    def _told_to_read(self) -> bool:
        broken, self._broken = self._broken, False
        return broken

    def _in_step(self, after: EventId) -> bool:
        """False if the hub has handed out more than this follower has seen: those events are only in the log."""
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
        if self._stretches or self._broken:
            wake()

        def unsubscribe() -> None:
            self._wake = None

        return unsubscribe

    def _take(self, after: EventId) -> list[Event] | None:
        stretches = list(self._stretches)
        self._stretches.clear()
        self._buffered = 0
        if not stretches:
            return None
        if len(stretches) == 1 and stretches[0][0].offset == after.offset + 1:
            return stretches[0]
        # What was read from the log meanwhile is not handed out again.
        fresh = [event for stretch in stretches for event in stretch if event.position > after]
        return fresh or None


class Subscribed:
    """A `LogReader` whose waiting is done on the hub's buffer in place of a connection."""

    def __init__(self, subscription: Subscription) -> None:
        backend = subscription.topic.backend
        self.read = backend.read
        self.run = backend.run
        self.wait = subscription.wait
