"""A subscription as its reader sees it: an iterator, blocking or on asyncio, that waits at a mailbox."""

import asyncio
import contextlib
import threading
from _thread import LockType
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from ..log.reading import warn_of_gap
from ..model.events import Event
from ..model.log_values import Gap
from ..plan.forks import OfOneProcess
from ..plan.threads import Flag, free
from .mailbox import Mailbox

T = TypeVar("T")

READY_S = 5.0
_TURN = 128

Waiter = LockType | asyncio.Future[None]
"""What a reader waits at: a lock that is held until it may go on, or a future of its event loop."""


class Source(Protocol):
    """The bus that a subscription belongs to."""

    lock: threading.RLock
    ready: Flag

    def refill(self, subscription: Any) -> None: ...

    def discard(self, subscription: Any) -> None: ...


class Subscription(OfOneProcess):
    """The events of a bus that pass the filters, in order, each once. Iterate with `for` or `async for`.

    It takes events from the call of `subscribe` on, whether or not somebody iterates. `for` blocks, `async for` waits
    on whichever event loop runs it; one reader at a time is meant, several share the events. What a slow reader can no
    longer be given goes to `on_gap`, in its place among the events, and is counted in `missed`.

    It ends after the end of the run it asked for, when the bus is closed, or with `close()`. Leaving the loop keeps it,
    so that one may go on with it; dropped, closed, or at the end of its `with` block it is gone from the bus. An
    iteration raises `BackendUnavailable` if the log could not be reached for longer than the patience, `FellBehind` if
    it was too slow even for the ends of runs.
    """

    def __init__(self, source: Source, mailbox: Mailbox, on_gap: Callable[[Gap], None] | None) -> None:
        self._source = source
        self._on_gap = warn_of_gap if on_gap is None else on_gap
        # For the bus, which changes them with its lock held.
        self.mailbox = mailbox
        self.waiters: list[Waiter] = []
        self.reading = False  # the source is being read for it

    @property
    def missed(self) -> int:
        """How many events it could no longer be given, of those that the reader has come to so far."""
        return self.mailbox.missed

    @property
    def behind(self) -> bool:
        """True while its reader has to be caught up: at first with history, later because it was slow."""
        return self.mailbox.behind

    @property
    def ended(self) -> bool:
        """True if nothing but what is queued already will be given."""
        return self.mailbox.over

    def release(self, woken: list[Waiter]) -> None:
        """Add the readers that wait here to `woken`; the bus does so with its lock held."""
        if self.waiters:
            woken += self.waiters
            self.waiters.clear()

    @property
    def must_read(self) -> bool:
        """True if nothing will come unless the source is read for it."""
        mailbox = self.mailbox
        return mailbox.behind and not (mailbox.queue or mailbox.over or self.reading)

    def _take(self) -> Event | None:
        """The next event, None if there is none yet. Raises `_Over` at the end, and what the source failed with."""
        while True:
            with self._source.lock:
                mailbox = self.mailbox
                item = mailbox.take()
                if item is None:
                    if mailbox.error is not None:
                        raise mailbox.error
                    if mailbox.over:
                        raise _Over
                    if not self.must_read:
                        return None
                    self.reading = True
            if item is None:
                self._source.refill(self)
            elif isinstance(item, Event):
                return item.unshared()
            else:
                self._on_gap(item)

    def _must_wait(self, waiter: Waiter) -> bool:
        with self._source.lock:
            mailbox = self.mailbox
            if mailbox.queue or mailbox.over or self.must_read:
                return False
            self.waiters.append(waiter)
            return True

    def _stop_waiting(self, waiter: Waiter) -> None:
        with self._source.lock, contextlib.suppress(ValueError):
            self.waiters.remove(waiter)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            while True:
                event = self._take()
                if event is not None:
                    return event
                waiter = threading.Lock()
                waiter.acquire()
                if self._must_wait(waiter):
                    try:
                        waiter.acquire()
                    except BaseException:
                        self._stop_waiting(waiter)
                        raise
        except _Over:
            self.close()
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self.mailbox.delivered % _TURN == _TURN - 1:
            await asyncio.sleep(0)  # a long queue is no reason to let other tasks wait
        try:
            while True:
                event = self._take()
                if event is not None:
                    return event
                waiter = asyncio.get_running_loop().create_future()
                if self._must_wait(waiter):
                    try:
                        await waiter
                    except BaseException:
                        self._stop_waiting(waiter)
                        raise
        except _Over:
            self.close()
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Give nothing any more, from any thread; readers that wait go on to the end. Idempotent."""
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
        ready = self._source.ready
        if not ready.is_set():
            await asyncio.to_thread(ready.wait, READY_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def waking(act: Callable[[list[Waiter]], T]) -> T:
    """Do something that collects readers, and let these go on: if it is interrupted, nobody else will."""
    woken: list[Waiter] = []
    try:
        result = act(woken)
        wake(woken)
        return result
    except BaseException:
        wake(woken)
        raise


def wake(woken: list[Waiter]) -> None:
    """Let readers go on. A call into another thread's loop costs a system call, so it is one for all readers there."""
    if not woken:
        return
    futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in woken:
        if isinstance(waiter, asyncio.Future):
            futures.setdefault(waiter.get_loop(), []).append(waiter)
        else:
            free(waiter)
    for loop, there in futures.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits there any more
            loop.call_soon_threadsafe(_resolve, there)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class _Over(Exception):
    """Nothing follows."""
