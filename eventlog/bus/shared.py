"""A bus over a shared log: one follower hands the log round, one catcher reads it for whoever is behind.

Both are plans, carried out in the background by the port: on threads over an `EventLog`, as tasks over an
`AsyncEventLog`. Each runs while there is something to do, on a connection of its own.
"""

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from ..errors import BackendUnavailable, LogClosed
from ..log.reading import Tail, read_page
from ..model.events import Body, Event
from ..model.filters import EventFilter
from ..model.ids import ZERO, Cursor, EventId, parse_cursor
from ..model.log_values import Gap, ReadRequest
from ..model.pages import Page, PageRequest
from ..plan.effects import Park, Pause, Plan
from .bells import LoopBells
from .emitter import READY_S
from .fanout import BusStats, Fanout
from .mailbox import Mailbox, Stretch
from .port import Port
from .selection import Selection
from .subscription import Subscription

_FOLLOWER = "eventlog-bus-follow"
_CATCHER = "eventlog-bus-catch-up"
_PAGE = 500
_BLOCK_S = 1.0
_IDLE_S = 5.0
_CLOSE_S = 5.0
_PAUSE_S = 0.05


class LogSubscription(Subscription[EventId]):
    """A subscription to a log, and how far its reading of that has come."""

    def __init__(
        self,
        source: "SharedBus",
        selection: Selection,
        bound: int,
        on_gap: Callable[[Gap], None] | None,
        *,
        replay: bool,
    ) -> None:
        super().__init__(source, Mailbox(selection, bound, ZERO, behind=True, keeps=True), on_gap, started=False)
        self.selection = selection
        self.replays = replay  # until the first page was read: from the first event that is there
        self.here: EventId | None = None  # where the log ended when it began
        self.epoch: str | None = None
        self.failing_since: float | None = None

    def begin(self, here: EventId, epoch: str | None) -> None:
        """What follows `here` is handed round from now on. What a run's end is concerned, the log is asked first."""
        self.here, self.epoch = here, None if self.replays else epoch
        self.start(here, behind=self.replays or self.selection.run_id is not None)
        self.read_ahead()

    def take_page(self, stretch: Stretch[EventId], epoch: str) -> None:
        """See `Mailbox.read`."""
        self.epoch, self.replays, self.failing_since = epoch or None, False, None
        self.read(stretch)


