"""What every bus has: its subscriptions, its newest events, and publishing an event to all mailboxes at once."""

import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ..model.events import Event
from ..model.ids import EventId
from ..plan.threads import Flag
from .history import History
from .mailbox import Backlog, Mailbox
from .subscription import Subscription, Waiter, waking

S = TypeVar("S", bound=Subscription)


@dataclass(slots=True)
class BusStats:
    """Counters since the bus was made.

    `emitted` events were taken; `refused` ones were not, for their content. `delivered` were given to readers,
    `missed` could no longer be given to one, `overflows` counts how often a subscriber fell behind.
    """

    emitted: int = 0
    refused: int = 0
    delivered: int = 0
    missed: int = 0
    overflows: int = 0
    subscribers: int = 0

    def add(self, mailbox: Mailbox) -> None:
        """Count what one mailbox did."""
        self.delivered += mailbox.delivered
        self.missed += mailbox.missed
        self.overflows += mailbox.overflows


class Fanout(ABC, Generic[S]):
    """Keeps no subscription alive: one that its owner drops is collected at any moment, in the middle of a publication
    too. Then it is only noted, and removed later.

    One lock guards all of it, mailboxes included. A signal handler that interrupts its owner may enter again, but
    publishes nothing then. Methods that say so are called with the lock held; they collect the readers that can go on
    in `woken`, for `wake` when the lock is free. Mailboxes that are behind are skipped when an event is published.
    """

    history: History

    def __init__(self) -> None:
        self.ready = Flag(is_set=True)  # not set while a subscription may still miss what is published
        self._without_subscriptions()

    def _without_subscriptions(self) -> None:
        self.lock = threading.RLock()
        self._subscriptions: dict[int, tuple[weakref.ref[S], Mailbox]] = {}
        self._live: dict[int, weakref.ref[S]] = {}
        self._dropped: deque[int] = deque()
        self._past = BusStats()

    # With the lock held.

    def __iter__(self) -> Iterator[S]:
        self._remove_dropped()
        for reference, _ in list(self._subscriptions.values()):
            subscription = reference()
            if subscription is not None:
                yield subscription

    def add(self, subscription: S) -> None:
        """Publish to it from now on."""
        self._remove_dropped()
        token, dropped = id(subscription), self._dropped
        reference = weakref.ref(subscription, lambda _: dropped.append(token))
        self._subscriptions[token] = (reference, subscription.mailbox)
        self._live[token] = reference

    def _remove_dropped(self) -> None:
        while self._dropped:
            self._remove(self._dropped.popleft())

    def _remove(self, token: int) -> None:
        self._live.pop(token, None)
        _, mailbox = self._subscriptions.pop(token, (None, None))
        if mailbox is not None:
            self._past.add(mailbox)

    def publish(self, position: EventId, event: Event, woken: list[Waiter]) -> None:
        """Give the event that follows all others to every mailbox that is not behind, and keep it."""
        history = self.history
        before = history.last
        try:
            history.add(position, event)
            behind = []
            for token, reference in list(self._live.items()):
                subscription = reference()
                if subscription is None:
                    continue
                mailbox = subscription.mailbox
                if mailbox.push(before, position, event) and subscription.waiters:
                    subscription.release(woken)
                if mailbox.behind:
                    behind.append(token)
            for token in behind:
                self._live.pop(token, None)
            for lost in history.evict():
                self.keep(*lost, woken)
        except BaseException:
            # Interrupted half way: those that were not reached yet read it from the history.
            for subscription in self:
                subscription.mailbox.behind = True
                subscription.release(woken)
            raise
        if self._dropped:
            self._remove_dropped()

    def keep(self, position: EventId, event: Event, woken: list[Waiter], *, surely: bool = True) -> None:
        """Have those that did not come to this event yet keep it aside, if it ends a run."""
        if event.is_terminal:
            for subscription in self:
                subscription.mailbox.keep(position, event, surely=surely)
                subscription.release(woken)

    def read(self, subscription: S, backlog: Backlog) -> None:
        """Let a mailbox take what was read for it."""
        mailbox = subscription.mailbox
        mailbox.read(backlog, [kept for kept in self.history if kept[1].is_terminal] if backlog.gap is not None else ())
        known = self._subscriptions.get(id(subscription))
        if known is not None and not mailbox.behind:
            self._live[id(subscription)] = known[0]

    def read_history(self, subscription: S) -> bool:
        """Let a mailbox that is behind take what the history has of the rest. False if that does not reach back."""
        mailbox, history = subscription.mailbox, self.history
        events = history.after(mailbox.position, mailbox.room)
        if events is None:
            return False
        reached = events[-1][0] if events else mailbox.position
        self.read(subscription, Backlog(None, events, reached, live=reached >= history.last))
        return True

    # Without it.

    @abstractmethod
    def refill(self, subscription: Any) -> None:
        """Have what the source holds read for this mailbox, which is behind; at once, or soon."""

    def discard(self, subscription: Any) -> None:
        """The subscription is over."""
        waking(partial(self._discard, subscription))

    def _discard(self, subscription: Any, woken: list[Waiter]) -> None:
        with self.lock:
            subscription.mailbox.drop()
            subscription.release(woken)
            self._remove_dropped()
            self._remove(id(subscription))

    @property
    def subscriber_count(self) -> int:
        """How many subscribe to this object."""
        with self.lock:
            self._remove_dropped()
            return len(self._subscriptions)

    def stats(self, emitted: int, refused: int) -> BusStats:
        """The counters of the subscriptions that are there and of those that were."""
        with self.lock:
            self._remove_dropped()
            past = self._past
            stats = BusStats(emitted, refused, past.delivered, past.missed, past.overflows, len(self._subscriptions))
            for _, mailbox in self._subscriptions.values():
                stats.add(mailbox)
            return stats

    def start_over(self) -> None:
        """In a forked child: threads of the parent may hold the lock, and its subscriptions are not the child's."""
        inherited = list(self._subscriptions.values())
        self._without_subscriptions()
        self.ready.set()
        for reference, mailbox in inherited:
            mailbox.drop()
            subscription = reference()
            if subscription is not None:
                subscription.waiters.clear()
