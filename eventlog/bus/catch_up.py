"""Catching up with a log: pages of it are read for subscriptions that are behind, until they have read to its end."""

import time
import weakref
from collections import deque
from collections.abc import Callable

from ..errors import BackendUnavailable
from ..log.reading import read_page, run_has_ended
from ..model.ids import ZERO, Cursor, EventId, parse_cursor
from ..model.log_values import Gap
from ..model.pages import Page, PageRequest
from ..plan.effects import Park, Pause, Plan
from .fanout import Fanout
from .mailbox import Backlog, Mailbox
from .port import Port
from .selection import Selection
from .subscription import Source, Subscription, Waiter, wake

_CATCH_UP = "eventlog-bus-catch-up"
_PAGE = 500
_IDLE_S = 5.0
_PAUSE_S = 0.05


class LogSubscription(Subscription):
    """A subscription to a log, and how its reading of that is to begin or to go on."""

    def __init__(
        self,
        source: Source,
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


class CatchUp:
    """Reads pages of the log for subscriptions that are behind, in turn. Ends when nothing was asked for in a while."""

    def __init__(self, bus: "Fanout[LogSubscription]", port: Port, page: int, patience_s: float) -> None:
        self._bus = bus
        self._port = port
        self._page = min(page, _PAGE)
        self._patience_s = patience_s
        self._asked: deque[weakref.ref[LogSubscription]] = deque()
        self._running = False
        self._ends = False
        self._hurry: Callable[[], None] | None = None

    def ask(self, subscription: LogSubscription) -> None:
        """Read the next page for it soon."""
        with self._bus.lock:
            self._asked.append(weakref.ref(subscription))
            running, self._running = self._running, True
            hurry = self._hurry
        if not running:
            try:
                self._port.spawn(self.run, _CATCH_UP, self.failed)
            except BaseException as error:
                self.failed(error)
                raise
        elif hurry is not None:
            hurry()

    def end(self) -> None:
        """Do not wait for more to be asked for."""
        with self._bus.lock:
            self._ends = True
            hurry = self._hurry
        if hurry is not None:
            hurry()

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

    def _subscribe(self, hurry: Callable[[], None]) -> Callable[[], None]:
        with self._bus.lock:
            self._hurry = hurry
            at_once = self._asked or self._ends
        if at_once:
            hurry()

        def unsubscribe() -> None:
            self._hurry = None

        return unsubscribe

    def _serve(self, subscription: LogSubscription) -> Plan[None]:
        try:
            yield from self._read(subscription)
        except BackendUnavailable as error:
            now = time.monotonic()
            if subscription.failing_since is None:
                subscription.failing_since = now
            if now - subscription.failing_since >= self._patience_s:
                self._fail(subscription, error)
            else:
                yield Pause(_PAUSE_S)
                self._asked.append(weakref.ref(subscription))
        except Exception as error:
            self._fail(subscription, error)

    def _read(self, subscription: LogSubscription) -> Plan[None]:
        bus, mailbox, backend = self._bus, subscription.mailbox, self._port.core.backend
        with bus.lock:
            history, closing = bus.history, mailbox.closing
            since = None if subscription.from_start else Cursor(*mailbox.position)
        wanted = subscription.selection.to_read
        page = yield from read_page(backend, PageRequest.of(since, None, self._page, wanted, epoch=subscription.epoch))
        reached = position_of(page.cursor)
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


def position_of(cursor: str) -> EventId:
    """The position of a cursor that a page or a tail has come to."""
    parsed = parse_cursor(cursor)
    return ZERO if parsed is None else EventId(parsed.ms or 0, parsed.offset)