class SharedBus:
    """The source of subscriptions of an `EventBus` over a log. The follower runs while somebody subscribes."""

    def __init__(self, port: Port, gate: threading.Event, max_queue_size: int, patience_s: float) -> None:
        self.port = port
        self.gate = gate  # shut while the follower does not stand in the log yet
        self.patience_s = patience_s
        self.finished = False
        self._bound = max_queue_size
        self._emitted = ZERO
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.bells = LoopBells()
        self.fanout: Fanout[LogSubscription] = Fanout()
        self.moved = threading.Condition(self.fanout.lock)
        self.follower: Follower | None = None
        self._catcher = Catcher(self, min(_PAGE, self._bound))

    def start_over(self) -> None:
        """In a forked child: without the parent's subscribers, and without its threads."""
        fanout = self.fanout
        self._begin()
        self.gate.set()
        self.port.start_over()
        for subscription in fanout:
            subscription.start_over()

    def check_open(self) -> None:
        """Raises `LogClosed`."""
        if self._closed:
            raise LogClosed("the bus was closed")

    def append(self, body: Body) -> Event:
        """Append, blocking; what is appended by then is handed round. Raises as the log."""
        if not self.gate.is_set() and not self.port.on_its_loop:
            self.gate.wait(READY_S)
        return self.port.append(body)

    def note(self, event: Event) -> None:
        """This event was emitted here: it is handed round before the bus closes; if it ends a run, in any case."""
        if self.port.core.backend.name == "disabled":
            return  # nothing of it will ever come
        with self.fanout.lock:
            self._emitted = max(self._emitted, event.position)
            if event.is_terminal and not event.duplicate:
                for subscription in self.fanout:
                    subscription.keep(event.position, event, surely=False)

    def subscribe(self, selection: Selection, on_gap: Callable[[Gap], None] | None, replay: bool) -> LogSubscription:
        """See `EventBus.subscribe`. Off event loops it returns when the follower is ready, after 5 s at most."""
        subscription = LogSubscription(self, selection, self._bound, on_gap, replay=replay)
        with self.fanout.lock:
            self.fanout.add(subscription)
            if self._closed:
                subscription.start(ZERO, behind=replay)
                subscription.finish()
                return subscription
            follower, starts = self.follower, self.follower is None
            if follower is None:
                follower = self.follower = Follower(self)
                self.gate.clear()
            elif follower.position is not None:
                subscription.begin(follower.position, follower.epoch)
        if starts:
            try:
                self.port.spawn(follower.follow, _FOLLOWER, follower.failed)
            except BaseException as error:
                follower.failed(error)
                raise
        if not (self.port.blocks and _on_a_loop()):
            self.gate.wait(READY_S)
        return subscription

    def start_all(self, here: EventId, epoch: str | None) -> None:
        """The follower stands at `here`. Called with the lock held."""
        for subscription in self.fanout:
            subscription.begin(here, epoch)

    def refill(self, subscription: LogSubscription) -> None:
        """See `Source.refill`: soon."""
        self._catcher.ask(subscription)

    def discard(self, subscription: LogSubscription) -> None:
        """See `Source.discard`."""
        self.fanout.discard(subscription)

    @property
    def history_size(self) -> int:
        """How many events are resident in the log."""
        return self.port.ask(self.port.core.backend.read(ReadRequest())).state.length

    @property
    def subscriber_count(self) -> int:
        """How many subscribe to this bus, in this process."""
        with self.fanout.lock:
            return len(self.fanout)

    def stats(self, emitted: int, refused: int) -> BusStats:
        """See `EventBus.stats`."""
        with self.fanout.lock:
            return self.fanout.stats(emitted, refused)

    def stop_taking(self) -> None:
        """Take nothing any more."""
        self._closed = True
        self.port.stop_taking()

    def close(self) -> None:
        """End the subscriptions when they have what was emitted here; waits for that, 5 s at most. Idempotent."""
        self._closed = True
        with self.moved:
            there = self.moved.wait_for(self._has_handed_round, _CLOSE_S)
            self.finished = True
            for subscription in self.fanout:
                if not there:
                    subscription.break_off()
                subscription.finish()
        self._catcher.hurry()
        self.port.end(_FOLLOWER)
        self.port.wait_ended()

    def _has_handed_round(self) -> bool:
        follower = self.follower
        return follower is None or (follower.position is not None and follower.position >= self._emitted)


class Follower:
    """Reads the log as it grows, and hands it round. Ends when nobody subscribes, or Redis was away for too long."""

    def __init__(self, bus: SharedBus) -> None:
        self.position: EventId | None = None
        self.epoch: str | None = None
        self._bus = bus

    def follow(self) -> Plan[None]:
        """Until it is no longer needed."""
        bus = self._bus
        tail = Tail(bus.port.core.backend, None, EventFilter(), patience_s=bus.patience_s)
        while True:
            items = yield from tail.step(_BLOCK_S)
            if tail.epoch is not None or tail.caught_up:
                self._hand_round(items, _position(tail.cursor), tail.epoch)
            with bus.fanout.lock:
                if bus.finished or all(subscription.ended for subscription in bus.fanout):
                    self._end()
                    return

    def _hand_round(self, items: list[Event | Gap], after: EventId, epoch: str | None) -> None:
        bus = self._bus
        woken: set[LogSubscription] = set()
        with bus.fanout.lock:
            before, self.position, self.epoch = self.position, after, epoch
            if before is None:
                bus.start_all(after, epoch)
                bus.gate.set()
            else:
                for item in items:
                    if isinstance(item, Gap):
                        # Each has missed what lies behind its own place; the log tells it what that is.
                        for subscription in bus.fanout:
                            subscription.break_off()
                    else:
                        bus.fanout.push(before, item.position, item, woken)
                        before = item.position
            bus.moved.notify_all()
        for subscription in woken:
            subscription.wake()

    def failed(self, error: BaseException) -> None:
        """Whoever subscribes is told."""
        bus = self._bus
        with bus.fanout.lock:
            for subscription in bus.fanout if not bus.finished else ():
                subscription.start(ZERO, behind=True)
                subscription.fail(error)
            self._end()

    def _end(self) -> None:
        if self._bus.follower is self:
            self._bus.follower = None
            self._bus.gate.set()
        self._bus.moved.notify_all()


