"""A bus over a shared log: one follower reads the log and publishes it, a second plan reads pages for who is behind.

Both run in the background, carried out by the port: on threads over an `EventLog`, as tasks over an `AsyncEventLog`.
Each runs while there is something to do, on a connection of its own.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from ..errors import BackendUnavailable, LogClosed
from ..log.reading import Tail, read_page, run_has_ended
from ..model.events import Body, Event
from ..model.filters import EventFilter
from ..model.ids import ZERO, Cursor, EventId, parse_cursor
from ..model.log_values import Gap
from ..model.pages import Page, PageRequest
from ..plan.effects import Park, Pause, Plan
from .fanout import Fanout
from .history import History
from .mailbox import Backlog, Mailbox
from .port import Port
from .selection import Selection
from .subscription import READY_S, Subscription, Waiter, wake

_FOLLOWER = "eventlog-bus-follow"
_CATCH_UP = "eventlog-bus-catch-up"
_PAGE = 500
_BLOCK_S = 1.0
_IDLE_S = 5.0
_CLOSE_S = 5.0
_PAUSE_S = 0.05


class LogSubscription(Subscription):
    """A subscription to a log, and how its reading of that is to begin or to go on."""

    def __init__(
        self,
        source: "SharedBus",
        selection: Selection,
        bound: int,
        on_gap: Callable[[Gap], None] | None,
        *,
        replay: bool,
    ) -> None:
        super().__init__(source, Mailbox(selection, bound, ZERO, behind=True), on_gap)
        self.selection = selection
        self.from_start = replay  # until the first page was read: from the first event that is there
        self.here: EventId | None = None  # where the log ended when it began
        self.epoch: str | None = None
        self.reads_log = True  # the log has to be read to its end before what is published can be taken
        self.failing_since: float | None = None
        self.reading = True  # until it has begun

    def begin(self, here: EventId, epoch: str | None) -> bool:
        """Take what follows `here`. True if the log has to be read first: for a replay, or as the run may be over."""
        self.here = self.mailbox.position = here
        self.epoch = None if self.from_start else epoch
        self.mailbox.behind = self.reads_log = self.from_start or self.selection.run_id is not None
        self.reading = self.mailbox.behind
        return self.mailbox.behind


class SharedBus(Fanout[LogSubscription]):
    """The bus of an `EventBus` over a log. The follower runs while somebody subscribes.

    `ready` is not set from the first subscription until the follower stands in the log; emissions wait for it.
    """

    def __init__(self, port: Port, ready: threading.Event, max_queue_size: int, patience_s: float) -> None:
        super().__init__()
        self.ready = ready
        self.port = port
        self.patience_s = patience_s
        self.finished = False  # all that was emitted here is published
        self._bound = max_queue_size
        self._emitted = ZERO
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.history = History(self._bound)
        self.moved = threading.Condition(self.lock)
        self.follower: Follower | None = None
        self._catch_up = CatchUp(self, min(_PAGE, self._bound))

    def start_over(self) -> None:
        """In a forked child: without the parent's subscriptions, and without its threads."""
        super().start_over()
        self._begin()
        self.port.start_over()

    def append(self, body: Body) -> Event:
        """Append, blocking; what is appended by then is published. Raises as the log."""
        if not self.ready.is_set() and not self.port.on_its_loop:
            self.ready.wait(READY_S)
        return self.port.ask(self.port.core.append_body(body))

    def emitted(self, event: Event) -> None:
        """This event was emitted here: it is published before the bus closes; if it ends a run, in any case."""
        if self.port.core.backend.name == "disabled":
            return  # nothing of it will ever come
        woken: list[Waiter] = []
        with self.lock:
            self._emitted = max(self._emitted, event.position)
            if not event.duplicate:
                self.keep(event.position, event, woken, surely=False)
        wake(woken)

    def subscribe(self, selection: Selection, on_gap: Callable[[Gap], None] | None, replay: bool) -> LogSubscription:
        """See `EventBus.subscribe`. Off event loops it returns when the follower is ready, after 5 s at most."""
        subscription = LogSubscription(self, selection, self._bound, on_gap, replay=replay)
        reads = starts = False
        with self.lock:
            follower = self.follower
            if self._closed:
                subscription.mailbox.behind, subscription.reading = replay, False
                subscription.mailbox.close()
                return subscription
            self.add(subscription)
            if follower is None:
                starts, follower = True, Follower(self)
                self.follower = follower
                self.ready.clear()
            elif follower.position is not None:
                reads = subscription.begin(follower.position, follower.epoch)
        if starts:
            try:
                self.port.spawn(follower.run, _FOLLOWER, self.follower_failed)
            except BaseException as error:
                self.follower_failed(error)
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

    def advance(self, items: list[Event | Gap], after: EventId, epoch: str | None) -> None:
        """The follower has read these items of the log, and stands at `after` now."""
        woken: list[Waiter] = []
        begun: list[LogSubscription] = []
        with self.lock:
            follower = self.follower
            assert follower is not None
            starts = follower.position is None
            follower.position, follower.epoch = after, epoch
            if starts:
                self.history = History(self._bound, after)
                begun = [subscription for subscription in self if subscription.begin(after, epoch)]
                self.ready.set()
            else:
                self._publish_all(items, after, woken)
            self.moved.notify_all()
        wake(woken)
        for subscription in begun:
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
        """Something is missing between what was published and `after`: what, the log tells each subscription."""
        for kept in self.history:
            self.keep(*kept, woken)
        self.history = History(self._bound, after)
        for subscription in self:
            subscription.mailbox.behind = subscription.reads_log = True
            subscription.release(woken)

    def follower_failed(self, error: BaseException) -> None:
        """Nothing is published any more: subscriptions fail, unless they ended in good order."""
        woken: list[Waiter] = []
        with self.lock:
            for subscription in self if not self.finished else ():
                subscription.mailbox.fail(error)
                subscription.release(woken)
            self.end_follower()
        wake(woken)

    def end_follower(self) -> None:
        """Called with the lock held; the next subscription starts another."""
        self.follower = None
        self.ready.set()
        self.moved.notify_all()

    def stop_taking(self) -> None:
        """Take nothing any more."""
        self._closed = True
        self.port.stop_taking()

    def close(self) -> None:
        """End the subscriptions when they have what was emitted here; waits for that, 5 s at most. Idempotent."""
        self._closed = True
        woken: list[Waiter] = []
        with self.moved:
            published = self.moved.wait_for(self._published_all, _CLOSE_S)
            self.finished = True
            if not published:
                self._break_off(self.history.last, woken)
            for subscription in self:
                subscription.mailbox.close()
                if subscription.here is None:
                    subscription.mailbox.fail(LogClosed("the bus was closed before the log could be read"))
                subscription.release(woken)
        wake(woken)
        self._catch_up.end()
        self.port.end(_FOLLOWER)

    def _published_all(self) -> bool:
        follower = self.follower
        return follower is None or (follower.position is not None and follower.position >= self._emitted)


