"""A subscription as its reader sees it: an iterator, blocking or on asyncio, that waits at a mailbox."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from ..log.reading import warn_of_gap
from ..model.events import Event
from ..model.log_values import Gap
from .bells import LoopBells
from .mailbox import Mailbox, P, Stretch

_READY_S = 5.0
_BREATH = 128


class Source(Protocol):
    """Where a subscription comes from, and what it reads when it is behind."""

    bells: LoopBells

    def refill(self, subscription: Any) -> None:
        """Have `subscription.read` called with what the source holds; at once, or soon."""

    def discard(self, subscription: Any) -> None:
        """The subscription is over."""


class Tally:
    """What one subscription has done, kept by the bus beyond its end."""

    __slots__ = ("delivered", "missed", "overflows")

    def __init__(self) -> None:
        self.delivered = self.missed = self.overflows = 0


class Subscription(Generic[P]):
    """The events of a bus that pass the filters, in order, each once. Iterate with `for` or `async for`.

    It takes events from the call of `subscribe` on, whether or not somebody iterates. `for` blocks, `async for` waits
    on whichever event loop runs it; one reader at a time is meant, several share the events. What a slow reader can no
    longer be given goes to `on_gap`, in its place among the events, and is counted in `missed`.

    It ends after the end of the run it asked for, when the bus is closed, or with `close()`. Leaving the loop keeps it,
    so that one may go on with it; dropped, closed, or at the end of its `with` block it is gone from the bus. An
    iteration raises `BackendUnavailable` if the log could not be reached for longer than the patience, `FellBehind` if
    it was too slow even for the ends of runs.
    """

    def __init__(
        self, source: Source, mailbox: Mailbox[P], on_gap: Callable[[Gap], None] | None, *, started: bool
    ) -> None:
        self._source = source
        self._mailbox = mailbox
        self._on_gap = warn_of_gap if on_gap is None else on_gap
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sleepers = 0
        self._rung = False
        self._awaiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._started = threading.Event()
        self._asked = False
        self.tally = Tally()
        if started:
            self._started.set()

    @property
    def missed(self) -> int:
        """How many events it could no longer be given, of those that the reader has come to so far."""
        return self.tally.missed

    @property
    def behind(self) -> bool:
        """True while its reader has to be caught up: at first with history, later because it was slow."""
        return self._mailbox.behind

    @property
    def ended(self) -> bool:
        """True if nothing but what is queued already will be given."""
        return self._mailbox.over

    # What the bus calls, from any thread.

    def push(self, before: P, place: P, event: Event) -> bool:
        """See `Mailbox.push`. True if `wake` is to be called."""
        with self._lock:
            return self._mailbox.push(before, place, event) and self._is_awaited()

    def keep(self, place: P, event: Event, *, surely: bool) -> None:
        """See `Mailbox.keep`."""
        self._change(lambda: self._mailbox.keep(place, event, surely=surely))

    @property
    def rests(self) -> bool:
        """See `Mailbox.rests`."""
        return self._mailbox.rests

    def begin_reading(self, here: P) -> P:
        """The place behind which to read; see `Mailbox.begin_reading`."""
        with self._lock:
            self._mailbox.begin_reading(here)
            return self._mailbox.upto

    def read(self, stretch: Stretch[P]) -> None:
        """See `Mailbox.read`."""

        def read() -> None:
            self._asked = False
            self._mailbox.read(stretch)

        self._change(read)

    def start(self, here: P, *, behind: bool) -> None:
        """What follows `here` is handed round from now on."""

        def start() -> None:
            if not self._started.is_set():
                self._mailbox.upto = here
                self._mailbox.behind = behind
                self._started.set()

        self._change(start)

    def read_ahead(self) -> None:
        """Have the first of what is there queued at once, so that a reader who comes soon misses none of it."""
        with self._lock:
            if not self._must_ask():
                return
            self._asked = True
        self._source.refill(self)

    def _must_ask(self) -> bool:
        return self._mailbox.behind and not self._mailbox.over and self._started.is_set() and not self._asked

    def start_over(self) -> None:
        """End in a forked child: it is the parent's, and so are those who might hold the lock."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sleepers = 0
        self._awaiting = []
        self._mailbox.drop()

    def break_off(self) -> None:
        """See `Mailbox.break_off`."""
        self._change(self._mailbox.break_off)

    def finish(self) -> None:
        """The bus is closed: what is queued, and what the source has, is still given."""
        self._change(self._mailbox.close)

    def fail(self, error: BaseException) -> None:
        """End with `error`, behind what is queued."""
        self._change(lambda: self._mailbox.fail(error))

    def _change(self, change: Callable[[], object]) -> None:
        with self._lock:
            change()
            self.tally.overflows = self._mailbox.overflows
        self.wake()

    def wake(self) -> None:
        """Let readers look again."""
        with self._lock:
            self._rung = True
            if self._sleepers:
                self._changed.notify_all()
            loops = {loop for loop, _ in self._awaiting}
        for loop in loops:
            self._source.bells.ring(loop, weakref.ref(self))

    def wake_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the readers of this loop look again; called on it."""
        with self._lock:
            waiting = [future for at, future in self._awaiting if at is loop]
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _is_awaited(self) -> bool:
        return not self._rung and bool(self._sleepers or self._awaiting)

    # What readers call.

    def wait_started(self, timeout_s: float = _READY_S) -> None:
        """Wait until it stands at a place in the source, at most so long."""
        self._started.wait(timeout_s)

    def _take(self) -> Event | None:
        """The next event, None if there is none yet. Raises `_Over` at the end, and what the source failed with."""
        while True:
            refill = False
            with self._lock:
                mailbox = self._mailbox
                if mailbox.queue:
                    item = mailbox.queue.popleft()
                    self._count(item)
                elif mailbox.over:
                    if mailbox.error is not None:
                        raise mailbox.error
                    raise _Over
                elif self._must_ask():
                    item, refill, self._asked = None, True, True
                else:
                    return None
            if refill:
                self._source.refill(self)
            elif isinstance(item, Event):
                return item.unshared()
            elif item is not None:
                self._on_gap(item)

    def _count(self, item: Event | Gap) -> None:
        if isinstance(item, Gap):
            self.tally.missed += item.missed
        else:
            self.tally.delivered += 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            while True:
                event = self._take()
                if event is not None:
                    return event
                with self._changed:
                    self._sleepers += 1
                    try:
                        while not self._may_go_on():
                            self._rung = False
                            self._changed.wait()
                    finally:
                        self._sleepers -= 1
        except _Over:
            self.close()
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self.tally.delivered % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)  # a long queue is no reason to let other tasks wait
        try:
            while True:
                event = self._take()
                if event is not None:
                    return event
                await self._woken()
        except _Over:
            self.close()
            raise StopAsyncIteration from None

    async def _woken(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = (loop, loop.create_future())
        with self._lock:
            if self._may_go_on():
                return
            self._rung = False
            self._awaiting.append(waiting)
        try:
            await waiting[1]
        finally:
            with self._lock:
                self._awaiting.remove(waiting)

    def _may_go_on(self) -> bool:
        mailbox = self._mailbox
        return bool(mailbox.queue) or mailbox.over or self._must_ask()

    def close(self) -> None:
        """Give nothing any more, from any thread; whoever waits goes on to the end. Idempotent."""
        self._change(self._mailbox.drop)
        self._started.set()
        self._source.discard(self)

    async def aclose(self) -> None:
        """`close`, as asynchronous iterators have it."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """From here on nothing is missed, whichever process it comes from."""
        if not self._started.is_set():
            await asyncio.to_thread(self.wait_started)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Over(Exception):
    """Nothing follows."""
