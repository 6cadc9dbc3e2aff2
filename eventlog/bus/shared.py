"""A bus over a shared log: a follower reads the log as it grows and publishes it to the subscriptions of this process.

The port carries the follower out: on a thread over an `EventLog`, as a task over an `AsyncEventLog`. It runs while
somebody subscribes. For a subscription that is behind `catch_up.py` reads the log.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Unpack

from ..errors import LogClosed
from ..log.awaited import AsyncEventLog
from ..log.blocking import EventLog
from ..log.reading import Tail
from ..model.events import Body, Event
from ..model.filters import EventFilter, Filters
from ..model.ids import ZERO, EventId
from ..model.log_values import Gap
from ..plan.effects import Plan
from ..plan.threads import Waiters
from .catch_up import CatchUp, LogSubscription, position_of
from .fanout import Fanout
from .history import History
from .port import Port, TaskPort, ThreadPort
from .selection import Selection
from .subscription import READY_S, Waiter, wake, waking

_FOLLOWER = "eventlog-bus-follow"
_BLOCK_S = 1.0
_UNDER_WAY_S = 10.0
_CLOSE_S = 5.0


class SharedBus(Fanout[LogSubscription]):
    """The bus of an `EventBus` over a log. The follower runs while somebody subscribes.

    `ready` is not set from the first subscription until the follower stands in the log; emissions wait for it.
    """

    def __init__(self, log: EventLog | AsyncEventLog, max_queue_size: int, patience_s: float) -> None:
        super().__init__()
        self.port: Port = ThreadPort(log, self.ready) if isinstance(log, EventLog) else TaskPort(log, self.ready)
        self._patience_s = patience_s
        self._finished = False  # all that was emitted here is published
        self._bound = max_queue_size
        self._emitted = ZERO  # the last position that was emitted here
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.history = History(self._bound)
        self._under_way: set[Future[Event]] = set()
        self.epoch: str | None = None
        self._following = False
        self._moved = Waiters()
        self._catch_up = CatchUp(self, self.port, self._bound, self._patience_s)

    def start_over(self) -> None:
        """In a forked child: without the parent's subscriptions, and without its threads."""
        super().start_over()
        self._begin()
        self.port.start_over()

    @property
    def must_not_block(self) -> bool:
        """True if `emit` would wait for Redis on an event loop."""
        return self.port.must_not_block

    def emit(self, given: Event | Body) -> Event:
        """Append, blocking, when the follower is ready, 5 s at most. Raises as the log."""
        if not self.ready.is_set() and not self.port.on_its_loop:
            self.ready.wait(READY_S)
        event = self.port.ask(self.port.core.append_body(_body(given)))
        self._emitted_here(event)
        return event

    def emit_soon(self, given: Event | Body) -> "Future[Event]":
        """Append without blocking, in the order of the calls."""
        future = self.port.append_soon(_body(given))
        self._under_way.add(future)
        future.add_done_callback(self._appended)
        return future

    def _appended(self, future: "Future[Event]") -> None:
        if not future.cancelled() and future.exception() is None:
            self._emitted_here(future.result())
        self._under_way.discard(future)
        self._moved.wake()

    def _emitted_here(self, event: Event) -> None:
        """Publish this event before the bus closes, and in any case if it ends a run."""
        if self.port.core.backend.name == "disabled":
            return  # nothing of it will ever come
        waking(partial(self._keep, event))

    def _keep(self, event: Event, woken: list[Waiter]) -> None:
        with self.lock:
            self._emitted = max(self._emitted, event.position)
            if not event.duplicate:
                self.keep(event.position, event, woken, surely=False)

    def subscribe(self, selection: Selection, on_gap: Callable[[Gap], None] | None, replay: bool) -> LogSubscription:
        """See `EventBus.subscribe`. Off event loops it returns when the follower is ready, after 5 s at most."""
        subscription = LogSubscription(self, selection, self._bound, on_gap, replay=replay)
        with self.lock:
            if self._closed:
                subscription.mailbox.behind, subscription.reading = replay, False
                subscription.mailbox.close()
                return subscription
            self.add(subscription)
            starts, self._following = not self._following, True
            if starts:
                self.ready.clear()
            reads = self.ready.is_set() and subscription.begin(self.history.last, self.epoch)
        if starts:
            try:
                self.port.spawn(self._follow, _FOLLOWER, self._follower_failed)
            except BaseException as error:
                self._follower_failed(error)
                raise
        if reads:
            self.refill(subscription)
        if not self.port.must_not_block:
            self.ready.wait(READY_S)
        return subscription

    def refill(self, subscription: LogSubscription) -> None:
        """See `Fanout.refill`: from the recent events if that is possible, else from the log, soon."""
        with self.lock:
            if not subscription.reads_log and self.read_history(subscription):
                subscription.reading = False
                return
        self._catch_up.ask(subscription)

    def _follow(self) -> Plan[None]:
        tail = Tail(self.port.core.backend, None, EventFilter(), patience_s=self._patience_s)
        while True:
            items = yield from tail.step(_BLOCK_S)
            if tail.epoch is not None or tail.caught_up:
                self._advance(items, position_of(tail.cursor), tail.epoch)
            with self.lock:
                if self._finished or all(subscription.ended for subscription in self):
                    self._end_following()
                    return

    def _advance(self, items: list[Event | Gap], after: EventId, epoch: str | None) -> None:
        """The follower has read these items, and stands at `after` now."""
        woken: list[Waiter] = []
        behind: list[LogSubscription] = []
        with self.lock:
            self.epoch = epoch
            if self.ready.is_set():
                self._publish_all(items, after, woken)
            else:
                self.history = History(self._bound, after)
                behind = [subscription for subscription in self if subscription.begin(after, epoch)]
                self.ready.set()
            self._moved.wake()
        wake(woken)
        for subscription in behind:
            self.refill(subscription)

    def _publish_all(self, items: list[Event | Gap], after: EventId, woken: list[Waiter]) -> None:
        joins = True
        for item in items:
            if isinstance(item, Gap):
                joins = False
            elif joins:
                self.publish(item.position, item, woken)
            else:
                self.keep(item.position, item, woken)
        if not joins or self.history.last != after:
            self._break_off(after, woken)

    def _break_off(self, after: EventId, woken: list[Waiter]) -> None:
        """Something is missing between what was published and `after`: each subscription asks the log what."""
        for kept in self.history:
            self.keep(*kept, woken)
        self.history = History(self._bound, after)
        for subscription in self:
            subscription.mailbox.behind = subscription.reads_log = True
            subscription.release(woken)

    def _follower_failed(self, error: BaseException) -> None:
        woken: list[Waiter] = []
        with self.lock:
            for subscription in self if not self._finished else ():
                subscription.mailbox.fail(error)
                subscription.release(woken)
            self._end_following()
        wake(woken)

    def _end_following(self) -> None:
        """Called with the lock held; the next subscription starts another follower."""
        self._following = False
        self.ready.set()
        self._moved.wake()

    def events(self, **filters: Unpack[Filters]) -> list[Event]:
        """What is resident in the log and passes the filters, in order; blocking."""
        return self.port.ask(self.port.core.query(**filters))

    async def aevents(self, **filters: Unpack[Filters]) -> list[Event]:
        """`events` for event loops."""
        return await self.port.aask(self.port.core.query(**filters))

    @property
    def history_size(self) -> int:
        """How many events are resident in the log; blocking."""
        return self.port.ask(self.port.core.info()).length

    def close(self) -> None:
        """End the subscriptions when they have what was emitted here; waits for that, bounded. Idempotent."""
        self._closed = True
        self.port.stop_taking()
        under_way = set(self._under_way)
        self._moved.wait_for(lambda: self._under_way.isdisjoint(under_way), _UNDER_WAY_S)
        published = self._moved.wait_for(self._published_all, _CLOSE_S)
        waking(partial(self._finish, published))
        self._catch_up.end()
        self.port.end(_FOLLOWER)

    def _finish(self, published: bool, woken: list[Waiter]) -> None:
        with self.lock:
            self._finished = True
            if not published:
                self._break_off(self.history.last, woken)
            for subscription in self:
                subscription.mailbox.close()
                if subscription.here is None:
                    subscription.mailbox.fail(LogClosed("the bus was closed before the log could be read"))
                subscription.release(woken)

    def _published_all(self) -> bool:
        return not self._following or (self.ready.is_set() and self.history.last >= self._emitted)


def _body(given: Event | Body) -> Body:
    return given.body if isinstance(given, Event) else given