class Catcher:
    """Reads the log for who is behind, a page at a time and in turn. Ends when nobody asked for a while."""

    def __init__(self, bus: SharedBus, page: int) -> None:
        self._bus = bus
        self._page = page
        self._lock = threading.Lock()
        self._asked: deque[weakref.ref[LogSubscription]] = deque()
        self._running = False
        self._idle_s = _IDLE_S
        self._wake: Callable[[], None] | None = None

    def ask(self, subscription: LogSubscription) -> None:
        """Read the next page for it soon."""
        with self._lock:
            self._asked.append(weakref.ref(subscription))
            running, self._running = self._running, True
            wake = self._wake
        if not running:
            try:
                self._bus.port.spawn(self.serve, _CATCHER, self.failed)
            except BaseException as error:
                self.failed(error)
                raise
        elif wake is not None:
            wake()

    def hurry(self) -> None:
        """End as soon as nobody asks."""
        with self._lock:
            self._idle_s = 0.0
            wake = self._wake
        if wake is not None:
            wake()

    def serve(self) -> Plan[None]:
        """Until nobody has asked for a while."""
        while True:
            subscription = self._next()
            if subscription is not None:
                yield from self._serve(subscription)
                continue
            yield Park(self._subscribe, self._idle_s)
            with self._lock:
                if not self._asked:
                    self._running = False
                    return

    def _next(self) -> LogSubscription | None:
        with self._lock:
            while self._asked:
                subscription = self._asked.popleft()()
                if subscription is not None and not subscription.ended:
                    return subscription
        return None

    def _subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._wake = wake
            asked = bool(self._asked)
        if asked:
            wake()
        return self._unsubscribe

    def _unsubscribe(self) -> None:
        with self._lock:
            self._wake = None

    def _serve(self, subscription: LogSubscription) -> Plan[None]:
        try:
            yield from self._read(subscription)
        except BackendUnavailable as error:
            now = time.monotonic()
            if subscription.failing_since is None:
                subscription.failing_since = now
            if now - subscription.failing_since >= self._bus.patience_s:
                subscription.fail(error)
            else:
                yield Pause(_PAUSE_S)
                with self._lock:
                    self._asked.append(weakref.ref(subscription))
        except Exception as error:
            subscription.fail(error)

    def _read(self, subscription: LogSubscription) -> Plan[None]:
        bus = self._bus
        with bus.fanout.lock:
            follower = bus.follower
            here = ZERO if follower is None or follower.position is None else follower.position
            upto = subscription.begin_reading(here)
            bus.fanout.resume(subscription)
        since = None if subscription.replays else Cursor(*upto)
        wanted = subscription.selection.to_read
        request = PageRequest.of(since, None, self._page, wanted, epoch=subscription.epoch)
        backend = bus.port.core.backend
        page = yield from read_page(backend, request)
        reached = _position(page.cursor)
        over = False
        if page.at_end and wanted.run_id is not None:
            run = yield from backend.run(wanted.run_id)
            over = run is not None and run.ended_at is not None and run.ended_at <= reached
        gap = _gone_since(subscription.here, page) if subscription.replays else page.gap
        if not page.events and gap is None and page.at_end and reached < here:
            # The log ends before what was handed round: it went back, and the follower is about to find out.
            yield Pause(_PAUSE_S)
        subscription.take_page(
            Stretch(gap, [(event.position, event) for event in page.events], reached, page.at_end, over), page.epoch
        )

    def failed(self, error: BaseException) -> None:
        """Whoever waits is told."""
        with self._lock:
            self._running = False
        while (subscription := self._next()) is not None:
            subscription.fail(error)


def _gone_since(here: EventId | None, page: Page) -> Gap | None:
    """What was gone of the log, of that which came since `here`, when its first page was read."""
    if here is None or page.state is None:
        return None
    first = page.state.base_offset
    if page.events:
        first = min(first, page.events[0].offset)
    return Gap(first - 1 - here.offset, here.offset + 1, first - 1, "trimmed") if first > here.offset + 1 else None


def _position(cursor: str) -> EventId:
    parsed = parse_cursor(cursor)
    return ZERO if parsed is None else EventId(parsed.ms or 0, parsed.offset)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
