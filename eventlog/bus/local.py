"""A bus within this process: events are numbered, kept and published under one lock."""

from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Unpack

from ..errors import LogClosed
from ..model.events import Body, Event
from ..model.filters import EventFilter, Filters
from ..model.ids import EventId
from ..model.log_values import Gap
from ..plan.threads import Attendant
from .fanout import Fanout
from .history import History
from .mailbox import Backlog, Mailbox
from .selection import Selection
from .subscription import Subscription, Waiter, waking

_KNOWN_RUNS = 10_000


class LocalBus(Fanout[Subscription]):
    """The bus of an `EventBus` without a log. A subscription that is behind reads the history.

    The position of an event is the number of its emission, whatever id its producer gave it.
    """

    def __init__(self, max_queue_size: int, max_history: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self.history = History(max_history)
        self._bound = max_queue_size
        self._numbers = _Numbers(clock)
        self._closed = False

    def _without_subscriptions(self) -> None:
        super()._without_subscriptions()
        self._late: deque[tuple[Event | Body, Future[Event]]] = deque()
        self._attendant = Attendant(self._emit_late, lambda: not self._late, "eventlog-bus-late")

    @property
    def must_not_block(self) -> bool:
        """True in a signal handler or finalizer that interrupts this bus in the middle of something."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def emit_soon(self, given: Event | Body) -> "Future[Event]":
        """Publish it when what was interrupted is done: before what is emitted next, or by a thread."""
        future: Future[Event] = Future()
        self._late.append((given, future))
        self._attendant.call()
        return future

    def _emit_late(self) -> None:
        with self.lock:
            while self._late:
                given, future = self._late.popleft()
                try:
                    future.set_result(self._emit(given))
                except Exception as error:
                    future.set_exception(error)

    def emit(self, given: Event | Body) -> Event:
        """Keep the event and publish it; it is queued for everybody when this returns. Raises `LogClosed`."""
        if self._late:
            self._emit_late()
        return self._emit(given)

    def _emit(self, given: Event | Body) -> Event:
        return waking(partial(self._publish, given)).unshared()

    def _publish(self, given: Event | Body, woken: list[Waiter]) -> Event:
        with self.lock:
            if self._closed:
                raise LogClosed("the bus was closed")
            position = EventId(0, self.history.last.offset + 1)
            event = self._numbers.numbered(given, position)
            self.publish(position, event, woken)
            return event

    def subscribe(self, selection: Selection, on_gap: Callable[[Gap], None] | None, replay: bool) -> Subscription:
        """See `EventBus.subscribe`."""
        with self.lock:
            history = self.history
            position = history.start if replay else history.last
            mailbox = Mailbox(selection, self._bound, position, behind=position < history.last)
            end = self._numbers.end_of(selection.run_id)
            if end is not None and (not replay or end[0] <= position):
                mailbox.end_with(end[1] if replay else None)
            subscription = Subscription(self, mailbox, on_gap)
            if self._closed:
                mailbox.close()
            else:
                self.add(subscription)
            # Queued at once, so that the history may go on without it.
            self._read(subscription)
        return subscription

    def refill(self, subscription: Subscription) -> None:
        """See `Fanout.refill`: at once."""
        with self.lock:
            self._read(subscription)
            subscription.reading = False

    def _read(self, subscription: Subscription) -> None:
        mailbox, start = subscription.mailbox, self.history.start
        if mailbox.behind and mailbox.position < start:
            first, last = mailbox.position.offset + 1, start.offset
            self.read(subscription, Backlog(Gap(last + 1 - first, first, last, "trimmed"), [], start))
        if mailbox.behind:
            self.read_history(subscription)

    def events(self, **filters: Unpack[Filters]) -> list[Event]:
        """What is kept and passes the filters, in order."""
        matches = EventFilter.of(**filters).matcher()
        with self.lock:
            return [event.unshared() for _, event in self.history if matches(event)]

    async def aevents(self, **filters: Unpack[Filters]) -> list[Event]:
        """`events` for event loops."""
        return self.events(**filters)

    @property
    def history_size(self) -> int:
        """How many events are kept."""
        return len(self.history)

    def close(self) -> None:
        """Take nothing any more. Subscribers end when they have been given what there is. Idempotent."""
        self._emit_late()
        self._closed = True
        waking(self._end)

    def _end(self, woken: list[Waiter]) -> None:
        with self.lock:
            for subscription in self:
                subscription.mailbox.close()
                subscription.release(woken)


class _Run:
    """What is known of a run: the last seq of each lane, and its first terminal event."""

    __slots__ = ("end", "lanes")

    def __init__(self) -> None:
        self.lanes: dict[str, int] = {}
        self.end: tuple[EventId, Event] | None = None


class _Numbers:
    """Ids, and the seqs and ends of the last 10,000 runs: they are known for longer than their events."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ms = 0
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def numbered(self, given: Event | Body, position: EventId) -> Event:
        """An event as it is; of a body one whose offset is the number of its emission."""
        run = None if given.run_id is None else self._run(given.run_id)
        if isinstance(given, Event):
            event = given.unshared()
            if run is not None and event.lane_id is not None and event.seq is not None:
                run.lanes[event.lane_id] = max(event.seq, run.lanes.get(event.lane_id, 0))
        else:
            self._ms = max(int(self._clock() * 1000), self._ms)
            seq = None
            if run is not None and given.lane_id is not None:
                seq = run.lanes[given.lane_id] = run.lanes.get(given.lane_id, 0) + 1
            event = Event(self._ms, position.offset, given, seq)
        if run is not None and run.end is None and event.is_terminal:
            run.end = (position, event)
        return event

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run()
            if len(self._runs) > _KNOWN_RUNS:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run_id)
        return run

    def end_of(self, run_id: str | None) -> tuple[EventId, Event] | None:
        """The position of the run's first terminal event, and that event, if the run is known and has ended."""
        run = None if run_id is None else self._runs.get(run_id)
        return None if run is None else run.end
