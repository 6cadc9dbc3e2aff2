"""A bus within this process: events are numbered, kept and handed round under one lock."""

from collections.abc import Callable

from ..errors import LogClosed
from ..model.events import Body, Event
from ..model.log_values import Gap
from .bells import LoopBells
from .fanout import BusStats, Fanout
from .history import History
from .mailbox import Mailbox
from .selection import Selection
from .subscription import Subscription


class LocalBus:
    """The source of subscriptions of an unbound `EventBus`. A subscription that is behind reads the history."""

    def __init__(self, max_queue_size: int, max_history: int, clock: Callable[[], float]) -> None:
        self.bells = LoopBells()
        self._bound = max_queue_size
        self._fanout: Fanout[Subscription[int]] = Fanout()
        self._history = History(max_history, clock)
        self._closed = False

    def emit(self, given: Event | Body) -> Event:
        """Keep the event and hand it round; it is queued for everybody when this returns. Raises `LogClosed`."""
        woken: set[Subscription[int]] = set()
        with self._fanout.lock:
            if self._closed:
                raise LogClosed("the bus was closed")
            before = self._history.last
            event = self._history.add(given)
            try:
                self._fanout.push(before, before + 1, event, woken)
                for number, lost in self._history.evict():
                    if lost.is_terminal:
                        for subscription in self._fanout:
                            subscription.keep(number, lost, surely=True)
            except BaseException:
                # Interrupted half way: those who were not reached yet will find it in the history.
                for subscription in self._fanout:
                    subscription.break_off()
                raise
        for subscription in woken:
            subscription.wake()
        return event.unshared()

    def subscribe(self, selection: Selection, on_gap: Callable[[Gap], None] | None, replay: bool) -> Subscription[int]:
        """See `EventBus.subscribe`."""
        with self._fanout.lock:
            history = self._history
            upto = history.last - (len(history) if replay else 0)
            mailbox = Mailbox(selection, self._bound, upto, behind=upto < history.last, keeps=False)
            end = history.end_of(selection.run_id)
            if end is not None and (not replay or end[0] <= upto):
                mailbox.end_with(end[1] if replay else None)
            subscription = Subscription(self, mailbox, on_gap, started=True)
            if self._closed:
                subscription.finish()
            else:
                self._fanout.add(subscription)
        subscription.read_ahead()
        return subscription

    def refill(self, subscription: Subscription[int]) -> None:
        """See `Source.refill`: at once."""
        with self._fanout.lock:
            here = self._history.last
            subscription.read(self._history.after(subscription.begin_reading(here), self._bound))
            self._fanout.resume(subscription)

    def discard(self, subscription: Subscription[int]) -> None:
        """See `Source.discard`."""
        self._fanout.discard(subscription)

    def history(self) -> list[Event]:
        """What is kept, in order."""
        with self._fanout.lock:
            return [event.unshared() for event in self._history]

    @property
    def history_size(self) -> int:
        """How many events are kept."""
        return len(self._history)

    @property
    def subscriber_count(self) -> int:
        """How many subscribe."""
        with self._fanout.lock:
            return len(self._fanout)

    def stats(self, emitted: int, refused: int) -> BusStats:
        """See `EventBus.stats`."""
        with self._fanout.lock:
            return self._fanout.stats(emitted, refused)

    def start_over(self) -> None:
        """In a forked child: with the history, without the parent's subscribers."""
        self.bells = LoopBells()
        fanout, self._fanout = self._fanout, Fanout()
        for subscription in fanout:
            subscription.start_over()

    def close(self) -> None:
        """Take nothing any more. Subscribers end when they have been given what there is. Idempotent."""
        with self._fanout.lock:
            self._closed = True
            for subscription in self._fanout:
                subscription.finish()
