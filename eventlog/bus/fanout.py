"""Who subscribes to a bus, and handing events round to them. Keeps no subscription alive."""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..model.events import Event
from .subscription import Subscription, Tally

S = TypeVar("S", bound=Subscription[Any])


@dataclass(slots=True)
class BusStats:
    """Counters since the bus was made.

    `emitted` events were taken; `refused` ones were not, for their content. `delivered` were handed to readers,
    `missed` could no longer be given to one, `overflows` counts how often a subscriber fell behind.
    """

    emitted: int = 0
    refused: int = 0
    delivered: int = 0
    missed: int = 0
    overflows: int = 0
    subscribers: int = 0


class Fanout(Generic[S]):
    """The subscriptions of a bus. Everything but `discard` is called with `lock` held.

    A subscription that its owner drops may be collected at any moment, in the middle of handing round too: then it is
    only noted, and struck off later. One that is behind is handed only ends of runs until it is `resumed`.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._active: dict[int, weakref.ref[S]] = {}
        self._subscriptions: dict[int, tuple[weakref.ref[S], Tally]] = {}
        self._gone: deque[int] = deque()
        self._past = BusStats()

    def __len__(self) -> int:
        self._strike_off()
        return len(self._subscriptions)

    def __iter__(self) -> Iterator[S]:
        self._strike_off()
        for reference, _ in list(self._subscriptions.values()):
            subscription = reference()
            if subscription is not None:
                yield subscription

    def add(self, subscription: S) -> None:
        """Hand events to it from now on."""
        self._strike_off()
        token = id(subscription)
        gone = self._gone

        def note(_: object) -> None:
            gone.append(token)

        reference = weakref.ref(subscription, note)
        self._subscriptions[token] = (reference, subscription.tally)
        self._active[token] = reference

    def resume(self, subscription: S) -> None:
        """Hand all events to it again, if it can take them."""
        known = self._subscriptions.get(id(subscription))
        if known is not None and not subscription.rests:
            self._active[id(subscription)] = known[0]

    def discard(self, subscription: S) -> None:
        """Hand no more to it. Takes the lock."""
        with self.lock:
            self._strike_off()
            self._remove(id(subscription))

    def _strike_off(self) -> None:
        while self._gone:
            self._remove(self._gone.popleft())

    def _remove(self, token: int) -> None:
        self._active.pop(token, None)
        known = self._subscriptions.pop(token, None)
        if known is not None:
            _add(self._past, known[1])

    def push(self, before: Any, place: Any, event: Event, woken: set[S]) -> None:
        """Hand one event round; those whose readers may go on are added to `woken`, to be woken without the lock."""
        if self._gone:
            self._strike_off()
        if event.is_terminal:
            self._active = {token: reference for token, (reference, _) in self._subscriptions.items()}
        resting = []
        for token, reference in self._active.items():
            subscription = reference()
            if subscription is None:
                continue
            if subscription.push(before, place, event):
                woken.add(subscription)
            if subscription.rests:
                resting.append(token)
        for token in resting:
            del self._active[token]

    def stats(self, emitted: int, refused: int) -> BusStats:
        """The counters of those who are there and of those who were."""
        self._strike_off()
        stats = BusStats(emitted, refused, self._past.delivered, self._past.missed, self._past.overflows)
        for _, tally in self._subscriptions.values():
            _add(stats, tally)
        stats.subscribers = len(self._subscriptions)
        return stats


def _add(stats: BusStats, tally: Tally) -> None:
    stats.delivered += tally.delivered
    stats.missed += tally.missed
    stats.overflows += tally.overflows