class Follower:
    """Reads the log as it grows. Ends when nobody subscribes, or Redis was away for too long."""

    def __init__(self, bus: SharedBus) -> None:
        self.position: EventId | None = None
        self.epoch: str | None = None
        self._bus = bus

    def run(self) -> Plan[None]:
        """Until it is no longer needed."""
        bus = self._bus
        tail = Tail(bus.port.core.backend, None, EventFilter(), patience_s=bus.patience_s)
        while True:
            items = yield from tail.step(_BLOCK_S)
            if tail.epoch is not None or tail.caught_up:
                bus.advance(items, _position(tail.cursor), tail.epoch)
            with bus.lock:
                if bus.finished or all(subscription.ended for subscription in bus):
                    bus.end_follower()
                    return


class CatchUp:
    """Reads pages of the log for subscriptions that are behind, in turn. Ends when nobody asked for a while."""

    def __init__(self, bus: SharedBus, page: int) -> None:
        self._bus = bus
        self._page = page
        self._asked: deque[weakref.ref[LogSubscription]] = deque()
        self._running = False
        self._ends = False
        self._wake: Callable[[], None] | None = None

    def ask(self, subscription: LogSubscription) -> None:
        """Read the next page for it soon."""
        with self._bus.lock:
            self._asked.append(weakref.ref(subscription))
            running, self._running = self._running, True
            wake = self._wake
        if not running:
            try:
                self._bus.port.spawn(self.run, _CATCH_UP, self.failed)
            except BaseException as error:
                self.failed(error)
                raise
        elif wake is not None:
            wake()

    def end(self) -> None:
        """Do not wait for more to be asked for."""
        with self._bus.lock:
            self._ends = True
            wake = self._wake
        if wake is not None:
            wake()

    def run(self) -> Plan[None]:
        """Until nothing was asked for in a while."""
        while True:
            while self._asked:
                subscription = self._asked[0]()
                if subscription is not None and not subscription.ended:
                    yield from self._serve(subscription)
                del subscription
                self._asked.popleft()
            yield Park(self._subscribe, _IDLE_S)
            with self._bus.lock:
                if not self._asked:
                    self._running = False
                    return

    def _subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        with self._bus.lock:
            self._wake = wake
            at_once = self._asked or self._ends
        if at_once:
            wake()

        def unsubscribe() -> None:
            self._wake = None

        return unsubscribe

    def _serve(self, subscription: LogSubscription) -> Plan[None]:
        try:
            yield from self._read(subscription)
        except BackendUnavailable as error:
            now = time.monotonic()
            if subscription.failing_since is None:
                subscription.failing_since = now
            if now - subscription.failing_since >= self._bus.patience_s:
                self._fail(subscription, error)
            else:
                yield Pause(_PAUSE_S)
                self._asked.append(weakref.ref(subscription))
        except Exception as error:
            self._fail(subscription, error)

    def _read(self, subscription: LogSubscription) -> Plan[None]:
        bus, mailbox, backend = self._bus, subscription.mailbox, self._bus.port.core.backend
        with bus.lock:
            history, closing = bus.history, mailbox.closing
            since = None if subscription.from_start else Cursor(*mailbox.position)
        wanted = subscription.selection.to_read
        page = yield from read_page(backend, PageRequest.of(since, None, self._page, wanted, epoch=subscription.epoch))
        reached = _position(page.cursor)
        final = page.at_end and closing
        if page.at_end and wanted.run_id is not None:
            # Its end may be gone from the log, or be one that this subscription passed over.
            final = final or (yield from run_has_ended(backend, wanted.run_id, reached.offset))
        gap = _gone_since(subscription.here, page) if subscription.from_start else page.gap
        events = [(event.position, event) for event in page.events]
        woken: list[Waiter] = []
        with bus.lock:
            subscription.epoch, subscription.from_start, subscription.failing_since = page.epoch or None, False, None
            bus.read(subscription, Backlog(gap, events, reached, final=final))
            if page.at_end and gap is None and bus.history is history:
                subscription.reads_log = False
                bus.read_history(subscription)
            subscription.reading = False
            subscription.release(woken)
            stuck = subscription.must_read and not events
        wake(woken)
        if stuck:
            # The log ends before what was published: it went back, and the follower is about to find out.
            yield Pause(_PAUSE_S)

    def _fail(self, subscription: LogSubscription, error: BaseException) -> None:
        woken: list[Waiter] = []
        with self._bus.lock:
            subscription.mailbox.fail(error)
            subscription.release(woken)
        wake(woken)

    def failed(self, error: BaseException) -> None:
        """Nothing is read any more: subscriptions that wait for it fail."""
        with self._bus.lock:
            self._running = False
            asked = list(self._asked)
            self._asked.clear()
        for reference in asked:
            subscription = reference()
            if subscription is not None:
                self._fail(subscription, error)


def _gone_since(here: EventId | None, page: Page) -> Gap | None:
    """What is gone of that which came since `here`, when the log was read from its first event on."""
    if here is None or page.state is None:
        return None
    first = page.state.base_offset
    if page.events:
        first = min(first, page.events[0].offset)
    return Gap(first - 1 - here.offset, here.offset + 1, first - 1, "trimmed") if first > here.offset + 1 else None


def _position(cursor: str) -> EventId:
    parsed = parse_cursor(cursor)
    return ZERO if parsed is None else EventId(parsed.ms or 0, parsed.offset)
